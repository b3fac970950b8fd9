"""What was sent is paid for: however a run ends, its answer is recorded; and nothing is sent once nobody waits for it."""

import asyncio
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy
import pytest
from conftest import ASK_NINE, Script, interrupted
from servers import Endpoint, delay, good

from semback import LLM, Budget, Language, ModelError, ParameterError, ResponseCache, evaluate
from semback.errors import CacheError

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]


def late(script, seconds=0.1):
    async def handle(request):
        reply = script.handle(request)
        await asyncio.sleep(seconds)
        return reply

    return httpx2.MockTransport(handle)


def refusing(place, seconds):
    """A transport that knows no key at request number `place` and fails, after so many seconds, at all others; and what it was asked."""
    asked = []

    async def handle(request):
        asked.append(request)
        if len(asked) == place:
            return httpx2.Response(401, json={"error": {"message": "no such key"}})
        await asyncio.sleep(seconds)
        return httpx2.Response(500, json={"error": {"message": "oops"}})

    return httpx2.MockTransport(handle), asked


def question(number):
    return [{"role": "user", "content": f"Question {number}"}]


def told(usage):
    return lambda body: httpx2.Response(
        200,
        json={
            "model": "m",
            "usage": usage,
            "choices": [
                {"finish_reason": "stop", "message": {"role": "assistant", "content": "Four."}}
            ],
        },
    )


# At the end of a script


def test_what_another_model_has_sent_is_kept_when_the_budget_they_share_is_spent(cache):
    one, two, budget = Script("One."), Script("Two."), Budget(calls=4)
    first, second = (
        LLM(name, cache, transport=late(said), budget=budget)
        for name, said in (("one", one), ("two", two))
    )

    async def story():
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(second.chat(question(number)))
            await asyncio.sleep(0.05)
            for number in range(3):
                group.create_task(first.chat(question(number)))

    with pytest.raises(ExceptionGroup):
        asyncio.run(story())
    assert len(cache) == len(one.asked) + len(two.asked) == 4


def test_what_is_on_its_way_is_kept_when_a_prompt_is_too_long(cache):
    said = Script("Four.")
    llm = LLM("m", cache, transport=late(said), window=100)

    async def story():
        calls = [asyncio.create_task(llm.chat(question(number))) for number in range(5)]
        await asyncio.sleep(0.05)
        await asyncio.gather(llm.chat([{"role": "user", "content": "x" * 1000}]), *calls)

    with pytest.raises(ModelError, match="window"):
        asyncio.run(story())
    assert len(cache) == len(said.asked) == 5


def test_what_an_evaluation_has_sent_is_kept_when_the_users_own_code_fails(cache, task):
    said, read = Script("Answer: 1"), []

    object.__setattr__(task, "read", lambda reply: read.append(reply) or {}["mine"])
    llm = LLM("m", cache, transport=late(said))
    with pytest.raises(KeyError, match="mine"):
        asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
    assert read and len(cache) == len({str(body) for body in said.asked}) == len(said.asked)


def test_the_first_error_ends_the_tries_of_the_others_and_is_the_one_that_is_raised(cache, task):
    transport, asked = refusing(3, 0.2)
    llm = LLM("m", cache, transport=transport, retries=50)
    with pytest.raises(ModelError, match="no such key"):
        asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
    assert len(asked) <= 24  # each question's first request, and no second


def test_the_error_of_one_call_does_not_wait_for_all_the_tries_of_another(cache):
    transport, asked = refusing(2, 0.1)

    async def story():
        llm = LLM("m", cache, transport=transport, retries=50)
        await asyncio.gather(*(llm.chat(question(number)) for number in range(2)))

    with pytest.raises(ModelError, match="no such key"):
        asyncio.run(story())
    assert len(asked) <= 3


