"""Long work is visible where somebody looks, and nowhere else."""

import io
from contextlib import redirect_stderr

import pytest

from semback import Reply, progress
from semback.progress import Progress
from semback.usage import Usage


class Screen(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 0


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 120 columns, on which every update is shown at once."""
    monkeypatch.setattr(
        progress.os, "get_terminal_size", lambda fileno: progress.os.terminal_size((120, 40))
    )
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "EVERY", 0)
    return Screen()


def work(screen, total=3, model="gpt-4o-mini-2024-07-18", usage=None):
    usage = usage or Usage()
    start = len(usage.keys)
    with redirect_stderr(screen):
        bar = Progress("step 1 of 4", total, usage)
        for number in range(total):
            usage.add(
                "forward",
                model,
                Reply(
                    "", "stop", {"prompt_tokens": 10**6}, "m", number == 0, f"{start + number:064x}"
                ),
            )
            bar.step(number > 0)


def test_a_terminal_shows_examples_accuracy_calls_and_time_left_on_one_line(screen):
    work(screen)
    *lines, last = screen.getvalue().split("\r")[1:]
    assert lines[1].startswith(
        "step 1 of 4: 2 of 3 examples, 50.0% correct; 1 live and 1 recorded calls, about 0 s left"
    )
    assert last.startswith(
        "step 1 of 4: 3 of 3 examples, 66.7% correct; 2 live and 1 recorded calls "
    ) and last.endswith("\n")
    assert all(len(line.rstrip("\n")) == 119 for line in (*lines, last))


def test_a_later_evaluation_of_a_run_shows_its_own_calls(screen):
    usage = Usage()
    work(screen, usage=usage)
    again = Screen()
    work(again, usage=usage)
    assert again.getvalue() == screen.getvalue()


def test_the_last_line_says_that_all_is_done_however_soon_it_follows(screen, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 60)
    work(screen)
    first, last = screen.getvalue().split("\r")[1:]
    assert first.startswith("step 1 of 4: 1 of 3 examples") and last.startswith(
        "step 1 of 4: 3 of 3 examples, 66.7% correct;"
    )


def test_quick_work_shows_nothing(screen, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 60)
    work(screen)
    assert screen.getvalue() == ""


def test_the_first_example_may_take_long_since_its_call_imports_what_it_needs(screen, monkeypatch):
    clock = iter([0, 60, 60.5, 60.9])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "PATIENCE", 1)
    work(screen)
    assert screen.getvalue() == ""


def test_calls_of_a_simulated_model_are_not_called_live(screen):
    work(screen, model="simulated-2")
    assert (
        "; 2 simulated and 1 recorded calls " in screen.getvalue()
        and "live" not in screen.getvalue()
    )


@pytest.mark.parametrize("off", ["pipe", "variable"])
def test_nothing_is_written_where_nobody_looks(screen, monkeypatch, off):
    if off == "pipe":
        monkeypatch.setattr(screen, "isatty", lambda: False)
    else:
        monkeypatch.setenv("SEMBACK_PROGRESS", "off")
    work(screen)
    assert screen.getvalue() == ""


def test_a_script_that_has_loaded_ipykernel_is_no_notebook(screen, capsys):
    import ipykernel.zmqshell  # noqa: F401

    work(screen)
    assert screen.getvalue() and not capsys.readouterr().out
