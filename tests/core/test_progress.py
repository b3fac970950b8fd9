"""Long work is visible where somebody looks, and nowhere else."""

import io
from contextlib import redirect_stderr
from types import SimpleNamespace

import pytest

from semback import Reply, progress
from semback.usage import Usage


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def work(monkeypatch):
    """Three examples, of which each takes some seconds."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(time=lambda: now[0]))

    def work(screen, *seconds):
        usage = Usage()
        with redirect_stderr(screen), progress.progress("step 1 of 4", 3, usage) as step:
            for number in range(3):
                now[0] += seconds[number]
                reply = Reply("", "stop", {"prompt_tokens": 5}, "m", number == 0, f"{number:064x}")
                usage.add("forward", "gpt-4o-mini-2024-07-18", reply)
                step(number > 0)
        return screen.getvalue()

    return work


def test_a_terminal_shows_examples_accuracy_and_calls_on_a_line_that_goes_when_all_is_done(work):
    *lines, empty, end = work(Screen(), 2, 2, 2).split("\r")[1:]
    assert [line.count("\n") for line in lines] == [0, 0]
    assert lines[0].startswith("step 1 of 4:  67%|") and "| 2/3 [00:04<00:02" in lines[0]
    assert lines[0].rstrip().endswith("50.0% correct; calls of the run: 1 new, 1 recorded]")
    assert lines[1].rstrip().endswith("66.7% correct; calls of the run: 2 new, 1 recorded]")
    assert not empty.strip() and not end


def test_quick_work_shows_nothing_though_the_call_of_the_first_example_imports_much(work):
    assert work(Screen(), 60, 0.5, 0.4) == ""


@pytest.mark.parametrize("off", ["pipe", "variable"])
def test_nothing_is_written_where_nobody_looks(work, monkeypatch, off):
    if off == "variable":
        monkeypatch.setenv("SEMBACK_PROGRESS", "off")
    assert work(io.StringIO() if off == "pipe" else Screen(), 2, 2, 2) == ""


def test_a_script_that_has_loaded_ipykernel_is_no_notebook(work, capsys):
    import ipykernel.zmqshell  # noqa: F401

    assert work(Screen(), 2, 2, 2) and not capsys.readouterr().out


def test_a_notebook_shows_one_output_which_is_empty_at_the_end(work, monkeypatch):
    outputs = []

    def display(data, **_):
        outputs.append([data["text/plain"]])
        return SimpleNamespace(update=lambda data, raw: outputs[-1].append(data["text/plain"]))

    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", display)
    assert work(Screen(), 0, 0, 0) == "" and not outputs
    assert work(Screen(), 2, 2, 2) == "" and len(outputs) == 1
    assert "| 3/3 [" in "".join(outputs[0]) and not outputs[0][-1]
