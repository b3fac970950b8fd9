"""The proxy records and replays what any OpenAI client requests, in process and over loopback."""

import asyncio
import json
import subprocess
import threading
from contextlib import contextmanager

import httpx2
import openai
import pytest
from conftest import wait_until
from servers import GOOD, Endpoint, delay, error, good, html, raw, repeats_the_key

from semback import LLM, Budget, ParameterError, ResponseCache
from semback.llm import client
from semback.llm.client import Endpoint as Upstream
from semback.proxy import Proxy

pytestmark = pytest.mark.network
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
KEY = "sk-" + "distinctive-7c1e9b"
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
LOGPROBS = {"content": [{"token": "4", "logprob": -0.1, "bytes": [52], "top_logprobs": []}]}
RICH = {
    **GOOD,
    "service_tier": "default",
    "unknown": {"depth": [1, 2.5, None]},
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": LOGPROBS,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        },
        {
            "index": 1,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "It is  4.\n", "thoughts": "2 + 2"},
        },
    ],
}


def served(completion):
    return raw(json.dumps(completion).encode())


def numbered():
    """An endpoint's answers: 1, 2, 3 …"""
    count = 0

    async def answer(request):
        nonlocal count
        count += 1
        message = {"role": "assistant", "content": str(count)}
        return await served({**GOOD, "choices": [{**GOOD["choices"][0], "message": message}]})(
            request
        )

    return answer


def made(cache, url, token=None, budget=None, in_flight=64, retries=0, timeout=20):
    limits = {"in_flight": in_flight, "retries": retries, "timeout": timeout}
    endpoint = Upstream(url, **limits, budget=budget or Budget())
    return Proxy(cache, endpoint, token)


def using(proxy, story, **options):
    """Run a story of the proxy's address while it serves: a coroutine function, or one that runs
    in a thread, as other programs do beside the proxy."""

    async def run():
        async with proxy.serving(**options) as url:
            if asyncio.iscoroutinefunction(story):
                return await story(url)
            return await asyncio.to_thread(story, url)

    return asyncio.run(run())


@contextmanager
def sync(url, path="/v1", **options):
    options = {"api_key": "none", "max_retries": 0, **options}
    with openai.OpenAI(base_url=url + path, **options) as asker:
        yield asker


def ask(url, path="/v1", headers=None, **fields):
    """The text of a reply, requested by the real client."""
    fields = {"model": "m", "messages": MESSAGES, **fields}
    with sync(url, path) as asker:
        reply = asker.chat.completions.create(**fields, extra_headers=headers)
    return reply.choices[0].message.content


def curl(*arguments):
    """(status, headers, body)."""
    command = ["curl", "--silent", "--include", "--noproxy", "*", *arguments]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    head, _, body = text.partition("\n\n")
    return int(head.split()[1]), head.lower(), body


def post(url, body=None, *more, path="/v1"):
    data = json.dumps(body or {"model": "m", "messages": MESSAGES})
    header = ["--header", "Content-Type: application/json"]
    return curl(f"{url}{path}/chat/completions", *header, *more, "--data", data)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(client, "FIRST_RETRY", 0.01)


# The whole reply


def test_a_reply_is_recorded_whole_and_replayed_byte_by_byte(cache, tmp_path):
    body = {"model": "m", "messages": MESSAGES, "n": 2, "logprobs": True, "tools": [TOOL]}
    body |= {"response_format": {"type": "json_object"}, "unknown_field": {"x": 1}}
    with Endpoint(served(RICH)) as upstream:
        proxy = made(cache, upstream.url)
        bodies = using(proxy, lambda url: [post(url, body)[2] for _ in range(2)])
    assert upstream.asked == [body] and json.loads(bodies[0]) == RICH
    replay = made(ResponseCache(cache.folder, "replay"), upstream.url)
    bodies += using(replay, lambda url: [post(url, body)[2] for _ in range(2)])
    assert len(set(bodies)) == 1
    cache.export(tmp_path / "mine.jsonl.zst")
    other = ResponseCache(tmp_path / "other", "replay")
    other.load(tmp_path / "mine.jsonl.zst")
    assert using(made(other, upstream.url), lambda url: post(url, body)[2]) == bodies[0]


