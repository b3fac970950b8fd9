"""Batches: many notebooks through papermill. tests/notebooks has a notebook of each kind."""

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ASK_NINE, interrupted, wait_until
from servers import Endpoint, delay, good

from semback import ResponseCache, batch, models, tasks
from semback.batch import jobs, runner
from semback.batch.jobs import Job
from semback.errors import ParameterError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SEMBACK = [sys.executable, "-c", "from semback.cli import main; main()"]
LIAR = [*SEMBACK, *"run liar --variant full --name test".split()]


@pytest.fixture
def notebook(own_home):
    """A function that copies a notebook of tests/notebooks into the checkout, under any name."""
    (own_home / "notebooks").mkdir()

    def copy(name, as_name=None):
        return Path(
            shutil.copy(
                NOTEBOOKS / f"{name}.ipynb", own_home / "notebooks" / f"{as_name or name}.ipynb"
            )
        )

    return copy


@pytest.fixture
def executed(monkeypatch):
    """Notebooks are executed inside this process, with no kernel; the list of those that were."""
    names = []

    def execute_notebook(notebook, output, parameters, **settings):
        names.append(Path(notebook).stem)
        book, variables = nbformat.read(notebook, as_version=4), {}
        book.metadata["papermill"] = {}
        nbformat.write(book, output)
        for cell in book.cells:
            exec(cell.source, variables)
            variables |= parameters
        return book

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    return names


def states(outcomes):
    return {outcome.job.id: outcome.state for outcome in outcomes}


def files(home, name="test"):
    return sorted(path.name for path in (home / "runs" / name / "notebooks").iterdir())


# With kernels


@pytest.mark.slow
@pytest.mark.process
def test_a_failed_notebook_is_kept_with_its_traceback_and_stops_no_other(
    own_home, notebook, tmp_path, monkeypatch, capfd
):
    (tmp_path / ("x" * 120)).mkdir()  # the sockets of the kernels would have no room there
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 120)))
    text = 'it\'s "me" {x}\n$HOME'
    path = notebook("greets")
    book = nbformat.read(path, as_version=4)
    book.metadata.clear()  # no kernelspec, as tools that strip notebooks leave it
    nbformat.write(book, path)
    for name in ("raises", "dies", "interrupts"):
        notebook(name)
    given = {"raises": {}, "dies": {}, "interrupts": {}, "greets": {"greeting": text, "times": 2}}
    raises, dies, interrupts, greets = batch.run(
        [Job(path.with_stem(name), parameters) for name, parameters in given.items()],
        "test",
        workers=4,
    )

    assert [each.state for each in (raises, dies, interrupts, greets)] == ["failed"] * 3 + ["ok"]
    assert files(own_home) == [
        "dies.failed.ipynb",
        "greets.ipynb",
        "interrupts.failed.ipynb",
        "raises.failed.ipynb",
    ]
    assert raises.error.startswith("ValueError: no such thing\n")
    assert "Traceback (most recent call last)" in raises.path.read_text()
    assert dies.error == "DeadKernelError: Kernel died" and dies.error in dies.path.read_text()
    assert interrupts.error == "KeyboardInterrupt"
    shown = nbformat.read(greets.path, as_version=4).cells[-1].outputs[0].text
    assert shown == f"{text} {text} {own_home}/notebooks {own_home}\n"
    lines = capfd.readouterr().err.splitlines()
    assert [line[:6] for line in lines] == ["[1/4] ", "[2/4] ", "[3/4] ", "[4/4] "]
    line = f"{raises.seconds:.1f} s  raises  ValueError: no such thing"
    assert any(each.endswith(line) for each in lines)


