"""Kernels of a batch, which are forked: each is as one that was started by itself, and none outlives those who wanted it."""

import os
import signal
import subprocess
import sys

import nbformat
import pytest
from conftest import ASK_NINE, wait_until
from semback.batch.jobs import Job
from servers import Endpoint, delay, good

from semback import ResponseCache, batch
from semback.batch import forkserver

pytestmark = pytest.mark.skipif(
    not forkserver.FORKS, reason="kernels are not forked on this system"
)
BATCH = "import pathlib, sys; import semback.batch as batch; from semback.batch import jobs; batch.run([jobs.Job(pathlib.Path(sys.argv[1]), {})], 'test')"


@pytest.fixture
def job(own_home):
    """A function that makes a job of some cells."""

    def make(name, *cells):
        path = own_home / f"{name}.ipynb"
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]),
            path,
        )
        return Job(path, {})

    return make


def shown(outcome):
    """What the last cell of a notebook displayed, by kind."""
    assert outcome.state == "ok", outcome.error
    return [
        output.get("data", output)
        for output in nbformat.read(outcome.path, as_version=4).cells[-1].outputs
    ]


def test_a_forked_kernel_has_its_own_environment_folder_session_and_signals(
    own_home, job, monkeypatch
):
    monkeypatch.setenv("SEMBACK_TOLD", "this")
    tells = (
        "import os, signal, sys; (os.environ['SEMBACK_TOLD'], os.getcwd(), os.getsid(0) == os.getpid(), "
        "signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.pthread_sigmask(signal.SIG_BLOCK, ()), "
        "sys.modules['__main__'].__dict__ is globals(), sys.stdin.closed)"
    )
    (outcome,) = batch.run([job("one", tells)], "test")
    assert eval(shown(outcome)[0]["text/plain"]) == (
        "this",
        str(own_home),
        True,
        True,
        set(),
        True,
        False,
    )


def test_forked_kernels_do_not_draw_the_same_numbers(job):
    draws = "import random, uuid, numpy; (random.random(), numpy.random.random(), uuid.uuid4().hex)"
    seen = [
        eval(shown(outcome)[0]["text/plain"])
        for outcome in batch.run([job("one", draws), job("two", draws)], "test")
    ]
    assert all(mine != other for mine, other in zip(*seen))


def test_pyplot_draws_inline_in_the_style_of_the_folder(own_home, job):
    (own_home / "matplotlibrc").write_text("lines.linewidth: 7.5")
    (outcome,) = batch.run(
        [job("one", "import matplotlib.pyplot as plt", "plt.plot([1, 2])[0].get_linewidth()")],
        "test",
    )
    width, image = shown(outcome)
    assert width["text/plain"] == "7.5" and image["image/png"]


@pytest.mark.parametrize("killed", ["the program", "the fork server"])
def test_a_batch_that_is_killed_leaves_kernels_that_record_what_is_on_its_way(
    own_home, job, killed
):
    asks = job(
        "asks",
        f"{ASK_NINE}\nopen(os.environ['SEMBACK_HOME'] + '/kernel', 'w').write(f'{{os.getpid()}} {{os.getppid()}}')\n"
        "await ask_nine(os.environ['SEMBACK_ASKED'])",
    )
    with Endpoint(delay(2.5, good)) as server:
        environment = {**os.environ, "SEMBACK_ASKED": server.url}
        process = subprocess.Popen(
            [sys.executable, "-c", BATCH, str(asks.notebook)],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: len(server.asked) == 3, process)
        kernel, fork_server = map(int, (own_home / "kernel").read_text().split())
        os.kill(process.pid if killed == "the program" else fork_server, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not os.path.exists(f"/proc/{kernel}"))
    assert len(server.asked) == len(ResponseCache()) == 3


def test_kernels_end_with_their_fork_server_and_the_next_has_another(job):
    ends = job(
        "ends", "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"
    )
    before, after = batch.run([ends, job("goes_on", "1 + 1")], "test", workers=1)
    assert before.error == "DeadKernelError: Kernel died" and shown(after)[0]["text/plain"] == "2"


def test_a_fork_server_outlives_a_sigterm(job):
    """As at the end of a session, when every process gets one: its kernels record what is on its way, and need it until then."""
    tells = "import os, signal\nos.kill(os.getppid(), signal.SIGTERM)\nos.getppid()"
    before, after = batch.run(
        [job("one", tells), job("two", "import os\nos.getppid()")], "test", workers=1
    )
    assert shown(before) == shown(after)


def test_a_fork_server_that_does_not_start_says_why(tmp_path, job, monkeypatch, capfd):
    (tmp_path / "diskcache.py").write_text("raise SystemExit('no server today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (outcome,) = batch.run([job("one", "1 + 1")], "test")
    assert outcome.state == "failed" and "the fork server does not start" in outcome.error
    assert "no server today" in capfd.readouterr().err


def test_a_fork_server_that_was_quiet_ends_and_another_takes_its_place(job):
    quiet = "from semback.batch import forkserver; forkserver.QUIET = 0.1; assert forkserver.serve() is None"
    process = subprocess.Popen([sys.executable, "-c", quiet], stdin=subprocess.PIPE)
    assert process.wait(20) == 0
    process.stdin.close()
    batch.run([job("one", "1 + 1")], "test")
    (server,) = forkserver._servers.values()
    server._process.kill()
    server._process.wait(20)
    (outcome,) = batch.run([job("two", "1 + 1")], "test")
    assert outcome.state == "ok" and server not in forkserver._servers.values()


def test_where_nothing_can_be_forked_kernels_start_as_usual(job, monkeypatch):
    monkeypatch.setattr("semback.worker.FORKS", False)
    (outcome,) = batch.run(
        [
            job(
                "one",
                "import sys; 'semback' in sys.modules, sys.argv[0].endswith('ipykernel_launcher.py')",
            )
        ],
        "test",
    )
    assert shown(outcome)[0]["text/plain"] == "(False, True)"


def test_a_server_that_nobody_can_order_from_any_more_ends_its_kernels_and_itself(job, own_home):
    """The process that executed notebooks is gone; its kernel has nothing to record."""
    computes = job(
        "computes",
        "import os, pathlib, time\npathlib.Path(os.environ['SEMBACK_HOME'], 'pids').write_text("
        "f'{os.getpid()} {os.getppid()}')\ntime.sleep(60)",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", BATCH, str(computes.notebook)], stderr=subprocess.DEVNULL
    )
    pids = own_home / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids.read_text().split()))
