"""An independent server: LiteLLM's proxy, in an environment of its own.

It passes requests on to a scripted model, or answers with mock responses of its own.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from servers import Endpoint, error, student
from test_endpoint import KEY, contents

from semback import (
    LLM,
    Language,
    ModelError,
    ResponseCache,
    Run,
    backward,
    descend,
    evaluate,
    forward,
    tasks,
)
from semback.llm import client

PROGRAM = Path(__file__).parents[2] / ".venv-litellm" / "bin" / "litellm"
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
SAYS = "It is simple.\nAnswer: True"
MOCKS = {
    "steady": SAYS,
    "limited": "litellm.RateLimitError",
    "broken": "litellm.InternalServerError",
    "short": "litellm.ContextWindowExceededError",
    "filtered": "Exception: content_filter_policy",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.network,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="LiteLLM is not installed: make .venv-litellm/ready"
    ),
]


class Proxy:
    """A running proxy: its `url`, its `process`, and `upstream`, the scripted model behind it."""

    def __init__(self, folder, upstream):
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        self.url, self.host, self.upstream = (
            f"http://127.0.0.1:{port}/v1",
            f"127.0.0.1:{port}/v1",
            upstream,
        )
        real = {
            "model_name": "student",
            "litellm_params": {
                "model": "openai/student",
                "api_base": upstream.url,
                "api_key": "sk-upstream",
            },
        }
        mocks = [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_key": "none",
                    "mock_response": says,
                },
            }
            for name, says in MOCKS.items()
        ]
        (folder / "config.yaml").write_text(
            json.dumps(
                {  # JSON is YAML
                    "model_list": [real, *mocks],
                    "litellm_settings": {"telemetry": False},
                    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
                    "general_settings": {"master_key": KEY},
                }
            )
        )
        # It gets none of our environment, so it knows no key of the machine; it reads its table of
        # prices from its own package.
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAM,
                    "--config",
                    "config.yaml",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--telemetry",
                    "False",
                ],
                cwd=folder,
                env={
                    "PATH": os.defpath,
                    "HOME": str(folder),
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                },
                stdout=log,
                stderr=log,
            )

    def answers(self):
        try:
            with urllib.request.urlopen(
                self.url.removesuffix("v1") + "health/liveliness", timeout=5
            ) as reply:
                return reply.status == 200
        except OSError:
            return False

    @contextmanager
    def stopped(self):
        """Within the context it answers nobody."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litellm")
    with Endpoint(student) as upstream:
        proxy, deadline = Proxy(folder, upstream), time.monotonic() + 120
        try:
            while not proxy.answers():
                assert proxy.process.poll() is None and time.monotonic() < deadline, (
                    folder / "log"
                ).read_text()
                time.sleep(0.2)
            yield proxy
        finally:
            proxy.process.kill()
            proxy.process.wait()


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """The first retry comes after 0.01 s, in place of half a second."""
    monkeypatch.setattr(client, "FIRST_RETRY", 0.01)


def model(proxy, name, cache=None, **settings):
    return LLM(name, cache, proxy.url, **{"api_key": KEY, "retries": 1, "timeout": 20, **settings})


def test_a_reply_of_the_proxy_is_recorded_and_replayed_when_it_answers_no_more(proxy, cache):
    async def two(llm):
        return [await llm.chat(MESSAGES, draw) for draw in (0, 1)]

    live = asyncio.run(two(model(proxy, "steady", cache)))
    assert [(reply.text, reply.finish_reason, reply.model, reply.recorded) for reply in live] == [
        (SAYS, "stop", "steady", False)
    ] * 2
    assert live[0].usage.keys() == {"prompt_tokens", "completion_tokens"} and len(cache) == 2
    with proxy.stopped():
        again = asyncio.run(two(model(proxy, "steady", cache, retries=0, timeout=1)))
        assert [(reply.text, reply.usage, reply.recorded) for reply in again] == [
            (reply.text, reply.usage, True) for reply in live
        ]
        with pytest.raises(ModelError, match="no whole reply in 1 s"):
            asyncio.run(model(proxy, "steady", cache, retries=0, timeout=1).chat(MESSAGES, 2))


