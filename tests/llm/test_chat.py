"""One model: what is sent, one call for one request, and errors that say what to do."""

import asyncio
import json
import sqlite3
import warnings
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import numpy
import pytest
from conftest import Script

from semback import (
    LLM,
    CacheMiss,
    Language,
    ModelError,
    Node,
    ParameterError,
    Reply,
    ResponseCache,
    descend,
    evaluate,
)
from semback.cache.recording import canonical, key
from semback.errors import CacheError
from semback.llm import budget, default_params
from semback.llm.budget import price, priced_rows
from semback.usage import Usage

MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]


def chat(llm, **settings):
    return asyncio.run(llm.chat(MESSAGES, **settings))


def waiting(script, gate):
    """A transport that answers as the script does once the gate is open."""

    async def handle(request):
        reply = script.handle(request)
        await gate.wait()
        return reply

    return httpx2.MockTransport(handle)


async def settle():
    for _ in range(200):
        await asyncio.sleep(0)


# What is sent


@pytest.mark.parametrize(
    "model, params, sent",
    [
        ("gpt-4o-mini-2024-07-18", None, {"temperature": 0, "max_tokens": 1024}),
        ("llama-3.1-8b", {}, {"temperature": 0, "max_tokens": 1024}),
        (
            "m",
            {"temperature": 0.0, "top_p": 0.5},
            {"temperature": 0.0, "top_p": 0.5, "max_tokens": 1024},
        ),
        ("m", {"top_p": None}, {"temperature": 0, "max_tokens": 1024}),
        ("deepseek/deepseek-r1:free", None, {"temperature": 0, "max_tokens": 8192}),
        ("anthropic/claude-3.7-sonnet:thinking", None, {"max_tokens": 8192}),
        ("o3-mini", None, {"max_completion_tokens": 8192}),
        ("gpt-5.6-terra", None, {"max_completion_tokens": 8192}),
        (
            "openai/gpt-5.6-terra",
            {"reasoning_effort": "low"},
            {"max_completion_tokens": 8192, "reasoning_effort": "low"},
        ),
        (
            "m",
            {"temperature": None, "max_tokens": None, "max_completion_tokens": 5},
            {"top_p": 1, "max_completion_tokens": 5},
        ),
        (
            "m",
            {"temperature": 0.7, "stop": ["\n"], "my_servers_own": {"x": 1}},
            {
                "temperature": 0.7,
                "top_p": 1,
                "max_tokens": 1024,
                "stop": ["\n"],
                "my_servers_own": {"x": 1},
            },
        ),
    ],
)
def test_a_request_holds_the_defaults_of_the_model_with_params_laid_over_and_none_takes_one_out(
    script, model, params, sent
):
    said = script("Four.")
    chat(said.llm(model, params=params))
    assert said.asked == [{"model": model, "messages": MESSAGES, **sent}]


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o-mini", "gpt-4-turbo-2024-04-09", "simulated-coach", "llama-3.1-8b", "gpt-4.1"),
        *("Qwen/Qwen3-30B-A3B-Instruct-2507", "deepseek-chat", "claude-3-5-haiku", "gemma-3-27b"),
    ],
)
def test_the_limit_of_a_model_that_does_not_think_and_so_its_keys_are_as_ever(model):
    assert default_params(model) == {"temperature": 0, "top_p": 1, "max_tokens": 1024}


@pytest.mark.parametrize(
    "model",
    [
        *("deepseek-reasoner", "DeepSeek-R1-Distill-Qwen-7B", "qwq-32b", "Qwen3-8B", "glm-4.5-air"),
        *("qwen3-235b-a22b-thinking-2507", "magistral-small", "gemini-2.5-flash", "gemini-3-pro"),
        *("gpt-oss-20b", "kimi-k2-thinking", "claude-opus-4-thinking", "grok-4", "o3-mini"),
    ],
)
def test_a_model_that_thinks_has_a_limit_with_room_for_its_thoughts(model):
    params = default_params(model)
    assert max(params.get("max_tokens", 0), params.get("max_completion_tokens", 0)) == 8192