def test_the_sync_and_the_async_client_get_every_choice_tool_call_and_log_probability(cache):
    async def story(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as asker:
            return await asker.chat.completions.create(model="m", messages=MESSAGES, n=2)

    def sync_story(url):
        with sync(url) as asker:
            return asker.chat.completions.create(model="m", messages=MESSAGES, n=2)

    with Endpoint(served(RICH)) as upstream:
        proxy = made(cache, upstream.url)
        replies = [using(proxy, story), using(proxy, sync_story)]
    for reply in replies:
        assert reply.choices[0].message.tool_calls[1].function.arguments == '{"a": 2}'
        assert reply.choices[0].logprobs.content[0].logprob == -0.1
        assert reply.choices[1].message.content == "It is  4.\n"
        assert reply.choices[1].message.thoughts == "2 + 2" and reply.unknown["depth"][1] == 2.5
    assert len(upstream.asked) == 1


def test_a_stream_is_made_of_the_recorded_reply_and_has_no_key_of_its_own(cache):
    def story(url):
        with sync(url) as asker:
            options = {"model": "m", "messages": MESSAGES, "n": 2}
            plain = asker.chat.completions.create(**options)
            usage = {"include_usage": True}
            with asker.chat.completions.stream(**options, stream_options=usage) as stream:
                whole = stream.get_final_completion()
            chunks = list(asker.chat.completions.create(**options, stream=True))
        return plain, whole, chunks, post(url, {**options, "stream": True})

    with Endpoint(served(RICH)) as upstream:
        plain, whole, chunks, (status, head, text) = using(made(cache, upstream.url), story)
    assert upstream.asked == [{"model": "m", "messages": MESSAGES, "n": 2}]
    assert (status, "content-type: text/event-stream" in head) == (200, True)
    assert text.endswith("data: [DONE]\n\n") and not any(chunk.usage for chunk in chunks)
    assert whole.usage == plain.usage and whole.service_tier == "default"
    for one, two in zip(plain.choices, whole.choices, strict=True):
        calls = [call.function.arguments for call in one.message.tool_calls or []]
        assert [call.function.arguments for call in two.message.tool_calls or []] == calls
        assert (one.message.content, one.finish_reason) == (two.message.content, two.finish_reason)
    assert whole.choices[0].logprobs.content[0].token == "4"
    first = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == 1]
    assert first[0].delta.role == "assistant" and first[0].delta.thoughts == "2 + 2"
    assert [part.delta.content for part in first] == ["It is  4.\n", None]
    assert [part.finish_reason for part in first] == [None, "stop"]


def test_what_no_file_can_hold_is_replaced_in_a_reply(cache):
    body = json.dumps({**GOOD, "odd": "\ud800", "logprob": float("-inf")}).encode()
    with Endpoint(raw(body)) as upstream:
        reply = json.loads(using(made(cache, upstream.url), post)[2])
    assert (reply["odd"], reply["logprob"]) == ("\ufffd", None)


def test_llm_and_the_proxy_read_what_the_other_one_recorded(cache):
    with Endpoint(good) as upstream:
        llm = LLM("m", cache, upstream.url, "k", params={"max_tokens": 9})
        body = {"model": "m", "messages": MESSAGES, **llm.params}
        using(made(cache, upstream.url), lambda url: post(url, body))
        by_proxy = asyncio.run(llm.chat(MESSAGES))
        asyncio.run(llm.chat(MESSAGES, draw=1))
    assert by_proxy.recorded and by_proxy.text == "Four." and len(upstream.asked) == 2
    draw = ["--header", "X-Semback-Draw: 1"]
    replay = made(ResponseCache(cache.folder, "replay"), upstream.url)
    status, _, reply = using(replay, lambda url: post(url, body, *draw))
    reply = json.loads(reply)
    assert status == 200 and reply["choices"][0]["message"]["content"] == "Four."
    assert reply["usage"] == GOOD["usage"] and reply["model"] == GOOD["model"]


