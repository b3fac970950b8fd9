"""Batches: many notebooks through papermill. Every notebook in tests/notebooks fails, or succeeds, in one way of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ASK_NINE, interrupted, wait_until
from semback.batch.jobs import Job
from servers import Endpoint, delay, good

from semback import ResponseCache, batch, results
from semback.batch import jobs
from semback.errors import ParameterError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def notebook(own_home):
    """A function that puts a copy of one of tests/notebooks into the checkout's notebooks folder, under any name."""
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


def test_a_failed_notebook_is_kept_with_its_traceback_and_stops_no_other(own_home, notebook, capfd):
    said = 'it\'s "me" {x}\n$HOME'
    mine = {"raises": {}, "dies": {}, "interrupts": {}, "greets": {"greeting": said, "times": 2}}
    raises, dies, interrupts, greets = batch.run(
        [Job(notebook(name), parameters) for name, parameters in mine.items()], "test", workers=4
    )

    assert [raises.state, dies.state, interrupts.state, greets.state] == [
        "failed",
        "failed",
        "failed",
        "ok",
    ]
    assert files(own_home) == [
        "dies.failed.ipynb",
        "greets.ipynb",
        "interrupts.failed.ipynb",
        "raises.failed.ipynb",
    ]
    assert (
        raises.error.startswith("ValueError: no such thing\n")
        and "Traceback (most recent call last)" in raises.path.read_text()
    )
    assert dies.error == "DeadKernelError: Kernel died" and dies.error in dies.path.read_text()
    assert interrupts.error == "KeyboardInterrupt"
    shown = nbformat.read(greets.path, as_version=4).cells[-1].outputs[0].text
    assert shown == f"{said} {said} {own_home}/notebooks {own_home}\n"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4 and all(
        line.startswith(f"[{number}/4] ") for number, line in enumerate(lines, 1)
    )
    assert any(
        line.endswith(f"{raises.seconds:.1f} s  raises  ValueError: no such thing")
        for line in lines
    )


def test_what_a_kernel_says_outside_its_cells_is_in_the_failed_notebook(
    tmp_path, notebook, monkeypatch, capfd
):
    (tmp_path / "profile_default").mkdir()
    (tmp_path / "profile_default" / "ipython_kernel_config.py").write_text(
        "import os\nos.write(2, b'no kernel today')\nos._exit(1)"
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    (outcome,) = batch.run([Job(notebook("plain"), {})], "test")
    assert (
        outcome.state == "failed"
        and "no kernel today" in nbformat.read(outcome.path, as_version=4).cells[-1].source
    )
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("[1/1] failed")


def test_a_long_path_for_temporary_files_leaves_room_for_sockets(tmp_path, notebook, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (outcome,) = batch.run([Job(notebook("plain"), {})], "test")
    assert outcome.state == "ok", outcome.error


def test_a_stopped_batch_ends_its_kernels_and_leaves_nothing_half_done(own_home, notebook):
    notebook("sleeps", "04_liar_ablation")
    command = [
        sys.executable,
        "-c",
        "from semback.cli import main; main()",
        "run",
        "liar",
        "--name",
        "test",
        "--jobs",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(
            lambda: (own_home / "sleeping").exists() and (own_home / "sleeping").read_text(),
            process,
        )
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and "goes on from there" in said and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((own_home / "sleeping").read_text()), 0)
    assert files(own_home) == []


ASKS = f"{ASK_NINE}\nawait ask_nine(os.environ['SEMBACK_ASKED'])\n"
BATCH = """
import os, pathlib, sys
from semback import batch
from semback.batch import jobs

os.environ["SEMBACK_ASKED"] = sys.argv[1]
batch.run([jobs.Job(pathlib.Path(os.environ["SEMBACK_HOME"], "asks.ipynb"), {})], "test")
"""


@pytest.mark.parametrize(
    "seconds, interrupts, kept", [(1.5, 1, 3), (60, 2, 0)], ids=["once", "twice"]
)
def test_a_stopped_batch_records_what_is_on_its_way_unless_it_is_interrupted_again(
    own_home, seconds, interrupts, kept
):
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASKS)]), own_home / "asks.ipynb"
    )
    with Endpoint(delay(seconds, good)) as server:
        said, _, code = interrupted(BATCH, server, interrupts)
    assert said.startswith("stopping: replies in flight are still recorded")
    assert code == -signal.SIGINT and len(server.asked) == 3 and len(ResponseCache()) == kept
    assert files(own_home) == []