def test_what_was_recorded_with_top_p_is_found_and_a_recording_still_holds_it(script, cache):
    reply = chat(script("Four.").llm("m", cache))
    request = {"model": "m", "messages": MESSAGES, "temperature": 0, "top_p": 1, "max_tokens": 1024}
    assert reply.key == key(request) and cache.get(reply.key)["request"] == request


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "messages, sent",
    [
        ([SYSTEM, *MESSAGES], [{"role": "user", "content": "Be brief.\n\nWhat is 2 + 2?"}]),
        (
            [SYSTEM, *MESSAGES, {"role": "assistant", "content": "5"}, *MESSAGES],
            [
                {"role": "user", "content": "Be brief.\n\nWhat is 2 + 2?"},
                {"role": "assistant", "content": "5"},
                *MESSAGES,
            ],
        ),
        ([SYSTEM], [{"role": "user", "content": "Be brief."}]),
        (MESSAGES, MESSAGES),
    ],
)
def test_a_system_message_goes_into_the_users_where_that_is_set(script, cache, messages, sent):
    scripted, before = script("Four."), json.dumps(messages)
    llm = scripted.llm("m", cache, system="user")
    key = asyncio.run(llm.chat(messages)).key
    assert scripted.asked[0]["messages"] == cache.get(key)["request"]["messages"] == sent
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"system": "none"},
        {"headers": {"x": 1}},
        {"headers": {"x y": "1"}},
        {"headers": {"x": "1\n2"}},
        {"headers": "x: 1"},
        {"retries": None, "timeout": None},
        {"model": ""},
        {"model": None},
        {"in_flight": 0},
        {"params": {"n": 2}},
        {"params": {"stream": True}},
        {"params": {"messages": []}},
        {"params": {"temperature": float("nan")}},
        {"params": {"stop": {1, 2}}},
        {"in_flight": 1.5},
        {"retries": "5"},
        {"retries": -1},
        {"timeout": float("nan")},
        {"budget": 5},
        {"params": {"max_tokens": "abc"}},
        {"params": {"max_completion_tokens": -5}},
        {"cache": "cache"},
        {"base_url": 8000},
        {"api_key": 5},
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_is_a_parameter_error(arguments):
    with pytest.raises(ParameterError):
        LLM(**{"model": "m", **arguments})


def test_a_model_samples_unless_its_temperature_is_0():
    assert (
        not LLM("m").samples
        and LLM("m", params={"temperature": None}).samples
        and LLM("o3-mini").samples
    )
    assert (
        LLM("m", params={"temperature": 0.1}).samples
        and not LLM("m", params={"temperature": 0.0}).samples
    )


def test_without_key_and_endpoint_the_error_says_what_to_set_but_what_is_recorded_needs_neither(
    script, cache
):
    with pytest.raises(ModelError, match="OPENAI_API_KEY.*OPENAI_BASE_URL.*simulated"):
        chat(LLM("scripted", cache))
    live = chat(script("Four.").llm(cache=cache))
    assert chat(LLM("scripted", cache)) == replace(live, recorded=True)


