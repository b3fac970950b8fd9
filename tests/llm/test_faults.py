"""Faults on a real connection: those that pass are tried again, others are errors with advice."""

import asyncio
import contextlib
import gc
import gzip
import json
import resource
import threading
import time
import traceback
import warnings
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import openai
import pytest
import servers as faulty
from servers import Endpoint, delay, error, good, raw, says

from semback import LLM, Language, ModelError, ParameterError, evaluate
from semback.cache.recording import canonical
from semback.llm import client
from semback.usage import Usage

pytestmark = pytest.mark.network
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
KEY = "sk-secret-123"
SOON = {"retry_after_ms": "10"}
CHOICE = ("choices", 0)
MESSAGE = (*CHOICE, "message")
BROKEN = {
    "broken JSON": raw(b'{"choices": [{'),
    "an empty body": raw(b""),
    "bytes that are no text": raw(b'{"a": "\xff\xfe"}'),
    "brackets without end": raw(b"[" * 100_000),
    "a truncated body": faulty.truncated,
    "a reset": faulty.reset,
    "429": error(429, "Rate limit reached", **SOON),
    "500": error(500, "Oops", **SOON),
    "a 502 page": raw(b"<html>Bad gateway</html>", 502, "text/html", **SOON),
    "503": error(503, "Overloaded", **SOON),
    "409": error(409, "Locked", **SOON),
    "408": error(408, "Too slow", **SOON),
    "a late reply": delay(0.8, good),
    "a dripping body": faulty.drip,
}


def inside(code, *path, status=200):
    """An error as gateways send it with status 200, in the body or in a choice."""
    broken = {"message": "Provider returned error", "code": code}
    if path:
        return says(*path, value=broken)
    return raw(json.dumps({"error": broken, "user_id": "u"}).encode(), status, **SOON)


BROKEN |= {
    "529": error(529, "Overloaded", "overloaded_error", **SOON),
    "429 inside a 200": inside(429),
    "'502' inside a 200": inside("502"),
    "rate_limit_exceeded inside a 200": inside("rate_limit_exceeded"),
    "overloaded_error inside a 200": raw(
        b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', **SOON
    ),
    "an error as text inside a 200": raw(b'{"error": "rate limit exceeded"}', **SOON),
    "502 inside a choice": inside(502, *CHOICE, "error"),
    "a reply that ends in an error": says(*CHOICE, "finish_reason", value="error"),
}
SLOW = ("a late reply", "a dripping body")
WORDS = [
    "JSON",
    "JSON",
    "JSON",
    "JSON",
    "",
    "reset",
    "429",
    "500",
    "502",
    "503",
    "409",
    "408",
    "0.4 s",
    "0.4 s",
    "529",
    "429",
    "502",
    "429",
    "503",
    "429",
    "502",
    "502",
]


@pytest.fixture(autouse=True)
def hurry(monkeypatch, request):
    """The first retry comes after 0.01 s, and no certificates have been loaded."""
    monkeypatch.setattr(client, "FIRST_RETRY", 0.01)
    if "https" in request.node.name or "setting_of_the_environment" in request.node.name:
        request.addfinalizer(client._certificates.cache_clear)
        client._certificates.cache_clear()


def model(server, cache=None, name="m", **settings):
    return LLM(name, cache, server.url, KEY, **{"retries": 1, "timeout": 5, **settings})


def chat(llm, draw=0):
    return asyncio.run(llm.chat(MESSAGES, draw))


def said(llm):
    """The text of the ModelError that a call of this model raises."""
    with pytest.raises(ModelError) as caught:
        chat(llm)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Traceback") == 1 and KEY not in shown, "one error, and the key not in it"
    return str(caught.value)


# What passes


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_that_passes_is_asked_again_and_only_the_reply_is_recorded(name, cache):
    with Endpoint(BROKEN[name], BROKEN[name], good) as server:
        reply = chat(model(server, cache, retries=2, timeout=0.4 if name in SLOW else 5))
        assert (reply.text, len(server.asked), len(cache)) == ("Four.", 3, 1)
        assert (
            chat(model(server, cache)) == replace(reply, recorded=True) and len(server.asked) == 3
        )