ASKS = f"{ASK_NINE}\nawait ask_nine(os.environ['SEMBACK_ASKED'])\n"
BATCH = """
import os, pathlib, sys
from semback import batch
from semback.batch import jobs

os.environ["SEMBACK_ASKED"] = sys.argv[1]
batch.run([jobs.Job(pathlib.Path(os.environ["SEMBACK_HOME"], "asks.ipynb"), {})], "test")
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.network
@pytest.mark.parametrize(
    "seconds, interrupts, recorded", [(1.5, 1, 3), (60, 2, 0)], ids=["once", "twice"]
)
def test_an_interrupted_batch_records_replies_in_flight_unless_it_is_interrupted_again(
    own_home, seconds, interrupts, recorded
):
    cells = [nbformat.v4.new_code_cell(ASKS), nbformat.v4.new_code_cell("raise SystemError")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), own_home / "asks.ipynb")
    with Endpoint(delay(seconds, good)) as server:
        message, _, code = interrupted(BATCH, server, interrupts)
    assert message.startswith("stopping: replies in flight are still recorded")
    assert code == -signal.SIGINT
    assert len(server.asked) == 3 and len(ResponseCache()) == recorded
    assert files(own_home) == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.network
def test_a_batch_whose_terminal_is_closed_records_replies_in_flight(own_home, notebook):
    path = notebook("04_liar_ablation")
    book = nbformat.read(path, as_version=4)
    book.cells[-1].source = ASKS
    nbformat.write(book, path)
    terminal, stream = os.openpty()
    with Endpoint(delay(1.5, good)) as server:
        environment = {**os.environ, "SEMBACK_ASKED": server.url}
        process = subprocess.Popen(
            LIAR,
            env=environment,
            stdout=stream,
            stderr=stream,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # as without nohup
        )
        os.close(stream)
        wait_until(lambda: len(server.asked) == 3, process)
        os.close(terminal)  # writing there is an error now
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 130
    assert len(server.asked) == len(ResponseCache()) == 3
    assert files(own_home) == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number, written", [(signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_a_batch_that_ends_during_a_job_leaves_no_kernel_and_no_mixture_of_two_results(
    number, written, own_home, notebook, executed
):
    """The job was complete before. Its new record is written, or not, when the batch ends."""
    path = notebook("04_liar_ablation")
    book = nbformat.read(path, as_version=4)
    book.cells[1].source = book.cells[1].source.replace('"correct": 1', '"correct": steps % 4')
    waits = (
        "import os, pathlib, time\n"
        "if steps == 2:\n"
        "    pathlib.Path(os.environ['SEMBACK_HOME'], 'pid').write_text(str(os.getpid()))\n"
        "    time.sleep(60)"
    )
    book.cells.insert(2 if written else 1, nbformat.v4.new_code_cell(waits))
    nbformat.write(book, path)
    (job,) = jobs.grid(["liar"], variants=["full"], name="test", extra={"steps": 1})
    (first,) = batch.run([job], "test")
    record = own_home / "runs/test/results/liar-full-seed0-simulated.json"
    before, pid = record.read_bytes(), own_home / "pid"

    process = subprocess.Popen([*LIAR, "--steps", "2"], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: pid.exists() and pid.read_text(), process)
        assert not first.path.exists(), "the older notebook stood beside the newer record"
        process.send_signal(number)
        errors = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "continues from there" in errors and "Traceback" not in errors
    wait_until(lambda: not os.path.exists(f"/proc/{pid.read_text()}"))
    assert not first.path.exists() and (record.read_bytes() == before) != written
    (again,) = batch.run([job], "test")
    assert again.state == "ok" and record.read_bytes() == before
    assert files(own_home) == [first.path.name]


@pytest.mark.slow
@pytest.mark.process
def test_an_error_of_semback_in_a_notebook_shows_the_lines_of_the_user_and_the_message(notebook):
    path = notebook("plain")
    code = "import semback as sb\n\ndef mine():\n    return sb.tasks.bbh('snark')\n\nmine()"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    (outcome,) = batch.run([Job(path, {})], "test")
    assert outcome.error == "ParameterError: category='snark' does not exist; did you mean snarks?"
    (output,) = nbformat.read(outcome.path, as_version=4).cells[-1].outputs
    shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
    assert output.ename == "ParameterError" and shown.count(", line ") == 2
    assert "----> 6 mine()" in shown and "----> 4     return sb.tasks.bbh('snark')" in shown
    assert shown.endswith(outcome.error)


# Without kernels


def test_a_terminal_shows_a_line_for_each_running_notebook(notebook, executed, monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    execute = papermill.execute_notebook

    def slow(*arguments, **settings):
        manager = settings["kernel_manager_class"]
        status = inspect.getclosurevars(manager.start_kernel).nonlocals["environment"]
        Path(status["SEMBACK_STATUS"]).write_text("step 1 of 4: " + 60 * "x")
        time.sleep(1.5)
        return execute(*arguments, **settings)

    monkeypatch.setattr(papermill, "execute_notebook", slow)
    batch.run([Job(notebook("plain"), {})], "test")
    lines = capfd.readouterr().err.split("\n")
    assert lines[0] == f"  plain{' ' * 27}step 1 of 4: {'x' * 12}"
    assert lines[1].startswith("\x1b[A\x1b[K[1/1] ok ")


def test_what_is_complete_runs_again_only_if_something_changed(own_home, notebook, executed):
    path = notebook("04_liar_ablation")
    job = Job(path, {"name": "test"})
    again = Job(path, {"name": "test", "steps": 3})

    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "ok"}
    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "skipped"}
    assert states(batch.run([job], "test", again=True)) == {"liar-full-seed0-simulated": "ok"}
    assert states(batch.run([again], "test")) == {"liar-full-seed0-simulated": "ok"}, (
        "other parameters"
    )
    path.write_text(path.read_text().replace("train = 50", "train = 49"))
    assert states(batch.run([Job(path, again.parameters)], "test")) == {
        "liar-full-seed0-simulated": "ok"
    }, "other cells"
    (own_home / "runs/test/results/liar-full-seed0-simulated.json").unlink()
    assert states(batch.run([again], "test")) == {"liar-full-seed0-simulated": "ok"}, "no record"
    assert len(executed) == 5


def test_a_record_that_is_not_the_one_its_notebook_left_is_made_again(own_home, notebook, executed):
    job = Job(notebook("04_liar_ablation"), {"name": "test"})
    batch.run([job], "test")
    record = own_home / "runs/test/results/liar-full-seed0-simulated.json"
    whole = record.read_text()
    record.write_text(whole.replace("3", "2"))
    (outcome,) = batch.run([job], "test")
    assert outcome.state == "ok" and record.read_text() == whole


def test_a_notebook_runs_in_one_batch_of_a_name_at_a_time(notebook, executed, monkeypatch):
    job, other = Job(notebook("04_liar_ablation"), {"name": "test"}), Job(notebook("plain"), {})
    execute, seen = papermill.execute_notebook, []

    def execute_and_try(path, *arguments, **settings):
        if Path(path).stem == "04_liar_ablation":
            seen.append(states(batch.run([other], "test")))
            with pytest.raises(
                ParameterError, match="04_liar_ablation.lock is locked: another run"
            ):
                batch.run([job], "test", again=True)
        return execute(path, *arguments, **settings)

    monkeypatch.setattr(papermill, "execute_notebook", execute_and_try)
    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "ok"}
    assert seen == [{"plain": "ok"}]
    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "skipped"}


@pytest.mark.parametrize(
    "name, values, state",
    [
        ("dollars", (5, 6), "skipped"),
        ("retries", (2, 9), "skipped"),
        ("timeout", (5.0, 60), "skipped"),
        ("base_url", (None, "http://x/v1"), "skipped"),
        ("coach_url", ("http://x/v1", "http://y/v1"), "skipped"),
        ("in_flight", (None, 8), "skipped"),
        ("requests_per_minute", (60, 90.5), "skipped"),
        ("tokens_per_minute", (None, 10**5), "skipped"),
        ("test", (None, 5), "ok"),
        ("system", ("system", "user"), "ok"),
        ("model_params", ({}, {"max_tokens": 9}), "ok"),
    ],
)
def test_only_another_request_is_a_reason_to_run_again(name, values, state, notebook, executed):
    path = notebook("04_liar_ablation")
    several = [Job(path, {"name": "test", name: value}) for value in values]
    found = [states(batch.run([job], "test"))[job.id] for job in several]
    assert found == ["ok", state]


def test_the_figures_come_last_and_again_whenever_a_record_changed(own_home, notebook, executed):
    liar, plain, figures = (
        notebook("04_liar_ablation"),
        notebook("plain"),
        Job(notebook("06_figures"), {"name": "test"}),
    )
    batch.run([figures, Job(plain, {}), Job(liar, {"name": "test"})], "test")
    assert executed.pop() == "06_figures"
    assert set(states(batch.run([figures, Job(plain, {})], "test")).values()) == {"skipped"}
    (own_home / "runs/test/notebooks/plain.ipynb").unlink()
    assert states(batch.run([figures, Job(plain, {})], "test")) == {
        "06_figures": "skipped",
        "plain": "ok",
    }
    record = own_home / "runs/test/results/liar-full-seed0-simulated.json"
    record.write_text(record.read_text().replace("3", "2"))
    assert states(batch.run([figures], "test")) == {"06_figures": "ok"}, "a record changed since"


def test_a_failure_takes_the_result_of_an_earlier_run_away(own_home, notebook, executed):
    path = notebook("04_liar_ablation")
    batch.run([Job(path, {"name": "test"})], "test")
    book = nbformat.read(path, as_version=4)
    book.cells[-1].source = "raise ValueError('now it fails')"
    nbformat.write(book, path)
    (outcome,) = batch.run([Job(path, {"name": "test"})], "test")
    assert outcome.state == "failed"
    assert files(own_home) == ["liar-full-seed0-simulated.failed.ipynb"] and not list(
        (own_home / "runs/test/results").iterdir()
    )


@pytest.mark.parametrize("earlier", [False, True], ids=["none", "an earlier one"])
def test_an_experiment_that_writes_no_record_has_failed(earlier, own_home, notebook, executed):
    path = notebook("04_liar_ablation")
    job = Job(path, {"name": "test"})
    if earlier:
        batch.run([job], "test")
    book = nbformat.read(path, as_version=4)
    book.cells[-1].source = "found = 1"
    nbformat.write(book, path)
    for _ in range(2):  # what failed is not complete
        (outcome,) = batch.run([job], "test")
        record = own_home / "runs/test/results/liar-full-seed0-simulated.json"
        assert outcome.state == "failed" and not record.exists()
        assert outcome.error == (
            f"DataError: the notebook wrote no record: sb.results.save makes {record}"
        )
        assert outcome.error in outcome.path.read_text() and not batch.complete(job, record)


@pytest.mark.parametrize(
    "jobs, workers, in_flight, share",
    [(1, 2, 10, 10), (3, 2, 11, 5), (3, 8, 2, 1), (2, 2, None, 64)],
)
def test_notebooks_at_one_time_share_the_requests_in_flight(
    jobs, workers, in_flight, share, monkeypatch, notebook
):
    environments = []

    def execute(job, folder, again, environment):
        environments.append(environment)
        return batch.Outcome(job, "ok", Path())

    monkeypatch.setattr(runner, "execute", execute)
    path = notebook("04_liar_ablation")
    several = [Job(path, {"name": "test", "seed": seed}) for seed in range(jobs)]
    batch.run(several, "test", workers=workers)
    assert len(environments) == jobs
    for environment in environments:
        monkeypatch.setenv("SEMBACK_KERNELS", environment["SEMBACK_KERNELS"])
        pair = models("m", "c", tasks.liar(), in_flight=in_flight)
        assert [each.in_flight for each in pair] == [share, share]