def test_nothing_on_disk_holds_the_key(script, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1")
    chat(script("Yes.").llm(cache=cache))
    chat(script("Yes.").llm(cache=cache, api_key="sk-secret-2"), draw=1)
    cache.export(tmp_path / "r.jsonl")
    files = [path.read_bytes().lower() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2 and not any(
        word in data for data in files for word in (b"sk-secret", b"authorization", b"user-agent")
    )


def test_one_model_serves_one_event_loop_after_the_other(script):
    llm = script("Four.").llm()
    assert [chat(llm).text for _ in range(3)] == ["Four."] * 3


# One call for one request


def test_64_tasks_with_one_request_make_one_call(script, cache):
    said = script("Four.")

    async def story():
        llm = said.llm(cache=cache)
        return await asyncio.gather(*(llm.chat(MESSAGES) for _ in range(64)))

    assert {reply.text for reply in asyncio.run(story())} == {"Four."} and len(said.asked) == 1


def test_no_more_than_in_flight_requests_run_at_one_time(script):
    async def story():
        gate, said = asyncio.Event(), script("Four.")
        llm = LLM("m", transport=waiting(said, gate), in_flight=3)
        calls = [asyncio.create_task(llm.chat(MESSAGES, draw=draw)) for draw in range(8)]
        while len(said.asked) < 3 and not any(
            call.done() for call in calls
        ):  # a call that is done has failed
            await asyncio.sleep(0)
        await settle()
        assert len(said.asked) == 3
        gate.set()
        await asyncio.gather(*calls)
        assert len(said.asked) == 8

    asyncio.run(story())


def test_cancelling_one_waiter_leaves_the_call_to_the_others(script, cache):
    async def story():
        gate, said = asyncio.Event(), script("Four.")
        llm = LLM("m", cache, transport=waiting(said, gate))
        calls = [asyncio.create_task(llm.chat(MESSAGES)) for _ in range(3)]
        await settle()
        calls[0].cancel()
        await settle()
        gate.set()
        assert (
            [(await call).text for call in calls[1:]] == ["Four."] * 2
            and calls[0].cancelled()
            and len(said.asked) == 1
        )

    asyncio.run(story())


def test_an_answer_that_all_waiters_left_is_kept(script, cache):
    async def story():
        gate, said = asyncio.Event(), script("Four.")
        llm = LLM("m", cache, transport=waiting(said, gate))
        call = asyncio.create_task(llm.chat(MESSAGES))
        await settle()
        call.cancel()
        gate.set()
        await settle()
        assert (
            call.cancelled()
            and len(cache) == 1
            and (await llm.chat(MESSAGES)).recorded
            and len(said.asked) == 1
        )

    asyncio.run(story())


def test_two_caches_of_one_folder_make_one_call_for_one_request(tmp_path):
    caches, said = [ResponseCache(tmp_path / "shared") for _ in range(2)], Script("Four.")

    async def story():
        return [
            reply.recorded
            for reply in await asyncio.gather(
                *(said.llm(cache=each).chat(MESSAGES) for each in caches)
            )
        ]

    assert sorted(asyncio.run(story())) == [False, True] and len(said.asked) == 1
    for each in caches:
        each.close()


def test_where_processes_cannot_see_one_another_the_answer_that_was_stored_first_counts_for_all(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ResponseCache, "single_flight", lambda self, key: nullcontext())
    caches = [ResponseCache(tmp_path / "shared") for _ in range(2)]

    async def story():
        gates = [asyncio.Event(), asyncio.Event()]
        calls = [
            asyncio.create_task(
                LLM("m", cache, transport=waiting(Script(text), gate)).chat(MESSAGES)
            )
            for cache, text, gate in zip(caches, ["Slow.", "Fast."], gates)
        ]
        await settle()
        gates[1].set()
        await calls[1]
        gates[0].set()
        return [(await call).text for call in calls]

    assert asyncio.run(story()) == ["Fast.", "Fast."]
    for each in caches:
        each.close()


# What comes back


def response(status=200, data=None, text=None, **headers):
    """A response as it comes from a network, not yet read."""
    content = json.dumps(data) if text is None else text
    headers = {"content-type": "application/json" if text is None else "text/html"} | headers
    return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(content.encode()))


def choices(*choices, **more):
    return response(
        data={
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m-1",
            "choices": list(choices),
            **more,
        }
    )


@pytest.mark.parametrize(
    "reply, said",
    [
        pytest.param(
            response(text="<html>Sign in</html>"), ["<html>", "OpenAI-compatible"], id="HTML"
        ),
        pytest.param(choices(), ["OpenAI-compatible"], id="no choices"),
        pytest.param(
            choices(usage={}, error={"message": "overloaded"}),
            ["overloaded"],
            id="an error with status 200",
        ),
        pytest.param(choices({}), ["OpenAI-compatible"], id="a choice without message"),
        pytest.param(choices({"message": None}), ["OpenAI-compatible"], id="message is null"),
        pytest.param(
            choices({"message": {"content": {"type": "text"}}}),
            ["OpenAI-compatible"],
            id="content is no text",
        ),
        pytest.param(response(data=[]), ["OpenAI-compatible"], id="a list"),
        pytest.param(
            response(text='{"choices": [{', **{"content-type": "application/json"}),
            ["broken JSON", "run again"],
            id="broken JSON",
        ),
        pytest.param(
            response(400, {"error": {"message": "Unsupported: top_p"}}),
            ["400", "Unsupported: top_p", "params="],
            id="400",
        ),
        pytest.param(
            response(401, {"error": {"message": "Incorrect API key"}}),
            ["401", "Incorrect API key", "OPENAI_API_KEY"],
            id="401",
        ),
        pytest.param(
            response(404, {"error": {"message": "No model m"}}),
            ["404", "No model m", "shut down"],
            id="404",
        ),
        pytest.param(
            response(429, {"error": {"message": "Rate limit"}}),
            ["429", "Rate limit", "in_flight"],
            id="429",
        ),
        pytest.param(response(500, text="Oops"), ["500", "Oops", "run again"], id="500"),
        pytest.param(
            response(500, {"error": "no object"}, **{"x-request-id": "req_1"}),
            ["500", "req_1"],
            id="500 with text as error",
        ),
    ],
)
def test_what_is_no_reply_is_a_model_error_with_advice_and_is_not_recorded(
    script, cache, reply, said
):
    with pytest.raises(ModelError) as error:
        chat(script(reply).llm("m", cache, retries=0))
    text = str(error.value)
    assert "m at simulated" in text and all(part in text for part in said), text
    assert len(cache) == 0


def test_a_lost_connection_is_a_model_error_and_not_recorded(cache):
    def lost(request):
        raise httpx2.ConnectError("All connection attempts failed")

    with pytest.raises(ModelError, match="All connection attempts failed.*address"):
        chat(LLM("m", cache, transport=httpx2.MockTransport(lost), retries=0))
    assert len(cache) == 0


def test_an_error_reaches_every_waiter_and_the_next_call_asks_again(script, cache):
    said = script([response(500, text="Oops"), "Four."])

    async def story():
        llm = said.llm(cache=cache, retries=0)
        errors = await asyncio.gather(
            *(llm.chat(MESSAGES) for _ in range(3)), return_exceptions=True
        )
        assert [type(error) for error in errors] == [ModelError] * 3
        return await llm.chat(MESSAGES)

    assert asyncio.run(story()).text == "Four." and len(said.asked) == 2


@pytest.mark.parametrize(
    "reply, text, finish_reason",
    [
        ({"message": {"content": None, "refusal": "I will not."}}, "", "refusal"),
        ({"finish_reason": "content_filter"}, "", "content_filter"),
        ({"finish_reason": "length", "message": {"content": "Fou"}}, "Fou", "length"),
        ({"message": {"content": None}}, "", "stop"),
        ({"message": {"content": []}}, "", "stop"),
        ({"message": {"content": [{"type": "image_url"}]}}, "", "stop"),
        ({"finish_reason": "length", "message": {"content": [{"type": "thinking"}]}}, "", "length"),
        ({"finish_reason": "length", "message": {"content": None}}, "", "length"),
        *[
            ({"finish_reason": name}, "", "length")
            for name in ("MAX_TOKENS", "max_tokens", "model_length", "FinishReason.MAX_TOKENS")
        ],
        *[
            ({"finish_reason": name}, "", "content_filter")
            for name in ("SAFETY", "RECITATION", "content_filtered", "PROHIBITED_CONTENT")
        ],
        ({"finish_reason": None, "message": {"content": "Four."}}, "Four.", "stop"),
        ("Yes \ud83d", "Yes \ufffd", "stop"),
    ],
)
def test_a_refusal_a_cut_reply_and_an_empty_one_are_recorded_as_what_they_are(
    script, cache, reply, text, finish_reason
):
    if isinstance(reply, dict):
        reply = {"message": {"content": None}, **reply}
    live = chat(script(reply).llm(cache=cache))
    assert (live.text, live.finish_reason, len(cache)) == (text, finish_reason, 1)
    again = chat(script("Four.").llm(cache=cache))
    assert again == replace(live, recorded=True)
    usage = Usage()
    usage.add("forward", "m", again)
    (count,) = usage.rows()
    assert (count["refused"], count["cut"]) == (
        finish_reason in ("refusal", "content_filter"),
        finish_reason == "length",
    )


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}]
)
def test_a_server_that_counts_no_tokens_is_counted_as_none(script, cache, usage):
    said = script(
        choices(
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Four."},
            },
            usage=usage,
        )
    )
    reply = chat(said.llm(cache=cache))
    usage = Usage()
    usage.add("forward", "m", reply)
    assert (
        reply.text == "Four." and usage.rows()[0]["prompt_tokens"] == 0 and json.dumps(usage.rows())
    )