@pytest.mark.parametrize("name, status", list(zip(BROKEN, WORDS, strict=True)))
def test_a_fault_that_stays_is_one_error_after_the_retries_and_is_not_recorded(name, status, cache):
    with Endpoint(BROKEN[name]) as server:
        started, text = (
            time.monotonic(),
            said(model(server, cache, timeout=0.4 if name in SLOW else 5)),
        )
        assert (
            f"m at {server.host}/v1" in text
            and status in text
            and ("run again" in text or "in_flight" in text)
        ), text
        assert "req_7" in text or not status.isdigit()
        assert (len(server.asked), len(cache)) == (2, 0) and time.monotonic() - started < 4


def test_the_wait_that_a_429_asks_for_is_kept_even_beyond_the_time_limit_of_a_try():
    with Endpoint(error(429, "Slow down", retry_after="1"), good) as server:
        assert chat(model(server, retries=1, timeout=0.4)).text == "Four."
        assert server.times[1] - server.times[0] >= 1


@pytest.mark.slow
def test_a_wait_until_a_date_is_waited_for():
    until = datetime.now(UTC) + timedelta(seconds=2)
    with Endpoint(
        error(429, "Slow down", retry_after=format_datetime(until, usegmt=True)), good
    ) as server:
        assert chat(model(server, retries=1)).text == "Four." and len(server.asked) == 2
        assert time.time() >= until.timestamp() - 1, "a date has whole seconds"


def test_a_wait_that_is_too_long_is_an_error_at_once_that_says_how_long():
    with Endpoint(error(429, "Slow down", retry_after="3600")) as server:
        assert "wait 3600 s" in said(model(server)) and len(server.asked) == 1


def test_more_connections_than_the_server_allows_end_in_replies(cache):
    with Endpoint(delay(0.005, good), connections=4) as server:
        llm = model(server, cache, retries=20, in_flight=16)

        async def story():
            return await asyncio.gather(*(llm.chat(MESSAGES, draw) for draw in range(40)))

        assert {reply.text for reply in asyncio.run(story())} == {"Four."} and len(cache) == 40


@pytest.mark.parametrize("pack, name", [(gzip.compress, "gzip"), (zlib.compress, "deflate")])
def test_a_packed_reply_is_unpacked(pack, name):
    packed = raw(pack(json.dumps(faulty.GOOD).encode()), content_encoding=name)
    with Endpoint(packed) as server:
        assert chat(model(server, retries=0)).text == "Four."


def test_a_redirect_is_followed_with_the_whole_request():
    with Endpoint(faulty.moved, good) as server:
        assert chat(model(server, retries=0)).text == "Four."
        assert (
            len(server.asked) == 2
            and server.asked[0] == server.asked[1]
            and server.asked[1]["messages"] == MESSAGES
        )


@pytest.mark.parametrize("passed_over", [False, True])
def test_a_proxy_of_the_environment_is_gone_through_unless_the_host_is_to_be_reached_without(
    passed_over, monkeypatch
):
    with (
        Endpoint(good) as proxy,
        Endpoint(says(*MESSAGE, "content", value="From the host.")) as server,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1" if passed_over else "")
        assert chat(model(server, retries=0)).text == ("From the host." if passed_over else "Four.")
        assert (len(server.asked), len(proxy.asked)) == ((1, 0) if passed_over else (0, 1))


def test_an_https_address_is_asked_if_its_certificate_is_trusted(certificate, monkeypatch):
    with Endpoint(good, certificate=certificate) as server:
        assert "certificate verify failed" in said(model(server)) and not server.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client._certificates.cache_clear()  # as in a new process
        assert chat(model(server)).text == "Four."


def test_the_request_is_what_the_openai_client_sends():
    heard = []

    async def listening(request):
        heard.append(request)
        return await good(request)

    with Endpoint(listening) as server:
        chat(model(server))
        assert server.asked == [
            {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 1024}
        ]
    (request,) = heard
    assert request.path == "/v1/chat/completions" and request.content_type == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}" and request.headers[
        "user-agent"
    ].startswith("AsyncOpenAI/Python")