@pytest.mark.parametrize("status, kept", [(200, 3), (500, 0)])
def test_a_loop_that_ends_waits_for_what_is_on_its_way_and_tries_nothing_again(cache, status, kept):
    script = Script(
        "Four."
        if status == 200
        else lambda body: httpx2.Response(status, json={"error": {"message": "oops"}})
    )
    llm = LLM("scripted", cache, transport=late(script), in_flight=3)

    async def story():
        calls = [asyncio.create_task(llm.chat(question(number))) for number in range(5)]
        await asyncio.sleep(0.05)
        raise ZeroDivisionError(len(calls))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(story())
    assert len(cache) == kept and len(script.asked) == 3


@pytest.mark.parametrize(
    "seconds, interrupts, kept", [(1.5, 1, 3), (60, 2, 0)], ids=["once", "twice"]
)
def test_a_script_that_is_interrupted_records_what_is_on_its_way_unless_it_is_interrupted_again(
    own_home, seconds, interrupts, kept
):
    with Endpoint(delay(seconds, good)) as server:
        said, error, code = interrupted(
            f"{ASK_NINE}\nasyncio.run(ask_nine(sys.argv[1]))", server, interrupts
        )
    assert (
        said
        == "semback: waiting for 3 answers that are on their way, to record them. Ctrl-C gives them up.\n"
    )
    assert "\nKeyboardInterrupt\n" in error and code == -signal.SIGINT
    assert len(server.asked) == 3 and len(ResponseCache()) == kept


# What is recorded is what was sent


def test_messages_that_are_changed_while_they_are_asked_are_recorded_as_they_were_sent(
    script, cache
):
    async def story():
        said, messages = script("Four."), [dict(ASKED[0])]
        llm = LLM("m", cache, transport=late(said))
        call = asyncio.create_task(llm.chat(messages))
        await asyncio.sleep(0.05)
        call.cancel()  # an interrupted cell
        messages.append({"role": "assistant", "content": "x"})  # and the next one
        messages[0]["content"] = "y"
        await asyncio.sleep(0.1)
        return (await llm.chat(ASKED)).recorded and len(said.asked)

    assert asyncio.run(story()) == 1 and len(list(cache.entries())) == 1


@pytest.mark.parametrize("draw", [True, 1.0, numpy.int64(1), "1", None], ids=repr)
def test_a_draw_that_is_no_whole_number_is_refused_before_anything_is_sent(script, cache, draw):
    said = script("Four.")
    llm = said.llm(cache=cache)
    asyncio.run(llm.chat(ASKED, draw=1))
    for ask in (
        lambda: asyncio.run(llm.chat(ASKED, draw=draw)),
        lambda: llm.recorded([ASKED], draw=draw),
    ):
        with pytest.raises(ParameterError, match="draw"):
            ask()
    assert len(said.asked) == 1


@pytest.mark.parametrize(
    "usage, kept",
    [
        (None, {}),
        ("n/a", {}),
        (
            {"prompt_tokens": 7.0, "completion_tokens": 3, "total_tokens": "n/a"},
            {"prompt_tokens": 7, "completion_tokens": 3},
        ),
        ({"prompt_tokens": -5, "completion_tokens": 10**400, "total_tokens": 1e9}, {}),
        ({"prompt_tokens": True, "completion_tokens": 0.5}, {}),
    ],
    ids=str,
)
def test_a_reply_with_odd_token_counts_is_recorded_and_paid_for_once(script, cache, usage, kept):
    said = script(told(usage))
    llm = said.llm("gpt-4o-mini", cache, budget=Budget(dollars=1), tokens_per_minute=10**6)
    assert asyncio.run(llm.chat(ASKED)).usage == kept and len(said.asked) == len(cache) == 1


def test_tokens_that_an_endpoint_does_not_tell_are_estimated_for_the_budget(script):
    said = script(told(None))
    llm = said.llm(budget=Budget(tokens=100))
    with pytest.raises(ModelError, match="budget of 100 tokens is spent"):
        for number in range(20):
            asyncio.run(llm.chat(question(number)))
    assert 1 < len(said.asked) < 6


