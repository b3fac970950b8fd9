"""Notebooks and batches against an OpenAI-compatible server on loopback."""

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from servers import Endpoint, delay, refuses, repeats_the_key, student

from semback import ResponseCache

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.network]
ROOT = Path(__file__).parents[2]
KEY = (
    "sk-" + "distinctive-5f3a9c71e0b24d68"
)  # in two parts, since no file may hold what looks like a key
SMALL = ["-p", "train", "6", "-p", "steps", "1"]


@pytest.fixture
def checkout(own_home, monkeypatch):
    """A checkout with the real notebooks, in somebody's home folder."""
    folder = own_home / "somebody" / "semback"
    (folder / "cache").mkdir(parents=True)
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("SEMBACK_HOME", str(folder))
    return folder


@pytest.fixture
def start(checkout):
    """A factory: start(endpoint, command…) runs a command of this environment in the checkout."""

    def started(endpoint, *command, **variables):
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": endpoint.url,
            "OPENAI_API_KEY": KEY,
            **variables,
        }
        program = Path(sys.executable).parent / command[0]
        return subprocess.Popen(
            [program, *command[1:]],
            cwd=checkout,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    return started


def finished(process):
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def papermill(model, coach):
    models = ["-p", "model", model, "-p", "coach", coach]
    return ["papermill", "notebooks/02_bbh.ipynb", "out.ipynb", *models, *SMALL]


def test_a_notebook_runs_against_any_endpoint_by_papermill_alone_and_again_for_nothing(
    start, checkout
):
    command = papermill("m-1", "m-2")
    with Endpoint(student) as endpoint:
        code, out = finished(start(endpoint, *command))
        assert code == 0, out
        asked = list(endpoint.asked)
        assert {body["model"] for body in asked} == {"m-1", "m-2"} and all(
            body["temperature"] == 0 for body in asked
        )
        assert len({json.dumps(body, sort_keys=True) for body in asked}) == len(asked)
        assert finished(start(endpoint, *command))[0] == 0 and endpoint.asked == asked
    (record,) = (checkout / "runs" / "notebook" / "results").glob("*.json")
    assert json.loads(record.read_text())["simulated"] is False


def test_a_model_that_refuses_a_field_says_what_to_take_out_and_works_without_it(start):
    command = papermill("m-1", "o3-mini")
    with Endpoint(refuses("temperature", "max_tokens")) as endpoint:
        code, out = finished(start(endpoint, *command))
        assert code and "params={'temperature': None}" in out and "m-1" in out
        params = "model_params: {temperature: null, max_tokens: null, max_completion_tokens: 512}"
        code, out = finished(start(endpoint, *command, "-y", params))
        assert code == 0, out
        assert endpoint.asked[-1].keys() == {"model", "messages", "top_p", "max_completion_tokens"}


def test_the_notebooks_of_a_batch_end_at_their_one_limit_in_dollars_and_go_on_with_a_larger_one(
    start,
):
    model, variants = (
        ["--model", "gpt-4o-mini-2024-07-18"],
        ["--variant", "full", "--variant", "no_gradient"],
    )
    command = [
        "semback",
        "run",
        "bbh",
        "--category",
        "boolean_expressions",
        *variants,
        *model,
        *SMALL,
        "--name",
        "mine",
        "-p",
        "dollars",
    ]
    with Endpoint(student) as endpoint:
        code, out = finished(start(endpoint, *command, "0.0003"))
        before = len(endpoint.asked)
        assert code == 1 and "the budget of 0.0003 dollars is spent" in out
        assert 105 < before < 105 + 32, (
            "0.0003 dollars are 105 calls; two notebooks had some more in flight"
        )
        code, out = finished(start(endpoint, *command, "5"))
        assert code == 0, out
        assert before < len(endpoint.asked) == len(set(map(json.dumps, endpoint.asked)))


def test_a_killed_batch_goes_on_and_asks_nothing_twice(start, checkout):
    command = [
        "semback",
        "run",
        "bbh",
        "--category",
        "boolean_expressions",
        "--model",
        "m-1",
        "--name",
        "mine",
        *SMALL,
    ]
    with Endpoint(delay(0.02, student)) as endpoint:
        killed = start(endpoint, *command)
        while len(endpoint.asked) < 60 and killed.poll() is None:
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        while endpoint.open:  # the kernels end by themselves when their parent is gone
            time.sleep(0.01)
        before = len(endpoint.asked)
        code, out = finished(start(endpoint, *command))
        assert code == 0, out
        asked = [json.dumps(body, sort_keys=True) for body in endpoint.asked]
        first, again = Counter(asked[:before]), Counter(asked[before:])
        assert 60 <= before < len(first | again) and max(again.values()) == 1
        assert max(first.values()) <= 3, (
            "the kernels end one after the other; each repeats what the one before had in flight"
        )
        assert len(asked) - len(first | again) <= 3 * 64, (
            "more was asked twice than was in flight at the kill"
        )
    assert len(list((checkout / "runs" / "mine" / "results").glob("*.json"))) == 3


def contents(folder):
    """(path, bytes) of every file below a folder, packed and unpacked."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            yield path, data
            if path.suffix == ".gz":
                yield path, gzip.decompress(data)
            if path.suffix == ".zst":
                yield path, zstandard.ZstdDecompressor().stream_reader(data).read()


def test_no_file_and_no_word_of_a_live_run_holds_the_key_a_header_or_where_somebody_lives(
    start, checkout
):
    run = [
        "semback",
        "run",
        "bbh",
        "--category",
        "boolean_expressions",
        "--variant",
        "full",
        "--model",
        "m-1",
        *SMALL,
        "--name",
    ]
    commands = {
        "good": [*run, "good"],
        "bad": [*run, "bad", "--coach", "m-2"],
        "failed": [
            "papermill",
            "notebooks/02_bbh.ipynb",
            "failed.ipynb",
            "-p",
            "model",
            "m-3",
            *SMALL,
        ],
        "list": ["semback", "cache", "ls"],
        "table": ["semback", "table", "good"],
    }
    said = {}
    with Endpoint(student) as good, Endpoint(repeats_the_key) as bad:
        for names in (
            ("good", "bad", "failed"),
            ("list", "table"),
        ):  # the latter once there is something to show
            begun = {
                name: start(
                    bad if name in ("bad", "failed") else good, *commands[name], OPENAI_LOG="debug"
                )
                for name in names
            }
            said |= {name: finished(process) for name, process in begun.items()}
        assert len(good.asked) > 20 and bad.asked
    with closing(ResponseCache(checkout / "cache")) as cache:
        assert {cache.export(checkout / f"shared.jsonl{end}") for end in ("", ".gz", ".zst")} == {
            len(cache)
        }
    assert {name for name, (code, _) in said.items() if code} == {"bad", "failed"}, said
    assert "(the key)" in said["bad"][1] and "(the key)" in said["failed"][1]
    secrets = [KEY, base64.b64encode(KEY.encode()).decode(), "authorization", "bearer"]
    found = [
        (word, name)
        for name, (_, out) in said.items()
        for word in secrets
        if word.lower() in out.lower()
    ]
    for path, data in contents(checkout):
        found += [
            (word, path)
            for word in [*secrets, str(checkout.parent)]
            if word.lower().encode() in data.lower()
        ]
    assert not found, "\n".join(f"{word} in {place}" for word, place in found)