def test_a_stopped_batch_does_not_wait_for_a_cell_that_computes(own_home):
    computes = (
        ASKS
        + "open(os.environ['SEMBACK_HOME'] + '/computing', 'w').close()\nimport time\ntime.sleep(60)"
    )
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(computes)]),
        own_home / "asks.ipynb",
    )
    with Endpoint(good) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", BATCH, server.url], stderr=subprocess.DEVNULL
        )
        wait_until((own_home / "computing").exists, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT
    assert files(own_home) == [] and len(ResponseCache()) == 9


def test_a_batch_whose_terminal_is_closed_records_what_is_on_its_way(own_home, notebook):
    path = notebook("sleeps", "04_liar_ablation")
    book = nbformat.read(path, as_version=4)
    book.cells[-1].source = ASKS
    nbformat.write(book, path)
    terminal, stream = os.openpty()
    command = [
        sys.executable,
        "-c",
        "from semback.cli import main; main()",
        *"run liar --variant full --name test".split(),
    ]
    with Endpoint(delay(1.5, good)) as server:
        process = subprocess.Popen(
            command, env={**os.environ, "SEMBACK_ASKED": server.url}, stdout=stream, stderr=stream
        )
        os.close(stream)
        wait_until(lambda: len(server.asked) == 3, process)
        os.close(terminal)  # what is written there now is an error
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 130
    assert len(server.asked) == len(ResponseCache()) == 3
    assert files(own_home) == []


@pytest.mark.parametrize(
    "how, written, state",
    [
        (signal.SIGTERM, False, "skipped"),
        (signal.SIGTERM, True, "ok"),
        (signal.SIGKILL, True, "ok"),
    ],
)
def test_a_batch_ended_while_it_ran_a_job_anew_leaves_no_result_that_passes_for_the_older_one(
    how, written, state, own_home, notebook, executed
):
    path = notebook("04_liar_ablation")
    book = nbformat.read(path, as_version=4)
    book.cells[1].source = book.cells[1].source.replace('"correct": 1', '"correct": steps % 4')
    waits = (
        f"{book.cells[1].source.split('folder =')[0]}import time\nif steps == 2:\n    "
        "pathlib.Path(os.environ['SEMBACK_HOME'], 'sleeping').touch()\n    time.sleep(60)"
    )
    book.cells.insert(2 if written else 1, nbformat.v4.new_code_cell(waits))
    nbformat.write(book, path)
    (job,) = jobs.grid(["liar"], variants=["full"], name="test", extra={"steps": 1})
    (first,) = batch.run([job], "test")
    finished = first.path.read_bytes()

    command = [
        sys.executable,
        "-c",
        "from semback.cli import main; main()",
        *"run liar --variant full --name test --steps 2".split(),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until((own_home / "sleeping").exists, process)
        assert not first.path.exists(), (
            "while it runs, no notebook of another run stands beside the record"
        )
        process.send_signal(how)
        process.wait(timeout=30)
    finally:
        process.kill()
    assert first.path.exists() == (state == "skipped")
    (again,) = batch.run([job], "test")
    assert (
        again.state == state
        and again.record == first.record
        and (first.path.read_bytes() == finished or state == "ok")
    )


def test_dask_workers_execute_notebooks_too(own_home, notebook):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        outcomes = batch.run(
            [Job(notebook("plain"), {}), Job(notebook("raises"), {})],
            "test",
            scheduler=cluster.scheduler_address,
        )
    assert states(outcomes) == {"plain": "ok", "raises": "failed"}
    assert files(own_home) == ["plain.ipynb", "raises.failed.ipynb"]


# Without


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


def test_a_job_runs_in_one_batch_of_a_name_at_a_time(notebook, executed, monkeypatch):
    job, other = Job(notebook("04_liar_ablation"), {"name": "test"}), Job(notebook("plain"), {})
    execute, said = papermill.execute_notebook, []

    def meanwhile(path, *arguments, **settings):
        if Path(path).stem == "04_liar_ablation":
            said.append(states(batch.run([other], "test")))
            with pytest.raises(
                ParameterError,
                match="liar-full-seed0-simulated is being executed by another batch called 'test'; wait",
            ):
                batch.run([job], "test", again=True)
        return execute(path, *arguments, **settings)

    monkeypatch.setattr(papermill, "execute_notebook", meanwhile)
    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "ok"} and said == [
        {"plain": "ok"}
    ]
    assert states(batch.run([job], "test")) == {"liar-full-seed0-simulated": "skipped"}


def test_a_finished_line_shows_the_accuracy_before_and_after(notebook, executed, capsys):
    batch.run([Job(notebook("04_liar_ablation"), {"name": "test"})], "test")
    assert capsys.readouterr().err.rstrip().endswith("liar-full-seed0-simulated  25.0% → 75.0%")


def test_another_limit_is_no_reason_to_run_again(notebook, executed):
    limited = [
        Job(notebook("04_liar_ablation"), {"name": "test", "dollars": dollars})
        for dollars in (5, 6, None)
    ]
    assert [states(batch.run([job], "test"))[job.id] for job in limited] == [
        "ok",
        "skipped",
        "skipped",
    ]


def test_meanwhile_is_when_all_the_others_are_done_and_the_last_notebook_runs(
    own_home, notebook, executed, monkeypatch
):
    liar, figures = (
        Job(notebook("04_liar_ablation"), {"name": "test"}),
        Job(notebook("06_figures"), {"name": "test"}),
    )
    execute, begun, reported = papermill.execute_notebook, threading.Event(), threading.Event()

    def execute_last(notebook, *rest, **settings):
        if Path(notebook).stem == "06_figures":
            begun.set()
            assert reported.wait(10)
        return execute(notebook, *rest, **settings)

    def meanwhile():
        assert executed[0] == "04_liar_ablation" and begun.wait(10)
        reported.set()

    monkeypatch.setattr(papermill, "execute_notebook", execute_last)
    assert set(states(batch.run([figures, liar], "test")).values()) == {"ok"}
    for done in ([figures, liar], [liar]):
        reported.clear()
        assert (
            set(states(batch.run(done, "test")).values()) == {"skipped"}
            and reported.is_set()
        )


def test_the_figures_come_last_and_again_whenever_anything_ran(own_home, notebook, executed):
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
        "06_figures": "ok",
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
    assert outcome.state == "failed" and outcome.record is None
    assert files(own_home) == ["liar-full-seed0-simulated.failed.ipynb"] and not list(
        (own_home / "runs/test/results").iterdir()
    )


@pytest.mark.parametrize(
    "name, parameters, said",
    [
        (
            "greets",
            {"greting": "x"},
            "greets.ipynb has no parameter 'greting'; it has greeting, times, share, loud, more, anything",
        ),
        (
            "greets",
            {"times": "2"},
            "greets.ipynb: times is '2'; it takes a value of type int, such as 1",
        ),
        ("greets", {"times": True}, "times is True"),
        ("greets", {"times": 1.5}, "times is 1.5"),
        ("greets", {"loud": 1}, "loud is 1"),
        ("greets", {"greeting": None}, "greeting is None"),
        ("greets", {"more": []}, "more is []"),
        ("greets", {"x = __import__('os').abort()\n": 1}, 'no parameter "x = __import__'),
        ("plain", {"x": 1}, "it has none, since no cell has the tag parameters"),
        ("broken", {}, "broken.ipynb cannot be read as a notebook"),
        ("absent", {}, "there is no notebook"),
        (
            "04_liar_ablation",
            {"name": "test", "variant": "no_gradients"},
            "04_liar_ablation.ipynb: there is no variant 'no_gradients'; there",
        ),
        ("04_liar_ablation", {"name": "test", "data": "ful"}, "04_liar_ablation.ipynb: data='ful'"),
        (
            "04_liar_ablation",
            {"name": "test", "train": 100000},
            "04_liar_ablation.ipynb: train=100000",
        ),
        ("04_liar_ablation", {"name": "other"}, "name is 'other'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    name, parameters, said, notebook, executed
):
    good = Job(notebook("greets"), {"share": 1, "anything": [1]})
    path = NOTEBOOKS / f"{name}.ipynb"
    with pytest.raises(ParameterError, match=re.escape(said)):
        batch.run(
            [Job(path, parameters) if name == "greets" else good, Job(path, parameters)], "test"
        )
    assert not executed


def test_two_jobs_that_would_overwrite_each_other_are_refused(notebook, executed):
    with pytest.raises(ParameterError, match="both be called greets"):
        batch.run(
            [Job(notebook("greets"), {"times": 1}), Job(notebook("greets"), {"times": 2})], "test"
        )
    assert not executed


def test_a_scheduler_without_dask_says_what_to_install(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ParameterError, match=r"semback\[dask\]"):
        batch.run([Job(notebook("plain"), {})], "test", scheduler="tcp://127.0.0.1:1")


def test_no_worker_is_refused(notebook):
    with pytest.raises(ParameterError, match="at least one"):
        batch.run([Job(notebook("plain"), {})], "test", workers=0)


# The grid


@pytest.fixture
def experiments(notebook):
    """The notebooks that a grid needs. The three experiments' are one and the same here, and so have parameters of the wrong task too."""
    for name in ("01_semantic_gradients", "02_bbh", "03_gsm8k", "05_cost"):
        notebook("04_liar_ablation", name)
    notebook("04_liar_ablation")
    notebook("06_figures")


def test_the_demo_is_the_studies_then_all_experiments_then_the_figures(experiments):
    ids = [job.id for job in jobs.grid()]
    assert ids[:2] == ["01_semantic_gradients", "05_cost"] and ids[-1] == "06_figures"
    assert len(ids) == len(set(ids)) == 2 + 3 + 3 * 3 + 10 + 1
    for known in (
        ("gsm8k", "gsm8k", "no_gradient"),
        ("bbh", "bbh/object_counting", "full"),
        ("liar", "liar", "only_Job title"),
    ):
        assert results.run_id(*known, 0, "simulated", "simulated") in ids


def test_the_full_data_is_every_file_once_and_the_ten_ablations(experiments):
    found = jobs.grid(data="full", name="full")
    assert [sum(job.experiment == name for job in found) for name in ("bbh", "gsm8k", "liar")] == [
        27,
        1,
        10,
    ]
    assert len(found) == 39 and found[-1].id == "06_figures"


def test_a_grid_is_a_product_of_what_is_chosen(experiments):
    found = jobs.grid(
        ["liar"],
        variants=["full", "no_gate"],
        seeds=[0, 1, 2],
        models=[("a", "c"), ("b", "c")],
        name="mine",
    )
    assert len({job.id for job in found}) == 12
    assert found[0].parameters == {
        "name": "mine",
        "data": "sample",
        "variant": "full",
        "seed": 0,
        "model": "a",
        "coach": "c",
    }


def test_a_text_is_read_as_the_type_of_the_default(experiments):
    (job,) = jobs.grid(
        ["gsm8k"],
        variants=["full"],
        extra={"steps": "2", "model_params": '{"temperature": null}', "coach": "007"},
    )
    assert [job.parameters[name] for name in ("steps", "model_params", "coach")] == [
        2,
        {"temperature": None},
        "007",
    ]


def test_a_job_has_the_id_of_its_record(experiments, own_home):
    parameters = {
        "category": "snarks",
        "variant": "only_hint_1",
        "seed": 3,
        "model": "m/1:x",
        "coach": "c",
    }
    job = Job(own_home / "notebooks/02_bbh.ipynb", parameters)
    assert job.id == results.run_id("bbh", "bbh/snarks", "only_hint_1", 3, "m/1:x", "c")


@pytest.mark.parametrize(
    "chosen, said",
    [
        ({"experiments": ["nope"]}, "nope"),
        ({"experiments": ["gsm8k"], "categories": ["snarks"]}, "only bbh"),
        ({"data": "fool"}, "fool"),
    ],
)
def test_a_grid_of_what_does_not_exist_is_refused(chosen, said, experiments):
    with pytest.raises(ParameterError, match=said):
        jobs.grid(**chosen)
