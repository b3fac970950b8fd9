"""The semback command."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import Endpoint, student

from semback import batch, cli, results
from semback.batch.jobs import Job
from semback.cache.recording import key

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def semback():
    """A function that runs the command and returns its result: exit_code, stdout, stderr."""
    return lambda *arguments: CliRunner().invoke(
        cli.main, [str(each) for each in arguments], catch_exceptions=False
    )


@pytest.fixture
def checkout(own_home):
    """A home with the repository's own notebooks of the experiments."""
    (own_home / "notebooks").mkdir()
    for name in ("02_bbh", "03_gsm8k", "04_liar_ablation"):
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", own_home / "notebooks")
    return own_home


@pytest.fixture
def ran(monkeypatch):
    """The jobs that a command would have run. Nothing is executed, and every job fails."""
    jobs = []

    def run(these, name, *how):
        jobs.extend(these)
        jobs.append(how)
        return [
            batch.Outcome(job, "failed", Path("x.failed.ipynb"), 1.0, "ValueError: no\nNearest: x")
            for job in these
        ]

    monkeypatch.setattr(batch, "run", run)
    return jobs


@pytest.mark.process
def test_help_loads_nothing_heavy():
    heavy = {"pandas", "numpy", "papermill", "openai", "matplotlib", "jinja2", "diskcache", "scipy"}
    code = f"import sys, semback.cli; print({heavy!r} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_every_command_explains_itself(semback):
    commands = [
        "",
        "run",
        "plan",
        "table",
        "runs",
        "figures",
        "report",
        "data",
        "data fetch",
        "data verify",
    ]
    for name in ("export", "import", "verify", "drop", "explain", "show", "ls"):
        commands.append(f"cache {name}")
    for command in commands:
        assert semback(*command.split(), "--help").exit_code == 0