def test_a_call_that_failed_is_not_tried_again_when_the_budget_is_spent_meanwhile(script, cache):
    said = script(
        [
            told({"prompt_tokens": 50, "completion_tokens": 50})(None),
            httpx2.Response(500, json={"error": {"message": "oops"}}),
        ]
    )
    llm = LLM("m", cache, transport=late(said), budget=Budget(tokens=60), retries=5)

    async def story():
        return await asyncio.gather(
            llm.chat(question(1)), llm.chat(question(2)), return_exceptions=True
        )

    assert "budget" in str(asyncio.run(story())[1]) and len(said.asked) == 2


# After an error


def test_a_call_after_one_that_was_refused_to_the_end_has_all_its_tries(script):
    said = script(
        [httpx2.Response(429, json={"error": {"message": "not now"}}) for _ in range(4)] + ["Four."]
    )
    llm = said.llm(retries=2)

    async def story():
        with pytest.raises(ModelError, match="429"):
            await llm.chat(ASKED)
        return (await llm.chat(ASKED)).text

    assert asyncio.run(story()) == "Four." and len(said.asked) == 5


def test_a_table_that_is_damaged_while_it_is_open_is_a_cache_error(tmp_path):
    cache = ResponseCache(tmp_path / "c")
    cache.close()
    (tmp_path / "c" / "responses").rename(tmp_path / "away")
    with pytest.raises(CacheError, match="could not be read"):
        cache.get("0" * 64)


def test_what_is_recorded_after_the_table_was_moved_away_is_in_a_new_one(script, tmp_path):
    cache = ResponseCache(tmp_path / "c")
    llm = script("Four.").llm(cache=cache)
    asyncio.run(llm.chat(question(1)))
    (tmp_path / "c" / "responses").rename(tmp_path / "away")
    with pytest.warns(UserWarning, match="moved away"):
        asyncio.run(llm.chat(question(2)))
    cache.close()
    again = ResponseCache(tmp_path / "c")
    assert len(again) == 1
    again.close()


def test_of_many_requests_that_are_missing_in_replay_the_nearest_is_looked_for_once(
    script, tmp_path, task
):
    asyncio.run(script("Four.").llm("m", recording := ResponseCache(tmp_path / "c")).chat(ASKED))
    recording.close()
    cache = ResponseCache(tmp_path / "c", "replay")
    looked, explain = [], cache.explain
    cache.explain = lambda *asked: looked.append(asked) or explain(*asked)
    llm = LLM("m", cache)
    with pytest.raises(CacheError) as error:
        asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
    assert (
        not looked
        and "The nearest is" in str(error.value)
        and "The nearest is" in str(error.value)
        and len(looked) == 1
    )
    cache.close()


def test_the_letters_of_an_image_are_no_prompt(script):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    assert asyncio.run(script("A square.").llm(window=1000).chat(messages)).text == "A square."


def test_two_threads_never_have_one_claim(tmp_path):
    cache, before = ResponseCache(tmp_path / "c"), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            for number in range(300):
                key = f"{number:064x}"
                assert sorted(pool.map(cache.claim, [key] * 2)) == [False, True]
                cache.release(key)
    finally:
        sys.setswitchinterval(before)
        cache.close()


def test_a_process_forked_while_another_thread_claims_can_claim_too(tmp_path):
    code = """
import os, sys, threading, warnings
from semback import ResponseCache

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
cache, ended = ResponseCache(sys.argv[1]), threading.Event()

def claiming():
    while not ended.is_set():
        cache.claim("a" * 64)
        cache.release("a" * 64)

cache.claim("b" * 64)
(thread := threading.Thread(target=claiming)).start()
for _ in range(100):
    if not (process := os.fork()):
        os._exit(cache.claim("c" * 64))
    assert os.waitpid(process, 0)[1] == 256
ended.set()
thread.join()
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "c"], check=True, timeout=60)