def test_a_reply_in_parts_is_taken_whole_and_without_a_count_has_no_price(script, cache):
    parts = [
        {"type": "thinking", "thinking": "2 + 2"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "four."},
    ]
    said = script(
        choices(
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": parts},
            },
            usage=None,
        )
    )
    usage = Usage()
    usage.add("forward", "gpt-4o-mini-2024-07-18", reply := chat(said.llm(cache=cache)))
    assert (
        reply.text == "It is four."
        and usage.rows()[0]["uncounted"] == 1
        and priced_rows(usage)[0]["cost"] is None
    )


def test_prices_are_known_unknown_or_nothing():
    assert price("gpt-4o-mini-2024-07-18", 1_000_000, 1_000_000) == pytest.approx(0.15 + 0.60)
    assert (
        price("nobodys-model-7", 1_000_000, 0) is None
        and price("simulated-coach", 1_000_000, 0) == 0
    )


def test_what_is_recorded_is_priced_as_of_one_time_so_that_a_rerun_says_the_same(monkeypatch):
    usage, cheaper_at_night = Usage(), "deepseek-v4-flash"
    usage.add(
        "forward",
        cheaper_at_night,
        Reply("", "stop", {"prompt_tokens": 10**6, "completion_tokens": 0}, "", True, "00"),
    )
    costs = []
    for hour in (3, 17):
        monkeypatch.setattr(budget, "PRICED", when := datetime(2026, 11, 1, hour, tzinfo=UTC))
        costs.append(priced_rows(usage)[0]["cost"])
        assert costs[-1] == price(cheaper_at_night, 10**6, 0, when=when)
    assert costs[0] == 2 * costs[1]