@pytest.mark.slow
@pytest.mark.process
def test_a_run_executes_notebooks_and_prints_the_table_and_where_to_look(semback, checkout):
    done = semback("run", "liar", "--variant", "full", "--train", 6, "--steps", 1, "--name", "mine")
    assert done.exit_code == 0, done.stderr
    assert "LIAR" in done.stdout and str(checkout / "runs/mine/results") in done.stdout
    assert (
        page := checkout / "runs/mine/index.html"
    ).is_file() and f"report     {page}\n" in done.stdout
    assert (checkout / "runs/mine/notebooks/liar-full-seed0-simulated.ipynb").is_file()
    (record,) = results.load("mine")
    assert record["settings"]["steps"] == 1 and record["train"][0]["questions"] == 6
    shown = semback("table", "mine")
    assert shown.exit_code == 0 and shown.stdout.strip() in done.stdout
    written = page.read_bytes()
    page.unlink()
    assert semback("report", "mine").stdout == f"{page}\n" and page.read_bytes() == written
    recording = checkout / "mine.jsonl"
    assert semback("cache", "export", "--run", "mine", recording).exit_code == 0
    assert hashlib.sha256(recording.read_bytes()).hexdigest() in written.decode()


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.network
def test_model_and_coach_may_be_at_two_servers_with_a_key_each(semback, checkout, monkeypatch):
    """Neither addresses nor keys are part of the record; keys are nowhere."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-model")
    monkeypatch.setenv("SEMBACK_COACH_API_KEY", "key-of-the-coach")
    keys = {"m": set(), "c": set()}

    def noting(name):
        async def answer(request):
            keys[name].add(request.headers["Authorization"])
            return await student(request)

        return answer

    options = "bbh --category boolean_expressions --variant full --train 9 --steps 1 --name mine"
    options += " --model m --coach c -p system user -p retries 0 -p timeout 60"
    with Endpoint(noting("m")) as answers, Endpoint(noting("c")) as coaches:
        urls = "--base-url", answers.url, "--coach-url", coaches.url
        done = semback("run", *options.split(), *urls)
    assert done.exit_code == 0, done.stderr
    assert keys == {"m": {"Bearer key-of-the-model"}, "c": {"Bearer key-of-the-coach"}}
    for name, server in (("m", answers), ("c", coaches)):
        assert {body["model"] for body in server.asked} == {name}
        assert {each["role"] for body in server.asked for each in body["messages"]} == {"user"}
    assert "skipped" in semback("run", *options.split()).stderr  # another address is no other run
    files = [path for path in (checkout / "runs/mine").rglob("*.*") if path.is_file()]
    texts = {path: path.read_text() for path in files}
    assert not any("key-of-the" in text for text in texts.values())
    shown = {path.suffix for path, text in texts.items() if answers.host in text}
    assert shown == {".ipynb"}, "a parameter that a notebook shows, and no part of records"


def test_a_failed_notebook_makes_the_exit_code_1(semback, checkout, ran):
    done = semback("run", "gsm8k", "--variant", "full", "--jobs", 3, "--again")
    assert (
        done.exit_code == 1
        and done.stderr == "\nfailed: x.failed.ipynb\nValueError: no\nNearest: x\n"
    )
    assert "notebooks  " in done.stdout and not any(
        word in done.stdout for word in ("results", "figures")
    )  # there are none
    assert ran[-1] == (3, True)


def test_notebooks_that_failed_alike_are_named_with_one_error(semback, checkout, ran):
    done = semback("run", "bbh", "--category", "object_counting")
    assert done.stderr == "\nfailed: x.failed.ipynb" * 3 + "\nValueError: no\nNearest: x\n"


def test_options_become_the_parameters_of_every_job(semback, checkout, ran):
    semback(
        "run",
        "bbh",
        "gsm8k",
        "--category",
        "object_counting",
        "--variant",
        "no_gate",
        "--seed",
        1,
        "--seed",
        2,
        "--model",
        "m",
        "--steps",
        2,
        "--train",
        9,
        "--test",
        7,
        "--in-flight",
        16,
        "--requests-per-minute",
        500,
        "--tokens-per-minute",
        200000,
        "--base-url",
        "http://127.0.0.1:1/v1",
        "--coach-url",
        "http://127.0.0.1:2/v1",
        "-p",
        "coach_params",
        '{"temperature": 1}',
    )
    jobs = [job for job in ran if isinstance(job, Job)]
    assert [(job.experiment, job.settings["seed"]) for job in jobs] == [
        ("bbh", 1),
        ("bbh", 2),
        ("gsm8k", 1),
        ("gsm8k", 2),
    ]
    for job in jobs:
        assert {**job.parameters, "category": "object_counting", "seed": 0} == {
            "name": "demo",
            "data": "sample",
            "category": "object_counting",
            "variant": "no_gate",
            "seed": 0,
            "model": "m",
            "coach": "m",
            "steps": 2,
            "train": 9,
            "test": 7,
            "in_flight": 16,
            "requests_per_minute": 500.0,
            "tokens_per_minute": 200000.0,
            "base_url": "http://127.0.0.1:1/v1",
            "coach_url": "http://127.0.0.1:2/v1",
            "coach_params": {"temperature": 1},
        }


def test_a_run_of_real_models_says_first_what_it_may_cost(semback, checkout, ran):
    free = semback("run", "gsm8k", "--variant", "full")
    paid = semback("run", "gsm8k", "--variant", "full", "--model", "gpt-4o-mini")
    assert "Upper bound" not in free.stderr
    assert "Upper bound if nothing is recorded: 704 calls, about $" in paid.stderr


def test_a_run_that_is_complete_shows_no_costs(semback, checkout, ran, monkeypatch):
    monkeypatch.setattr(batch, "complete", lambda job, folder: True)
    arguments = "run", "gsm8k", "--variant", "full", "--model", "gpt-4o-mini"
    assert "Upper bound" not in semback(*arguments).stderr
    assert "Upper bound" in semback(*arguments, "--again").stderr


def test_a_plan_sends_nothing(semback, checkout, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    done = semback("plan", "gsm8k", "--variant", "full", "--model", "gpt-4o-mini")
    assert done.exit_code == 0 and "Upper bound" in done.stdout
    assert "training gpt-4o-mini   300" in done.stdout
    assert "gsm8k: 64 test questions can find a difference of" in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "gsmk"], "experiment='gsmk'"),
        (
            ["run", "gsm8k", "-p", "stepz", "3"],
            "03_gsm8k.ipynb: parameter='stepz' does not exist; did you mean steps?",
        ),
        (["run", "gsm8k", "-p", "steps", "three"], "steps is 'three'"),
        (["run", "gsm8k", "-p", "dollars", "five"], "dollars is 'five'; it takes a number above 0"),
        (
            ["run", "gsm8k", "-p", "dollars", "5", "--model", "mine"],
            "the price of mine is not known",
        ),
        (["run", "gsm8k", "--seed", "-1"], "seed is -1; it takes a whole number from 0"),
        (["run", "gsm8k", "--name", "../elsewhere"], "a batch cannot be called '../elsewhere'"),
        (["table", ""], "a batch cannot be called ''"),
        (["run", "gsm8k", "--name", ""], "a batch cannot be called ''"),
        (["run", "gsm8k", "--name", "a\0b"], r"a batch cannot be called 'a\x00b'"),
        (["plan", "gsm8k", "--name", ".."], "a batch cannot be called '..'"),
        (
            ["run", "gsm8k", "-p", "model_params", '{"temperature": NaN}'],
            "03_gsm8k.ipynb: model_params is {'temperature': nan}; it takes JSON",
        ),
        (["run", "gsm8k", "-p", "coach_params", "-Infinity"], "coach_params is -inf"),
        (["run", "gsm8k", "-p", "model_params", "[" * 9999], "model_params is '[[["),
        (["run", "gsm8k", "-p", "steps", "-1"], "steps is -1; it takes a whole number from 0"),
        (["run", "gsm8k", "--test", 65], "task 'gsm8k': only is 65; it takes a number of test"),
        (["run", "gsm8k", "--in-flight", 0], "in_flight is 0; it takes a number above 0"),
        (["run", "gsm8k", "--tokens-per-minute", -1], "tokens_per_minute is -1.0; it takes a num"),
        (["plan", "gsm8k", "--base-url", "localhost:8000"], "base_url takes an address such as"),
        (["plan", "gsm8k", "--coach-url", ""], "coach_url takes an address such as"),
        (
            [
                "plan",
                "gsm8k",
                "--model",
                "gpt-4o-mini",
                "-p",
                "model_params",
                '{"max_tokens": "abc"}',
            ],
            "max_tokens is 'abc'",
        ),
        (["plan", "bbh", "--category", "snark"], "02_bbh.ipynb: category='snark'"),
        (["run", "liar", "--variant", "only_Stat"], "only_State"),
        (["run"], "01_semantic_gradients.ipynb"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, message, semback, checkout):
    done = semback(*arguments)
    assert (
        done.exit_code == 2
        and message in done.stderr
        and done.stderr.startswith("semback: ")
        and done.stderr.count("\n") == 1
    )


def test_fewer_than_no_steps_are_a_wrong_argument(semback, checkout):
    done = semback("run", "gsm8k", "--steps", "-1")
    assert done.exit_code == 2 and "-1 is not in the range" in done.stderr


def test_what_is_not_there_is_one_line_and_exit_code_1(semback, checkout):
    done = semback("table", "nothing")
    assert (
        done.exit_code == 1
        and done.stderr.startswith("semback: there are no results in")
        and done.stderr.count("\n") == 1
    )


def test_a_recording_of_a_run_is_that_run_s_and_whole(semback, cache, own_home):
    path = own_home / "out.jsonl"
    assert semback("cache", "export", "--run", "mine", path).exit_code == 1 and not path.exists()
    keys = record_two(cache)
    (own_home / "runs" / "mine" / "responses").mkdir(parents=True)
    (own_home / "runs" / "mine" / "responses" / "one.txt").write_text(f"{keys[0]}\n")
    assert semback("cache", "export", "--run", "mine", path).stdout == f"1 replies are in {path}\n"
    (own_home / "runs" / "mine" / "responses" / "two.txt").write_text(f"{'0' * 64}\n")
    done = semback("cache", "export", "--run", "mine", path)
    assert (
        done.exit_code == 1 and "only 1 of the 2 replies of runs/mine are recorded" in done.stderr
    )


def test_data_that_is_missing_makes_verify_fail(semback, own_home, monkeypatch):
    monkeypatch.setenv("SEMBACK_DATA_DIR", str(own_home))
    done = semback("data", "verify")
    assert (
        done.exit_code == 1
        and "missing  gsm8k/test.jsonl" in done.stdout
        and len(done.stdout.splitlines()) == 32
    )


def record_two(cache) -> list[str]:
    requests = [
        {"model": "m", "messages": [{"role": "user", "content": why}]}
        for why in ("Why?", "Why not?")
    ]
    reply = {"text": "So\nit is.", "finish_reason": "stop", "model": "m", "usage": {}}
    for request in requests:
        cache.add(key(request), {"request": request, "draw": 0, "reply": reply, "source": {}})
    return [key(request) for request in requests]


def test_control_characters_of_a_file_are_escaped(semback, cache, own_home):
    """A terminal would obey them: this one writes to the clipboard (OSC 52)."""
    request = {"model": "m\x1b[2J", "messages": [{"role": "user", "content": "\x1b]52;c;eA==\x07"}]}
    reply = {"text": "\x9b31mred", "finish_reason": "stop", "model": "m", "usage": {}}
    entry = {"request": request, "draw": 0, "reply": reply, "source": {}}
    cache.add(key(request), entry)
    other = own_home / "request.json"
    other.write_text(json.dumps({**request, "temperature": 0}))
    for arguments in (["ls"], ["explain", key(request)], ["explain", other]):
        done = semback("cache", *arguments)
        assert done.exit_code == 0
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert r"\x1b[2J" in semback("cache", "ls").stdout


def test_explain_takes_a_request_a_line_of_a_recording_or_a_key(semback, cache, own_home):
    keys = record_two(cache)
    recording = own_home / "one.jsonl"
    assert cache.export(recording, {keys[0]}) == 1
    assert "is recorded" in semback("cache", "explain", recording).stdout
    assert "is recorded" in semback("cache", "explain", keys[0][:12]).stdout
    assert semback("cache", "explain", "--draw", 3, recording).stdout  # the line has its own draw
    absent = semback("cache", "explain", "nothing")
    assert absent.exit_code == 2 and "neither a file nor the start of a key" in absent.stderr
    wrong = own_home / "wrong.json"
    for text in ("[]", "{}", '{"model": 1, "messages": []}', "not JSON"):
        wrong.write_text(text)
        done = semback("cache", "explain", wrong)
        assert done.exit_code == 1 and "is not a request" in done.stderr


def test_verify_names_the_lines_that_cannot_be_trusted(semback, cache, own_home):
    record_two(cache)
    path = own_home / "two.jsonl"
    cache.export(path)
    assert semback("cache", "verify", path).exit_code == 0
    path.write_text(path.read_text().replace("Why?", "Why!"))
    done = semback("cache", "verify", path)
    assert done.exit_code == 1 and "refused line" in done.stdout and "1 replies" in done.stdout


def test_drop_removes_the_replies_whose_key_begins_so(semback, cache):
    keys = record_two(cache)
    assert semback("cache", "drop", keys[0][:12]).stdout == "1 replies removed\n"
    assert semback("cache", "ls").stdout.startswith(keys[1][:12])


def test_a_recording_goes_out_and_comes_in(semback, cache, own_home, monkeypatch):
    keys, path = record_two(cache), own_home / "out" / "mine.jsonl.gz"
    assert semback("cache", "export", path).stdout == f"2 replies are in {path}\n"
    assert semback("cache", "ls").stdout == "".join(
        f"{key[:12]}  m  0  So it is.\n" for key in sorted(keys)
    )
    monkeypatch.setenv("SEMBACK_HOME", str(own_home / "other"))
    assert semback("cache", "import", path).stdout == "2 new replies\n"
    assert semback("cache", "import", path).stdout == "0 new replies\n"
    failed = semback("cache", "import", own_home / "absent.jsonl")
    assert failed.exit_code == 1 and "cannot be read" in failed.stderr