def test_a_tool_call_that_llm_recorded_without_it_is_an_error_and_not_an_empty_reply(cache):
    with Endpoint(served(RICH)) as upstream:
        llm = LLM("m", cache, upstream.url, "k", params={"tools": [TOOL]})
        asyncio.run(llm.chat(MESSAGES))
        body = {"model": "m", "messages": MESSAGES, **llm.params}
        status, _, text = using(made(cache, upstream.url), lambda url: post(url, body))
    assert status == 500 and "semback cache drop" in text


# Draws


def test_equal_requests_get_one_reply_without_a_session_and_one_each_within_it(cache):
    def story(url):
        plain = [ask(url) for _ in range(2)]
        named = [ask(url, headers={"X-Semback-Draw": draw}) for draw in ("1", "0", "-3")]
        session = [ask(url, "/s/mine/v1") for _ in range(3)]
        header = [ask(url, headers={"X-Semback-Session": "mine"})]
        other = [ask(url, "/s/other/v1", temperature=1), ask(url, "/s/other/v1")]
        assert curl("--request", "DELETE", f"{url}/s/mine")[0] == 204
        return plain, named, session, header, other, [ask(url, "/s/mine/v1") for _ in range(3)]

    with Endpoint(numbered()) as upstream:
        live = using(made(cache, upstream.url), story)
    assert live == (
        ["1", "1"],
        ["2", "1", "3"],
        ["1", "2", "4"],
        ["5"],
        ["6", "1"],
        ["1", "2", "4"],
    )
    replay = made(ResponseCache(cache.folder, "replay"), upstream.url)
    assert using(replay, story) == live and len(upstream.asked) == 6


def test_a_request_that_failed_takes_no_draw(cache):
    def story(url):
        with pytest.raises(openai.BadRequestError):
            ask(url, "/s/mine/v1")
        return post(url, path="/s/mine/v1")[1]

    with Endpoint(error(400, "oops"), good) as upstream:
        head = using(made(cache, upstream.url), story)
    assert "x-semback-draw: 0" in head and len(cache) == 1


# Errors


def test_a_miss_in_replay_is_a_404_that_names_the_nearest_recording_and_what_differs(cache):
    with Endpoint(served(RICH)) as upstream:
        using(made(cache, upstream.url), lambda url: ask(url, temperature=0))
    messages = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL]}]

    def story(url):
        with sync(url) as asker, pytest.raises(openai.NotFoundError) as caught:
            asker.chat.completions.create(model="m", messages=messages, temperature=1)
        return caught.value

    replay = made(ResponseCache(cache.folder, "replay"), upstream.url)
    miss = using(replay, story)
    assert miss.code == "not_recorded" and miss.response.headers["x-should-retry"] == "false"
    text = miss.body["message"]
    assert f"The nearest is {cache.keys()[0][:12]}" in text and "call_1" in text
    assert "temperature: requested 1, recorded 0" in text and len(upstream.asked) == 1


