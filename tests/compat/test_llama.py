"""llama.cpp's own server with a tiny model of random weights; `make compat` runs this."""

import asyncio
import json
import re
import socket
import subprocess
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from semback import LLM, Language, ModelError, ResponseCache, descend, evaluate, tasks

PYTHON = Path(__file__).parents[2] / ".venv-compat" / "bin" / "python"
WINDOW = 32_768  # tokens, as in tiny_gguf.py; about one a byte

pytestmark = pytest.mark.skipif(
    not PYTHON.with_name("uvicorn").exists(),
    reason="llama.cpp's server is not installed: make compat",
)


@pytest.fixture
def server(tmp_path):
    """A running server: its `url`; `kill` ends it."""
    subprocess.run(
        [PYTHON, Path(__file__).with_name("tiny_gguf.py"), tmp_path / "tiny.gguf"], check=True
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [
        PYTHON,
        "-m",
        "llama_cpp.server",
        "--model",
        tmp_path / "tiny.gguf",
        "--model_alias",
        "tiny",
        "--n_ctx",
        str(WINDOW),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    process.url, deadline = f"http://127.0.0.1:{port}/v1", time.monotonic() + 60
    try:
        while not answers(process.url):
            assert process.poll() is None and time.monotonic() < deadline, (
                tmp_path / "log"
            ).read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url + "/models", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def model(server, cache, **settings):
    return LLM("tiny", cache, server.url, timeout=300, **{"params": {"max_tokens": 48}, **settings})


@pytest.mark.parametrize("category", ["boolean_expressions", "object_counting"])
@pytest.mark.parametrize(
    "settings", [{}, {"neighbourhood": False, "critique": True}], ids=["full", "critique"]
)
def test_gibberish_ends_in_counted_failures_and_no_instruction_and_replays_without_the_server(
    server, tmp_path, category, settings
):
    task = tasks.bbh(category, train=3)

    async def story(cache):
        lang = Language(*[model(server, cache)] * 2, **settings)
        return await evaluate(task.graph, task.test[:3], task, lang), await descend(
            task, lang, steps=2
        )

    with closing(ResponseCache(tmp_path / "cache")) as cache:
        scores, run = asyncio.run(story(cache))
        recorded = len(cache)
    assert (
        len(scores.rows) == 3
        and 0 <= scores.accuracy <= 1
        and scores.interval[0] <= scores.accuracy <= scores.interval[1]
    )
    for row in scores.rows:
        assert row.answer is None or row.answer in row.reply, (
            "an answer was read that the reply does not hold"
        )
    forward = [failure for failure in scores.usage.failures if failure["phase"] == "forward"]
    assert len(forward) >= scores.unreadable, (
        "each answer that could not be read is among the failures"
    )

    replies = {json.dumps(failure["reply"]) for failure in run.usage.failures}
    assert {"backward", "update"} & {failure["phase"] for failure in run.usage.failures} and len(
        replies
    ) > 1
    with closing(ResponseCache(tmp_path / "cache")) as cache:
        said = [entry["reply"]["text"] for _, entry in cache.entries()]
    blocks = {
        tag: any(re.search(rf"<{tag}[^\n>]*>.*</{tag}>", text, re.DOTALL) for text in said)
        for tag in ("instruction", "gradient")
    }
    for step in run.steps[1:]:
        assert step.candidate == task.graph or blocks["instruction"], (
            "gibberish became an instruction"
        )
        assert blocks["gradient"] or all(
            text is None
            for told in step.messages.values()
            for source, _, text in told
            if source == "answer"
        )
        assert step.scores is not None or set(step.kept) == {"hint_1", "hint_2", "answer"}

    server.kill()
    server.wait()
    with closing(ResponseCache(tmp_path / "cache", mode="replay")) as cache:
        scores_again, run_again = asyncio.run(story(cache))
        assert len(cache) == recorded
    assert scores_again.rows == scores.rows and run_again.steps == run.steps
    assert sorted(map(str, run_again.usage.failures)) == sorted(map(str, run.usage.failures))


def test_a_prompt_longer_than_the_window_is_one_error_that_says_so_and_is_not_recorded(
    server, tmp_path
):
    with closing(ResponseCache(tmp_path / "cache")) as cache:
        with pytest.raises(
            ModelError, match="400.*maximum context length.*longer than the model's window"
        ):
            asyncio.run(
                model(server, cache).chat([{"role": "user", "content": "hello " * (WINDOW // 5)}])
            )
        assert len(cache) == 0


def test_64_requests_at_one_time_are_answered_and_equal_requests_get_equal_replies(
    server, tmp_path
):
    messages = [{"role": "user", "content": "What is 2 + 2?"}]

    async def story(llm):
        return await asyncio.gather(*(llm.chat(messages, draw) for draw in range(64)))

    with closing(ResponseCache(tmp_path / "cache")) as cache:
        replies = asyncio.run(story(model(server, cache)))
    assert len({reply.text for reply in replies}) == 1 and all(
        reply.text and reply.model == "tiny" for reply in replies
    )
    assert all(
        reply.usage["completion_tokens"] <= 48 and reply.finish_reason in ("stop", "length")
        for reply in replies
    )