def test_a_descent_through_the_proxy_is_exact_in_replay_and_leaves_the_key_nowhere(proxy, tmp_path):
    task = tasks.bbh("boolean_expressions", train=6)

    async def story(cache):
        lang = Language(*[model(proxy, "student", cache)] * 2)
        trace = await forward(task.graph, task.train[0], lang)
        gradients = await backward(trace, task.feedback(task.train[0]), lang)
        run = await descend(task, lang, steps=1)
        return (
            trace.values,
            dict(gradients),
            run,
            await evaluate(run.graph, task.test[:4], task, lang),
        )

    with closing(ResponseCache(tmp_path / "cache")) as cache:
        values, gradients, run, scores = asyncio.run(story(cache))
        asked = len(proxy.upstream.asked)
        assert (
            values["answer"] == SAYS
            and set(gradients) >= {"hint_1", "hint_2"}
            and asked == len(cache) > 30
        )
        assert (
            run.steps[1].candidate["hint_1"].instruction == "Look at each operator in turn."
            and not run.usage.failures
        )
        run.save(tmp_path / "live.json")
        cache.export(tmp_path / "mine.jsonl.zst")
    with proxy.stopped(), closing(ResponseCache(tmp_path / "cache", mode="replay")) as cache:
        again = asyncio.run(story(cache))
    again[2].save(tmp_path / "again.json")
    assert (values, gradients, scores.rows) == (
        again[0],
        again[1],
        again[3].rows,
    ) and run.steps == again[2].steps
    assert (
        Run.load(tmp_path / "live.json").steps == Run.load(tmp_path / "again.json").steps
        and len(proxy.upstream.asked) == asked
    )
    for path, data in contents(tmp_path):
        assert KEY.encode() not in data and b"authorization" not in data.lower(), path


# model, api_key, the end of the address, what the scripted model says; words of the error; tries
FAULTS = {
    "429": ("limited", KEY, "", student, ["429", "limit", "in_flight"], 2),
    "500": ("broken", KEY, "", student, ["500", "run again"], 2),
    "400, prompt too long": ("short", KEY, "", student, ["400", "window"], 1),
    "400, filtered": ("filtered", KEY, "", student, ["400", "filter", "example"], 1),
    "400, no such model": ("nobody", KEY, "", student, ["400", "does not know this model"], 1),
    "400, a field refused": (
        "student",
        KEY,
        "",
        error(400, "Unsupported parameter: 'top_p'"),
        ["400", "top_p", "params="],
        1,
    ),
    "401": (
        "student",
        KEY,
        "",
        error(401, "Incorrect API key provided", "invalid_api_key"),
        ["401", "OPENAI_API_KEY"],
        1,
    ),
    "404": ("steady", KEY, "/v2", student, ["404", "base_url"], 1),
    "a key it does not know": (
        "steady",
        "sk-wrong",
        "",
        student,
        ["400", "No connected db", "OPENAI_API_KEY"],
        1,
    ),
}


@pytest.mark.parametrize("name, key, end, says, words, tries", FAULTS.values(), ids=FAULTS)
def test_an_error_of_the_proxy_is_one_model_error_with_advice_and_is_not_recorded(
    proxy, cache, name, key, end, says, words, tries
):
    proxy.upstream.answers[:], before = [says], len(proxy.upstream.asked)
    llm = LLM(name, cache, proxy.url + end, key, retries=1, timeout=20)
    try:
        with pytest.raises(ModelError) as caught:
            asyncio.run(llm.chat(MESSAGES))
    finally:
        proxy.upstream.answers[:] = [student]
    text = str(caught.value)
    assert (
        all(word in text for word in [f"{name} at {proxy.host}{end}", *words]) and key not in text
    ), text
    assert len(cache) == 0 and len(proxy.upstream.asked) - before == (
        tries if name == "student" else 0
    )