@pytest.mark.parametrize(
    "answer, status, code, word",
    [
        (error(400, "It is too long", "context_length_exceeded"), 400, "context_length", "too"),
        (repeats_the_key, 401, "invalid_api_key", "(the key)"),
        (error(404, "no such model", "model_not_found"), 404, "model_not_found", "no such"),
        (error(429, "slow down", "rate_limit_exceeded"), 429, "rate_limit_exceeded", "slow"),
        (error(500, "oops", "server_error"), 500, "server_error", "oops"),
        (html, 502, "endpoint_failed", "not a chat reply"),
        (raw(b"Bad gateway", 502, "text/plain"), 502, "endpoint_failed", "Bad gateway"),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_an_error_of_the_endpoint_is_passed_on_and_a_refusal_is_replayed(
    cache, quick, monkeypatch, answer, status, code, word
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Endpoint(answer) as upstream:
        found, head, text = using(made(cache, upstream.url), post)
    assert found == status and "x-should-retry: false" in head and KEY not in text
    problem = json.loads(text)["error"]
    assert code in problem["code"] and word in problem["message"]
    assert len(cache) == (status == 400), "what is refused for good is met by a replay, too"
    if status == 400:
        replayed = ResponseCache(cache.folder, mode="replay")
        again, _, body = using(made(replayed, "http://127.0.0.1:9/v1"), post)
        assert (again, json.loads(body)) == (found, json.loads(text))


def test_an_endpoint_that_is_not_there_is_a_502(cache):
    status, _, text = using(made(cache, "http://127.0.0.1:9/v1"), post)
    assert status == 502 and "did not answer" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize(
    "path, more, status, word",
    [
        ("/v1/chat/completions", ["--data", "{"], 400, "not a request"),
        ("/v1/chat/completions", ["--data", '{"model": "m"}'], 400, "model and messages"),
        ("/v1/chat/completions", ["--data", "[" * 100_000], 400, "not a request"),
        (
            "/v1/chat/completions",
            ["--data", '{"model": "m", "messages": [{"content": "\\ud800"}]}'],
            400,
            "not a request",
        ),
        ("/v1/chat/completions", ["--data", "{}", "-H", "Content-Type: text/plain"], 400, "json"),
        ("/v1/chat/completions", ["--data", "{}", "-H", "Origin: http://x"], 403, "browsers"),
        (
            "/v1/chat/completions",
            ["--data", '{"model": "m", "messages": []}', "-H", "X-Semback-Draw: one"],
            400,
            "takes an int",
        ),
        ("/v1/embeddings", ["--data", "{}"], 404, "chat/completions"),
        ("/v1/chat/completions", [], 405, "POST"),
    ],
)
def test_a_request_that_cannot_be_served_is_an_error_that_says_why(cache, path, more, status, word):
    if "-H" not in more or "Content-Type: text/plain" not in more:
        more = [*more, "-H", "Content-Type: application/json"]
    found, _, text = using(
        made(cache, "http://127.0.0.1:9/v1"), lambda url: curl(url + path, *more)
    )
    assert found == status and word in json.loads(text)["error"]["message"], text


def test_a_budget_is_shared_by_all_clients_and_needs_a_price_for_dollars(cache):
    def story(url):
        for number in range(2):
            ask(url, headers={"X-Semback-Client": str(number)}, seed=number)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(url, seed=2)
        return caught.value.code, ask(url, seed=1)

    with Endpoint(good) as upstream:
        found = using(made(cache, upstream.url, budget=Budget(calls=2)), story)
        assert found == ("insufficient_quota", "Four.") and len(upstream.asked) == 2
        status, _, text = using(
            made(cache, upstream.url, budget=Budget(dollars=1)),
            lambda url: post(url, {"model": "nobody-knows-it", "messages": MESSAGES}),
        )
    assert status == 400 and "price" in text


# Who may ask, and with which key


def test_other_computers_need_a_token(cache):
    with pytest.raises(ParameterError, match="set a token"):
        using(made(cache, None), post, host="0.0.0.0")


def test_with_a_token_nobody_is_served_without_it_and_the_endpoint_never_sees_it(cache):
    keys = []

    async def answer(request):
        keys.append(request.headers["authorization"])
        return await good(request)

    def story(url):
        wrong = [post(url, None, *more) for more in ([], ["-H", b"Authorization: Bearer \xfc"])]
        return wrong, post(url, None, "-H", "Authorization: Bearer right")

    with Endpoint(answer) as upstream:
        wrong, right = using(made(cache, upstream.url, "right"), story, host="127.0.0.1")
    assert [status for status, *_ in wrong] == [401, 401] and right[0] == 200
    assert keys == ["Bearer unused"]


def test_the_endpoint_gets_the_proxy_s_key_and_no_client_s_and_neither_is_recorded(
    cache, monkeypatch
):
    keys = []

    async def answer(request):
        keys.append(request.headers["authorization"])
        return await served({**GOOD, "echo": ["key", request.headers["authorization"]]})(request)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-distinctive-of-ours")
    with Endpoint(answer) as upstream:
        using(
            made(cache, upstream.url),
            lambda url: post(url, None, "-H", f"Authorization: Bearer {KEY}"),
        )
    assert keys == ["Bearer sk-distinctive-of-ours"]
    text = "".join(json.dumps(entry) for _, entry in cache.entries())
    assert "(the key)" in text and "distinctive" not in text


def test_a_session_may_have_any_name_and_the_models_are_those_recorded(cache):
    def story(url):
        ask(url, "/s/a%2Fb%20%C3%BC/v1", {"X-Semback-Draw": "0"})
        with sync(url) as asker:
            return [model.id for model in asker.models.list()]

    with Endpoint(good) as upstream:
        proxy = made(cache, upstream.url)
        using(proxy, story)
        assert list(proxy.usage) == ["a/b ü"]
        priced = made(cache, upstream.url, budget=Budget(dollars=1))
        assert using(priced, story) == ["m"]


def test_an_llm_that_records_by_itself_is_limited_and_counted_but_not_recorded_twice(cache):
    async def story(url):
        return await LLM("m", cache, f"{url}/v1", "k").chat(MESSAGES)

    with Endpoint(good) as upstream:
        proxy = made(cache, upstream.url)
        assert using(proxy, story).text == "Four." and len(cache) == 1
    assert [row["live"] for row in proxy.rows()] == [1] and len(upstream.asked) == 1


def test_a_scripted_model_of_this_process_can_stand_behind_the_proxy(cache, script):
    endpoint = Upstream(transport=httpx2.MockTransport(script("Four.").handle))
    assert using(Proxy(cache, endpoint), ask) == "Four."
    assert [entry["source"] for _, entry in cache.entries()] == [{"host": "simulated"}]


# Many clients


def test_an_endpoint_that_takes_a_few_requests_at_one_time_is_given_no_more_by_64_clients(cache):
    busy = most = 0

    async def answer(request):
        nonlocal busy, most
        if busy >= 4:
            return await error(429, "too many", "rate_limit_exceeded")(request)
        busy, most = busy + 1, max(most, busy + 1)
        await asyncio.sleep(0.05)
        busy -= 1
        return await good(request)

    async def story(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as asker:
            create = asker.chat.completions.create
            models = [f"m{number % 3}" for number in range(64)]  # the limit is that of all models
            calls = (create(model=m, messages=MESSAGES, seed=n) for n, m in enumerate(models))
            return await asyncio.gather(*calls)

    with Endpoint(answer) as upstream:
        assert len(using(made(cache, upstream.url, retries=None), story)) == len(cache) == 64
    assert most == 4 and len(upstream.asked) < 3 * 64


def test_64_clients_share_one_request_and_are_counted_each(cache):
    async def story(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as asker:

            async def one(number):
                headers = {"X-Semback-Client": f"c{number % 2}"}
                create = asker.chat.completions.create
                for seed in (number, 100):  # a request of its own, and one that all want
                    await create(model="m", messages=MESSAGES, seed=seed, extra_headers=headers)

            await asyncio.gather(*map(one, range(64)))

    with Endpoint(delay(0.02, good)) as upstream:
        proxy = made(cache, upstream.url)
        using(proxy, story)
    assert len(upstream.asked) == len(cache) == 65
    rows = proxy.rows()
    assert [(row["phase"], row["calls"]) for row in rows] == [("c0", 64), ("c1", 64)]
    assert sum(row["live"] for row in rows) == 65


def test_a_reply_is_recorded_whose_client_went_away_and_its_retry_gets_the_same_draw(cache):
    release = threading.Event()

    async def answer(request):
        await asyncio.to_thread(release.wait, 20)
        return await good(request)

    def story(url):
        with sync(url, "/s/mine/v1", timeout=0.2) as asker, pytest.raises(openai.APITimeoutError):
            asker.chat.completions.create(model="m", messages=MESSAGES)
        release.set()
        wait_until(lambda: len(cache) == 1)
        return post(url, path="/s/mine/v1")[1]

    with Endpoint(answer) as upstream:
        proxy = made(cache, upstream.url)
        assert "x-semback-draw: 0" in using(proxy, story) and len(upstream.asked) == 1


def test_requests_that_wait_for_their_turn_are_not_sent_for_clients_that_went_away(cache):
    release = threading.Event()

    async def answer(request):
        await asyncio.to_thread(release.wait, 20)
        return await good(request)

    async def story(url):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as asker:
            create = asker.chat.completions.create
            tasks = [
                asyncio.create_task(create(model="m", messages=MESSAGES, seed=seed))
                for seed in range(8)
            ]
            while len(upstream.asked) < 2:
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        release.set()

    with Endpoint(answer) as upstream:
        using(made(cache, upstream.url, in_flight=2), story)
    assert len(upstream.asked) == len(cache) == 2
