"""Long work is visible where somebody can see it, and nowhere else."""

import asyncio
import io
from contextlib import redirect_stderr
from types import SimpleNamespace

import pytest

from semback import Reply, progress
from semback.usage import Usage

SECOND = 0.02  # of these tests; timers of an event loop fire in their order, however slow it is


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def work(monkeypatch):
    """Three examples, or calls of another phase, each of which takes some seconds."""
    monkeypatch.setattr(progress, "EVERY", SECOND)
    monkeypatch.setenv("COLUMNS", "120")

    def work(screen, *seconds, total=3):
        async def run():
            usage = Usage()
            with progress.progress("step 1 of 4", total, usage) as step:
                for number, pause in enumerate(seconds):
                    await asyncio.sleep(pause * SECOND)
                    tokens = {"prompt_tokens": 5000, "completion_tokens": 0}
                    reply = Reply("", "stop", tokens, "m", number == 0, f"{number:064x}")
                    usage.add("backward", "gpt-4o-mini-2024-07-18", reply)
                    if total:
                        step(number > 0)

        with redirect_stderr(screen):
            asyncio.run(run())
        return screen.getvalue()

    return work


def test_a_terminal_shows_a_line_from_the_first_second_on_of_which_nothing_is_left(work):
    first, *lines, end = work(Screen(), 2, 2, 2).split("\r\x1b[K")[1:]
    assert first == "step 1 of 4: |      | 0/3 [00:00<?]"
    assert "step 1 of 4: |██    | 1/3 [00:00<00:00, 0% correct, 1 recorded]" in lines
    last = "step 1 of 4: |████  | 2/3 [00:00<00:00, 50% correct, $0.0008, 1 live, 1 recorded]"
    assert lines[-1] == last and not end


def test_work_that_is_no_evaluation_shows_its_calls_by_phase(work):
    *_, line, end = work(Screen(), 0, 2, total=0).split("\r\x1b[K")
    assert line == "step 1 of 4 [00:00, 1 backward, 1 recorded]" and not end


def test_requests_in_flight_are_counted_and_known_to_the_time_left(work, monkeypatch):
    flying = [SimpleNamespace(in_flight=True), SimpleNamespace(in_flight=True), None]
    monkeypatch.setattr(progress.asyncio, "all_tasks", lambda: flying)
    assert "2 in flight]" in work(Screen(), 2)


def test_quick_work_shows_nothing(work):
    assert work(Screen(), 0, 0, 0) == ""


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
        outputs.append([data])
        return SimpleNamespace(update=lambda data, raw: outputs[-1].append(data))

    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", display)
    assert work(Screen(), 0, 0, 0) == "" and not outputs
    assert work(Screen(), 2, 2, 2) == "" and len(outputs) == 1
    assert "| 2/3 [" in str(outputs[0]) and outputs[0][-1] == {}


def test_in_a_batch_the_line_goes_to_a_file(work, monkeypatch, tmp_path):
    monkeypatch.setenv("SEMBACK_STATUS", str(tmp_path / "job.status"))
    assert work(Screen(), 2) == "" and (tmp_path / "job.status").read_text() == ""