# What does not

FATAL = {
    "401": (
        error(401, f"Incorrect API key provided: {KEY}.", "invalid_api_key"),
        ["401", "OPENAI_API_KEY"],
    ),
    "403": (
        error(403, "Country not supported", "unsupported_country"),
        ["403", "Country not supported"],
    ),
    "model gone": (
        error(
            404, "The model `m` does not exist or you do not have access to it.", "model_not_found"
        ),
        ["404", "shut down", "replay"],
    ),
    "model deprecated": (
        error(404, "The model `m` has been deprecated.", "model_not_found"),
        ["404", "shut down"],
    ),
    "model unknown to LiteLLM": (
        error(400, "Invalid model name passed in model=m"),
        ["400", "shut down"],
    ),
    "no such address": (raw(b'{"detail": "Not Found"}', 404), ["404", "Not Found", "/v1"]),
    "context too long (OpenAI)": (
        error(
            400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"
        ),
        ["400", "window"],
    ),
    "context too long (llama.cpp)": (
        error(400, "the request exceeds the available context size, try increasing it"),
        ["400", "window"],
    ),
    "context too long (Gemini)": (
        error(400, "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        ["400", "window"],
    ),
    "quota": (
        error(429, "You exceeded your current quota.", "insufficient_quota"),
        ["429", "quota", "account", "does not help"],
    ),
    "no money": (error(402, "Insufficient credits"), ["402", "account"]),
    "content filter": (
        error(
            400,
            "The response was filtered due to Azure's content management policy.",
            "content_filter",
        ),
        ["400", "filter", "example"],
    ),
    "a field refused": (
        error(400, "Unsupported parameter: 'top_p' is not supported with this model."),
        ["400", "top_p", "params="],
    ),
    "a field refused by FastAPI": (
        raw(b'{"detail": [{"loc": ["top_p"]}]}', 422),
        ["422", "top_p", "params="],
    ),
    "an error that is no object": (raw(b'{"error": "bad"}', 400), ["400", "bad"]),
    "an error without body": (raw(b"", 418), ["418"]),
    "HTML with status 200": (faulty.html, ["200", "<html>", "OpenAI-compatible"]),
    "empty choices": (says("choices", value=[]), ["200", "req_7", "OpenAI-compatible"]),
    "an error with status 200": (
        raw(b'{"error": {"message": "overloaded", "param": null}}'),
        ["200", "req_7", "overloaded"],
    ),
    "a wrong key inside a 200": (inside(401), ["401", "req_7", "OPENAI_API_KEY"]),
    "no content": (raw(b"", 204), ["204", "empty body", "base_url"]),
    "temperature and top_p": (
        error(400, "`temperature` and `top_p` cannot both be specified for this model."),
        ["400", "params={'top_p': None}"],
    ),
    "no system role (Gemma)": (error(400, "System role not supported"), ["400", "system='user'"]),
    "no system role (Mistral)": (
        error(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        ["400", "system='user'"],
    ),
    "no system role (llama.cpp)": (
        error(500, "Value is not callable: System role not supported at row 1", "server_error"),
        ["500", "system='user'"],
    ),
    "no system role (Google)": (
        error(400, "Developer instruction is not enabled for models/gemma-3-27b-it"),
        ["400", "system='user'"],
    ),
    "an error in a choice": (
        says(*CHOICE, "error", value={"message": "provider died"}),
        ["200", "req_7", "provider died"],
    ),
}


@pytest.mark.parametrize("fault, words", FATAL.values(), ids=FATAL)
def test_a_fault_that_no_retry_mends_is_one_error_at_once_with_its_own_words_and_is_not_recorded(
    fault, words, cache
):
    with Endpoint(fault) as server:
        text = said(model(server, cache))
        assert all(word in text for word in [f"m at {server.host}/v1", *words]), text
        assert "req_7" in text or "<html>" in text
        assert (len(server.asked), len(cache)) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_refused_and_nothing_is_sent_there(status, cache):
    async def redirect(request):
        location = f"{elsewhere.url}/chat/completions?key={KEY}"
        return faulty.web.Response(status=status, headers={"location": location})

    with Endpoint(good) as elsewhere, Endpoint(redirect) as server:
        text = said(model(server, cache, headers={"api-key": "gateway-secret"}))
        assert f"a redirect ({status}) to {elsewhere.url}/chat" in text and "base_url" in text
        assert (len(server.asked), elsewhere.asked, len(cache)) == (1, [], 0)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_lose_the_request_is_refused(status):
    async def redirect(request):
        return faulty.web.Response(status=status, headers={"location": "/v2"})

    with Endpoint(redirect, good) as server:
        assert f"a redirect ({status})" in said(model(server)) and len(server.asked) == 1


async def without_end(request):
    """A body that never ends, sent as quickly as it is read."""
    response = faulty.web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 2**20)
    return response


def packed(size):
    """This many bytes of zeros, compressed to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"0" * 2**20
    return b"".join([*(packer.compress(block) for _ in range(size >> 20)), packer.flush()])


HUGE = {
    "a body without end": lambda: without_end,
    "128 MiB in 128 kB": lambda: raw(packed(2**27), content_encoding="gzip"),
    "an error of 128 MiB": lambda: raw(packed(2**27), 400, content_encoding="gzip"),
    "an error of 20 MB": lambda: error(400, f"{KEY} input " * 1_000_000),
    "junk of 20 MB": lambda: raw(b'{"choices": "' + b"prompt system " * 1_500_000 + b'"}'),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_body_without_bounds_is_one_short_error(name, cache):
    with Endpoint(HUGE[name]()) as server:
        text = said(model(server, cache, timeout=60))
    assert ("more than 64 MiB" in text) == ("error" not in name and "junk" not in name)
    assert len(text) < 1500
    assert len(server.asked) == 1 and not len(cache)


def test_a_redirect_loop_ends_soon():
    with Endpoint(faulty.round_in_circles) as server:
        assert "circles" in said(model(server, retries=5)) and len(server.asked) <= 5


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http:localhost",
        "http://localhost:8000/v1?api-version=1",
        "http://a..b/v1",
        "http://localhost:port/v1",
        "http://local\x00host/v1",
    ],
)
def test_an_address_that_is_none_is_an_error_that_says_so(address):
    with pytest.raises(ModelError, match="(?s)cannot be called: .*base_url"):
        chat(LLM("m", base_url=address, api_key=KEY))


@pytest.mark.parametrize(
    "name, value",
    [
        ("SSL_CERT_FILE", "/no/such/file"),
        ("HTTPS_PROXY", "ftp://proxy:9"),
        ("OPENAI_ORG_ID", "a\nb"),
    ],
)
def test_a_setting_of_the_environment_that_cannot_be_is_one_error_that_says_where_to_look(
    name, value, monkeypatch
):
    monkeypatch.setenv(name, value)
    text = said(LLM("m", base_url="https://127.0.0.1:9/v1", api_key=KEY, retries=0))
    assert "m at 127.0.0.1:9/v1" in text and (
        "SSL_CERT_FILE" in text and "OPENAI_" in text or "Check the address" in text
    ), text


@pytest.mark.parametrize(
    "answer",
    [faulty.reset, faulty.truncated, faulty.not_http],
    ids=["a reset", "a truncated body", "no HTTP"],
)
def test_a_fault_behind_a_proxy_is_tried_again_as_one_without(answer, monkeypatch):
    with Endpoint(answer, good) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        assert (
            chat(LLM("m", base_url="http://models.example/v1", api_key=KEY)).text == "Four."
            and len(proxy.asked) == 2
        )


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "text/plain",
        "application/vnd.api+json; charset=utf-8",
    ],
)
def test_a_good_reply_is_taken_whatever_the_server_calls_its_kind(kind):
    with Endpoint(raw(json.dumps(faulty.GOOD).encode(), kind=kind)) as server:
        assert chat(model(server)).text == "Four."


def test_a_refusal_that_asks_for_milliseconds_is_waited_for_by_all():
    with Endpoint(error(429, "Not now", retry_after_ms="400"), good) as server:
        assert chat(model(server)).text == "Four." and server.times[1] - server.times[0] > 0.35


def test_an_error_shows_no_password_of_the_address_and_no_part_of_a_garbled_key():
    with Endpoint(error(500, "Oops")) as server:
        assert "secret" not in said(
            LLM("m", base_url=server.url + "?key=secret", api_key=KEY, retries=0)
        )
        assert (
            "secret"
            not in said(LLM("m", base_url=server.url.replace("//", "//me:secret@"), api_key=KEY))
            and not server.asked
        )
        assert "secret" not in said(
            LLM("m", base_url=server.url, api_key="sk-secret\nsk-secret", retries=0)
        )
        assert "sk-" not in said(LLM("m", base_url=server.url, api_key="sk-sécret", retries=0))


@pytest.mark.parametrize("before", [0, 480, 495, 500, 19_990])
def test_a_key_in_a_long_error_is_masked_before_the_error_is_cut(before):
    with Endpoint(error(500, "x" * before + KEY + " is your key", x_request_id=KEY)) as server:
        text = said(model(server, retries=0))
    assert not any(KEY[:length] in text for length in range(6, len(KEY))), text


SECRET = "gateway-secret-7"


@pytest.mark.parametrize("place", ["argument", "environment"])
def test_headers_of_a_gateway_are_sent_and_never_recorded_or_shown(place, cache, monkeypatch):
    heard, headers = [], {"api-key": SECRET, "x-team": "a b", "x-version": "2024-05-06"}

    async def listening(request):
        heard.append(request.headers)
        text = f"{request.headers['api-key']} {request.headers['x-version']}"
        return await says(*MESSAGE, "content", value=text)(request)

    async def refusing(request):
        return await error(401, f"wrong: {request.headers['api-key']}")(request)

    if place == "environment":
        monkeypatch.setenv("SEMBACK_HEADERS", json.dumps(headers))
    with Endpoint(listening, refusing) as server:
        llm = model(server, cache, headers=headers if place == "argument" else None)
        assert chat(llm).text == "(the key) 2024-05-06"
        text = said(llm_error := model(server, headers={"api-key": SECRET})) + repr(llm_error)
    assert {name: heard[0][name] for name in headers} == headers
    assert "wrong: (the key)" in text and SECRET not in text + repr(llm.endpoint)
    assert SECRET not in canonical([entry for _, entry in cache.entries()])


@pytest.mark.parametrize("value", ["{", "[]", '{"a": 1}', '{"a": "1\\n2"}', '"secret"'])
def test_headers_in_the_environment_that_are_none_are_an_error_that_does_not_show_them(
    value, monkeypatch
):
    monkeypatch.setenv("SEMBACK_HEADERS", value)
    with pytest.raises(ParameterError, match="SEMBACK_HEADERS") as caught:
        LLM("m")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [(*MESSAGE, "content"), ("model",), ("system_fingerprint",), (*CHOICE, "finish_reason")],
    ids=lambda path: path[-1],
)
def test_a_key_that_a_reply_repeats_is_not_recorded_and_the_recording_says_so(path, cache):
    with Endpoint(says(*path, value=f"It is {KEY}."), good) as server:
        llm = model(server, cache)
        repeated, clean = (cache.get(chat(llm, draw).key) for draw in (0, 1))
    assert KEY not in canonical(repeated) and "It is (the key)." in canonical(repeated["reply"])
    assert repeated["source"]["masked"] is True and "masked" not in clean["source"]


def test_a_recording_from_another_endpoint_than_the_one_that_is_set_is_said_once(cache):
    def warned(llm):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert {chat(llm, draw).recorded for draw in (0, 1)} == {True}
        return [str(warning.message) for warning in caught]

    with Endpoint(good) as one, Endpoint(good) as two:
        for draw in (0, 1):
            chat(model(one, cache), draw)
        (text,) = warned(model(two, cache))
        assert one.host in text and two.host in text and not two.asked
        assert not warned(model(one, cache)) and not warned(LLM("m", cache))


def test_too_few_open_files_are_tried_again_and_the_error_says_what_to_do():
    async def story():
        await model(server).chat(MESSAGES)  # reads certificates and modules
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            await model(server).chat(MESSAGES)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    with Endpoint(good) as server, pytest.raises(ModelError) as caught:
        asyncio.run(story())
    text = str(caught.value)
    assert "Too many open files" in text and "ulimit -n" in text and "in_flight" in text


def test_a_line_break_after_the_key_is_not_part_of_it():
    with Endpoint(good) as server:
        assert chat(LLM("m", base_url=server.url, api_key=KEY + "\n")).text == "Four."


# What is a reply

REPLIES = {
    "null content": ((*MESSAGE, "content"), None, "", "stop"),
    "a refusal": (
        MESSAGE,
        {"role": "assistant", "content": None, "refusal": "I will not."},
        "",
        "refusal",
    ),
    "a filtered reply": (
        CHOICE,
        {"index": 0, "finish_reason": "content_filter", "message": {"content": ""}},
        "",
        "content_filter",
    ),
    "a cut reply": (
        CHOICE,
        {"index": 0, "finish_reason": "length", "message": {"content": "Fo"}},
        "Fo",
        "length",
    ),
    "5 MB": ((*MESSAGE, "content"), "Four. " * 900_000, "Four. " * 900_000, "stop"),
}


@pytest.mark.parametrize("path, value, text, finish_reason", REPLIES.values(), ids=REPLIES)
def test_a_refused_cut_empty_or_huge_reply_is_recorded_and_counted_as_what_it_is(
    path, value, text, finish_reason, cache
):
    with Endpoint(says(*path, value=value)) as server:
        live = chat(model(server, cache, timeout=10))
        assert (live.text, live.finish_reason, len(cache), len(server.asked)) == (
            text,
            finish_reason,
            1,
            1,
        )
        assert chat(model(server, cache)) == replace(live, recorded=True) and len(server.asked) == 1
    usage = Usage()
    usage.add("forward", "m", live)
    (row,) = usage.rows()
    assert (row["refused"], row["cut"]) == (
        finish_reason in ("refusal", "content_filter"),
        finish_reason == "length",
    )


def test_a_run_over_refusals_and_cut_replies_shows_how_many_there_were(task, cache):
    refused, cut, *_ = (
        says(*path, value=value)
        for path, value, *_ in (REPLIES["a refusal"], REPLIES["a cut reply"])
    )
    with Endpoint(refused, refused, cut) as server:
        llm = model(server, cache)
        scores = asyncio.run(evaluate(task.graph, task.test[:2], task, Language(llm, llm)))
    (row,) = scores.usage.rows()
    assert row["refused"] == 2 and row["cut"] == row["calls"] - 2 and scores.unreadable == 2
    assert any(failure["problem"] == "it was refused" for failure in scores.usage.failures)


def test_the_name_that_another_model_answers_under_is_kept_live_and_in_replay(cache):
    with Endpoint(says("model", value="another-model")) as server:
        assert [chat(model(server, cache)).model for _ in range(2)] == [
            "another-model"
        ] * 2 and len(server.asked) == 1


JUNK = [None, True, 0, -1.5, "text", [], [None], {}, {"a": 1}]
PLACES = [
    (),
    ("choices",),
    CHOICE,
    (*CHOICE, "finish_reason"),
    MESSAGE,
    (*MESSAGE, "content"),
    (*MESSAGE, "refusal"),
    ("model",),
    ("usage",),
    ("usage", "prompt_tokens"),
    ("system_fingerprint",),
]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "the body")
def test_junk_in_any_place_of_a_reply_is_a_model_error_or_a_reply_that_replays(path, cache):
    faults = [says(*path, value=junk) if path else raw(json.dumps(junk).encode()) for junk in JUNK]
    with Endpoint(*faults) as server:
        llm = model(server, cache, retries=0)

        async def story():
            llm.in_flight, replies = 1, []
            for draw in range(len(JUNK)):
                with contextlib.suppress(ModelError):
                    replies.append((draw, await llm.chat(MESSAGES, draw)))
            for draw, reply in replies:
                Usage().add("forward", "m", reply)
                assert await llm.chat(MESSAGES, draw) == replace(reply, recorded=True)
            return len(replies)

        assert asyncio.run(story()) == len(cache) and len(server.asked) == len(JUNK)


# What is left open


@contextlib.contextmanager
def nothing_left_open(server):
    """No warning of an unclosed socket or a closed loop, no connection that the server sees."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
        deadline = time.monotonic() + 2
        while server.open and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not caught and server.open == 0, [str(warning.message) for warning in caught]


async def many(llm, calls=8):
    return await asyncio.gather(*(llm.chat(MESSAGES, draw) for draw in range(calls)))


def test_a_script_has_nothing_to_close_in_one_event_loop_or_several_after_each_other():
    with Endpoint(good) as server, nothing_left_open(server):
        llm = model(server)
        for _ in range(3):
            assert len(asyncio.run(many(llm))) == 8


def test_a_model_that_is_made_inside_the_script_s_only_function_is_closed_to_the_end(monkeypatch):
    async def script(server):
        return await many(model(server))

    async def close(client):
        await whole(client)
        closed.append(client)

    whole, closed = openai.AsyncOpenAI.close, []
    monkeypatch.setattr(openai.AsyncOpenAI, "close", close)
    with Endpoint(good) as server, nothing_left_open(server):
        for _ in range(3):
            assert len(asyncio.run(script(server))) == 8
    assert len(closed) == 3


def test_event_loops_in_several_threads_share_a_model():
    with Endpoint(good) as server, nothing_left_open(server):
        llm, replies = model(server), []
        threads = [
            threading.Thread(target=lambda: replies.extend(asyncio.run(many(llm))))
            for _ in range(4)
        ]
        for act in (threading.Thread.start, threading.Thread.join):
            for thread in threads:
                act(thread)
        assert len(replies) == 32


def test_a_model_that_a_notebook_drops_closes_its_connections_while_the_loop_goes_on():
    async def notebook(server):
        llm = model(server)
        await many(llm)
        assert server.open
        del llm
        gc.collect()
        await asyncio.sleep(0.3)
        assert server.open == 0

    with Endpoint(good) as server, nothing_left_open(server):
        asyncio.run(notebook(server))


@pytest.mark.parametrize(
    "fault, recorded",  # the call that is cancelled, and again at the end, is given up
    [(faulty.drip, 0), (delay(0.5, good), 3)],
    ids=["dripping", "waiting"],
)
def test_calls_that_are_cancelled_or_left_behind_leave_nothing_open(fault, recorded, cache):
    async def story(llm):
        calls = [asyncio.create_task(llm.chat(MESSAGES, draw)) for draw in range(4)]
        await asyncio.sleep(0.1)
        calls[0].cancel()
        await asyncio.sleep(0.05)

    with Endpoint(fault) as server, nothing_left_open(server):
        asyncio.run(story(model(server, cache, timeout=1)))
    assert len(cache) == recorded


@pytest.mark.slow
def test_calls_that_fail_leave_nothing_open():
    async def story(llm):
        return await asyncio.gather(
            *(llm.chat(MESSAGES, draw) for draw in range(8)), return_exceptions=True
        )

    for fault in (faulty.reset, faulty.drip, faulty.truncated, FATAL["401"][0]):
        with Endpoint(fault) as server, nothing_left_open(server):
            assert {
                type(each)
                for each in asyncio.run(
                    story(model(server, timeout=0.4 if fault is faulty.drip else 5))
                )
            } == {ModelError}