def test_an_old_recording_with_another_name_for_a_cut_reply_is_read_as_one(cache):
    request = {"model": "m", "messages": MESSAGES, "temperature": 0, "top_p": 1, "max_tokens": 1024}
    old = {"text": "Fo", "finish_reason": "MAX_TOKENS", "model": "m", "usage": {}}
    entry = {"request": request, "draw": 0, "reply": old, "source": {"host": "example.org"}}
    cache.add(key(request), entry)
    assert chat(LLM("m", cache)).finish_reason == "length"


def test_a_reply_that_is_all_thoughts_names_the_limit_and_how_to_raise_it(script):
    cut = {"finish_reason": "length", "message": {"content": "<think>Two and"}}
    lang = Language(script([cut, "4"]).llm("m"))
    assert asyncio.run(lang.forward(Node("a", "Add."), "2 + 2?", {})) == "4"
    assert "limit; raise it (max_tokens in params)" in lang.usage.failures[0]["problem"]


def reports(prompt_tokens, completion_tokens=3):
    """A reply that reports these numbers of tokens."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return choices({"finish_reason": "stop", "message": {"content": "Four."}}, usage=usage)


@pytest.mark.parametrize(
    "characters, tokens, truncated",
    [(150_000, 2048, True), (150_000, 37_500, False), (150_000, 0, False), (20, 7, False)],
)
def test_a_prompt_that_the_server_cut_is_said_once_with_both_numbers_and_counted(
    script, cache, characters, tokens, truncated
):
    llm, usage = script(lambda body: reports(tokens)).llm("m", cache), Usage()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for draw in (0, 0, 1):
            reply = asyncio.run(llm.chat([{"role": "user", "content": "x" * characters}], draw))
            assert reply.truncated is truncated
            usage.add("forward", "m", reply)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == truncated and all(
        "150,000 c" in text and "2,048" in text for text in texts
    )
    (row,) = usage.rows()
    assert row.get("truncated", 0) == 3 * truncated and ("truncated" in row) == truncated


def test_tokens_that_no_reply_can_have_are_said_once(script):
    llm = script([reports(10**9), reports(10**9), "Four."]).llm(tokens_per_minute=6 * 10**6)
    with pytest.warns(
        UserWarning, match="1,000,000,003 tokens, more than tokens_per_min"
    ) as caught:
        assert chat(llm, draw=0).text == "Four." and chat(llm, draw=1).text == "Four."
    assert len(caught) == 1


# What cannot be sent


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "\ud83d is half of a character"}],
        [{"role": "user", "content": object()}],
        ["just text"],
        None,
    ],
    ids=lambda given: str(given).split(" at 0x")[0],
)
def test_messages_that_are_not_text_are_a_parameter_error_before_anything_is_sent(messages, cache):
    said = Script("Four.")
    with pytest.raises(ParameterError, match="cannot be sent as JSON text"):
        asyncio.run(said.llm(cache=cache).chat(messages))
    assert not said.asked and not len(cache)


def test_messages_that_are_changed_meanwhile_are_recorded_as_they_were_sent(script, cache):
    async def story():
        gate, scripted, messages = asyncio.Event(), script("Four."), [dict(MESSAGES[0])]
        llm = LLM("m", cache, transport=waiting(scripted, gate))
        call = asyncio.create_task(llm.chat(messages))
        await settle()
        messages.append({"role": "assistant", "content": "x"})
        messages[0]["content"] = "y"
        gate.set()
        await call
        return (await llm.chat(MESSAGES)).recorded and len(scripted.asked)

    assert asyncio.run(story()) == 1 and len(cache) == 1


@pytest.mark.parametrize("draw", [True, 1.0, numpy.int64(1), "1", None], ids=repr)
def test_a_draw_that_is_no_int_is_refused_before_anything_is_sent(script, cache, draw):
    said = script("Four.")
    llm = said.llm(cache=cache)
    chat(llm, draw=1)
    with pytest.raises(ParameterError, match="draw"):
        chat(llm, draw=draw)
    assert len(said.asked) == 1


def test_a_call_after_one_that_was_refused_to_the_end_has_all_its_tries(script, monkeypatch):
    monkeypatch.setattr("semback.llm.limits.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("semback.llm.client.FIRST_RETRY", 0.01)
    busy = [httpx2.Response(429, json={"error": {"message": "not now"}}) for _ in range(4)]
    said = script([*busy, "Four."])
    llm = said.llm(retries=2)

    async def story():
        with pytest.raises(ModelError, match="429"):
            await llm.chat(MESSAGES)
        return (await llm.chat(MESSAGES)).text

    assert asyncio.run(story()) == "Four." and len(said.asked) == 5


def test_of_many_requests_that_are_missing_in_replay_none_looks_for_the_nearest_until_it_is_shown(
    script, tmp_path, task
):
    with closing(ResponseCache(tmp_path / "c")) as recording:
        asyncio.run(script("Four.").llm("m", recording).chat(MESSAGES))
    with closing(ResponseCache(tmp_path / "c", "replay")) as cache:
        llm = LLM("m", cache)
        with pytest.raises(CacheMiss) as error:
            asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
        assert "_found" not in vars(error.value) and "nearest" in str(error.value)


def test_equal_texts_in_other_places_are_other_requests(cache):
    one, two = (
        [{"role": "user", "content": "a", "name": "b"}],
        [{"role": "user", "content": "a"}, {"name": "b"}],
    )
    said = Script(["One.", "Two."])
    llm = said.llm(cache=cache)
    assert [asyncio.run(llm.chat(messages)).text for messages in (one, two, one, two)] == [
        "One.",
        "Two.",
        "One.",
        "Two.",
    ]


def test_the_error_for_a_prompt_that_is_too_long_names_the_node_and_the_size_of_each_part():
    too_long = {"error": {"message": "too many tokens", "code": "context_length_exceeded"}}
    llm = Script(httpx2.Response(400, json=too_long)).llm()
    backward = Language(llm, llm).backward(
        Node("judge", "Judge.", ("hint",)), "four" * 1000, {"hint": "too " * 5000}, "Yes.", "No."
    )
    with pytest.raises(
        ModelError,
        match=r"backward of node 'judge': .*answered 400.*user message 2\d,\d+, from hint 20,000, "
        "question 4,000",
    ):
        asyncio.run(backward)


def altered(cache, key, value):
    """Overwrite the value of a row of the table itself, behind the cache's back."""
    cache.close()
    with closing(sqlite3.connect(cache.folder / "responses" / "cache.db")) as table, table:
        table.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, key))


def test_a_row_that_holds_the_answer_to_another_question_is_refused(cache):
    said = Script(["Four.", "Five."])
    llm = said.llm(cache=cache)
    one, two = (asyncio.run(llm.chat([{"role": "user", "content": text}])).key for text in "ab")
    altered(cache, one, canonical(cache.get(two)))
    with pytest.raises(CacheError, match="was altered: it is not a recorded reply to this request"):
        asyncio.run(llm.chat([{"role": "user", "content": "a"}]))


def test_what_answered_under_another_name_is_counted_and_shown(task):
    said = Script("Answer: 1")  # it answers as "m-2024-07-18"
    run = asyncio.run(descend(task, Language(said.llm("m"), said.llm("m")), steps=0))
    assert run.usage.rows()[0]["answered_by"] == {
        "m-2024-07-18": 36
    } and "answered by m-2024-07-18" in repr(run)
