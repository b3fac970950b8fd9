"""The number in flight adapts to the endpoint, and limits per minute hold.

Time is virtual here: nothing waits.
"""

import asyncio
import contextlib
import itertools
import json
import selectors
import subprocess
import sys
import time

import httpx2
import pytest
import servers
from servers import GOOD

from semback import LLM, Budget, ModelError, ParameterError, models, tasks


class Clock(asyncio.SelectorEventLoop):
    """An event loop in which time passes only while nothing can be done, and then at once."""

    def __init__(self):
        super().__init__(selectors.SelectSelector())
        self.now, self.virtual, select = 0.0, False, self._selector.select

        def skip(timeout):
            ready = select(0 if self.virtual else timeout)
            self.now += 1e-9 + (
                timeout if timeout and not ready else 0
            )  # a clock never stands still
            return ready

        self._selector.select = skip

    def time(self):
        return self.now


class Endpoint:
    """Answers after some seconds, and refuses at once what exceeds `cap`.

    It keeps (time, status) of each request, and what it answered.
    """

    def __init__(
        self,
        cap=10**9,
        seconds=lambda busy: 0.1,
        refusal=429,
        headers=None,
        broken=lambda now: False,
        body=None,
    ):
        self.cap, self.seconds, self.refusal, self.headers, self.broken = (
            cap,
            seconds,
            refusal,
            headers or {},
            broken,
        )
        self.body = body or {"error": {"message": "not now"}}
        self.busy, self.asked, self.most, self.answered, self.start = 0, [], [], [], 0.0

    async def handle(self, request):
        now = asyncio.get_running_loop().time() - self.start
        if b"hello" in request.content:
            return httpx2.Response(200, json=GOOD)
        if self.busy >= self.cap or self.broken(now):
            self.asked.append((now, self.refusal))
            return httpx2.Response(self.refusal, headers=self.headers, json=self.body)
        self.asked.append((now, 200))
        self.busy += 1
        self.most.append(self.busy)
        await asyncio.sleep(self.seconds(self.busy))
        self.busy -= 1
        self.answered.append(said := json.loads(request.content)["messages"][0]["content"])
        return httpx2.Response(
            200,
            json=GOOD
            | {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": said}}]},
        )

    def answer(self, calls, workers=64, budgets=(None,), text=str, **settings):
        """Make this many calls by this many workers, to models with these budgets in turn.

        `text` makes the prompt of a call from its number. Returns (seconds, replies).
        """
        settings["transport"] = httpx2.MockTransport(self.handle)
        llms = [LLM(f"m-{place}", budget=each, **settings) for place, each in enumerate(budgets)]

        async def all_of_them():
            patch.setattr("time.time", asyncio.get_running_loop().time)
            # Its first call asks a thread, for which virtual time does not wait.
            await llms[0].chat([{"role": "user", "content": "hello"}])
            loop = asyncio.get_running_loop()
            self.start, loop.virtual = loop.time(), True
            waiting, replies = iter(range(calls)), {}

            async def work():
                for number in waiting:
                    messages = [{"role": "user", "content": text(number)}]
                    replies[number] = (await llms[number % len(llms)].chat(messages)).text

            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work())
            return loop.time() - self.start, [replies[number] for number in range(calls)]

        with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=Clock) as runner:
            try:
                return runner.run(all_of_them())
            finally:
                runner.get_loop().virtual = False  # at its end a loop waits for threads


@pytest.mark.parametrize(
    "calls, cap, refusal",
    [(192, 1, 429), (192, 4, 429), (192, 16, 429), (192, 64, 429), (192, 16, 503), (1000, 16, 429)],
)
def test_an_endpoint_that_takes_only_so_many_is_met_at_its_limit(calls, cap, refusal):
    endpoint = Endpoint(cap, refusal=refusal)
    seconds, replies = endpoint.answer(calls)
    assert replies == list(map(str, range(calls)))
    assert max(endpoint.most) == cap and seconds < 1.4 * (calls / cap) * 0.1
    assert len(endpoint.asked) - calls < 0.1 * calls


@pytest.mark.parametrize("cap", [1, 4, 16])
def test_what_was_refused_is_sent_again_before_others_that_have_not_been_sent_yet(cap):
    endpoint = Endpoint(cap)
    endpoint.answer(192)
    overtaken = [place - int(said) for place, said in enumerate(endpoint.answered)]
    assert (429 in [status for _, status in endpoint.asked]) and max(overtaken) < 8


def test_an_endpoint_that_takes_all_is_given_all_that_is_wanted_soon():
    endpoint = Endpoint()
    assert endpoint.answer(640)[0] < 1.0 + 0.1 and max(endpoint.most) == 64


def test_what_an_endpoint_takes_may_fall_and_rise():
    endpoint = Endpoint(32)
    endpoint.broken = lambda now: setattr(endpoint, "cap", 4 if 1 < now < 3 else 32)
    seconds, _ = endpoint.answer(1500)
    refused = sum(status == 429 for _, status in endpoint.asked)
    assert refused < 150 and max(endpoint.most[-300:]) > 12


def test_a_wait_that_the_endpoint_asks_for_is_kept_by_all():
    endpoint = Endpoint(8, headers={"retry-after": "2"})
    endpoint.answer(100)
    times = [now for now, _ in endpoint.asked]
    refused = [now for now, status in endpoint.asked if status == 429]
    assert refused
    for at in refused:
        assert not [now for now in times if at + 0.01 < now < at + 2], (
            "somebody sent before the wait was over"
        )


def test_an_endpoint_that_refuses_everything_is_asked_a_few_times_and_then_it_is_an_error():
    endpoint = Endpoint(broken=lambda now: True)
    with pytest.raises(ExceptionGroup) as errors:
        endpoint.answer(64, retries=3)
    assert errors.group_contains(ModelError, match="answered 429: not now")
    waits = sorted({round(now, 1) for now, _ in endpoint.asked})
    assert waits == [0.0, 0.5, 1.2, 2.2, 3.6, 5.5] and len(endpoint.asked) < 16


@pytest.mark.parametrize(
    "status, settings, requests, least",
    [(500, {}, 6, 8), (429, {}, 21, 100), (503, {}, 21, 100), (429, {"retries": 2}, 3, 1)],
)
def test_a_refusal_is_outlasted_for_two_minutes_unless_retries_are_given(
    status, settings, requests, least
):
    endpoint = Endpoint(refusal=status, broken=lambda now: True)
    with pytest.raises(ExceptionGroup):
        endpoint.answer(1, **settings)
    assert len(endpoint.asked) == requests and least < endpoint.asked[-1][0] < 180


def test_after_a_time_in_which_everything_is_refused_it_goes_on():
    endpoint = Endpoint(broken=lambda now: 0.15 < now < 4)
    seconds, replies = endpoint.answer(500)
    assert len(replies) == 500 and seconds < 25


@pytest.mark.parametrize("start", [3, 5, 10, 100])
def test_after_a_time_in_which_everything_is_refused_the_number_in_flight_recovers_soon(start):
    endpoint = Endpoint(32, lambda busy: 0.2, 503, broken=lambda now: now < start)
    seconds, replies = endpoint.answer(300)
    ideal = start + 300 / 32 * 0.2
    assert len(replies) == 300 and seconds < 1.5 * ideal and max(endpoint.most) == 32


GOOGLE = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "20s"},
        ],
    }
}


def limited(text, code="rate_limit_exceeded"):
    return {"error": {"message": text, "type": "tokens", "code": code}}


@pytest.mark.parametrize(
    "body, wait",
    [
        ([GOOGLE], 20),
        (GOOGLE, 20),
        (limited("Rate limit reached for gpt-4o. Please try again in 1m2.5s. Visit …"), 62.5),
        (limited("Limit 30000, Used 29999. Please try again in 20ms."), 0.02),
        (limited("You exceeded it. Please retry in 41.353454s."), 41.353454),
        (limited("Please retry after 6 seconds.", "429"), 6),
        (limited("Try again in 1 minute and 5 seconds"), 65),
        (limited("Please try again in 8s.", "insufficient_quota"), 8),
        ({"error": {"message": "slow down", "code": 429, "metadata": {"retry_after": 7}}}, 7),
    ],
    ids=str,
)
def test_a_wait_that_the_body_of_a_429_asks_for_is_kept(body, wait):
    endpoint = Endpoint(broken=lambda now: now < wait - 0.001, body=body)
    assert endpoint.answer(1)[1] == ["0"]
    refused, answered = endpoint.asked
    assert answered[0] - refused[0] == pytest.approx(wait, abs=0.01)


@pytest.mark.parametrize(
    "body", [limited("in 6h30m5s: try again in 6h30m5s"), limited("Pay.", "insufficient_quota")]
)
def test_a_wait_that_is_too_long_and_a_quota_without_any_end_at_once(body):
    endpoint = Endpoint(broken=lambda now: True, body=body)
    with pytest.raises(ExceptionGroup) as errors:
        endpoint.answer(1)
    assert errors.group_contains(ModelError, match="wait 23405 s|used up")
    assert len(endpoint.asked) == 1


def test_with_default_settings_a_limit_a_minute_without_any_hint_loses_nothing():
    endpoint, minute = Endpoint(), []

    def exceeded(now):
        minute[:] = [at for at in minute if at > now - 60]
        return len(minute) >= 10 or minute.append(now) is not None

    endpoint.broken = exceeded
    seconds, replies = endpoint.answer(25)
    assert replies == list(map(str, range(25))) and 120 < seconds < 150


@pytest.mark.parametrize("limit", [3, 60])
def test_requests_a_minute_are_kept_in_any_minute(limit):
    endpoint = Endpoint()
    seconds, _ = endpoint.answer(5 * limit, requests_per_minute=limit)
    times = [now for now, _ in endpoint.asked]
    assert all(sum(at <= now < at + 60 for now in times) <= limit for at in times)
    assert seconds < 8 * 60


def test_tokens_a_minute_are_kept_those_of_replies_included():
    endpoint = Endpoint()  # each reply reports 10 tokens
    seconds, _ = endpoint.answer(600, tokens_per_minute=1000)
    times = [now for now, _ in endpoint.asked]
    assert all(sum(at <= now < at + 60 for now in times) <= 110 for at in times[200:])
    assert 4.5 * 60 < seconds < 8 * 60


def test_a_reply_that_claims_more_tokens_than_can_be_is_waited_for_a_minute_at_most():
    endpoint, tokens = Endpoint(), {"prompt_tokens": 10**9, "completion_tokens": 1}
    with (
        pytest.warns(UserWarning, match="1,000,000,001 tokens") as caught,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(GOOD, "usage", tokens)
        seconds, _ = endpoint.answer(3, workers=1, tokens_per_minute=1000)
    assert len(caught) == 1 and 100 < seconds < 4 * 66


@pytest.fixture
def of_a_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMBACK_BATCH", str(tmp_path / "spent"))


def test_requests_a_minute_are_kept_by_all_models_of_a_batch_together_and_each_gets_its_turn(
    of_a_batch,
):
    endpoint, limit = Endpoint(), 60
    budgets = [Budget(batch=True) for _ in range(3)]  # as in three kernels
    seconds, replies = endpoint.answer(5 * limit, 90, budgets, requests_per_minute=limit)
    times = [now for now, _ in endpoint.asked]
    assert all(sum(at <= now < at + 60 for now in times) <= limit for at in times)
    assert replies == list(map(str, range(5 * limit))) and seconds < 1.2 * 5 * 60
    models_in_turn = [int(text) % 3 for text in endpoint.answered[90:180]]
    assert all(25 <= models_in_turn.count(each) <= 35 for each in range(3))


@pytest.mark.parametrize("budgets", [(None, None), (Budget(), Budget())], ids=["none", "two"])
def test_models_with_budgets_of_their_own_have_limits_of_their_own(budgets):
    seconds, _ = Endpoint().answer(40, budgets=budgets, requests_per_minute=20)
    assert 50 < seconds < 70  # a minute for the 20 of each; together they would take two


@pytest.mark.parametrize("addresses", [1, 2])
def test_a_model_and_its_coach_share_their_limits_if_they_are_at_one_address(addresses):
    with servers.Endpoint(servers.good) as one, servers.Endpoint(servers.good) as other:
        url, settings = (one, other)[addresses - 1].url, {"requests_per_minute": 1}
        model, coach = models("m", "c", tasks.liar(), base_url=one.url, coach_url=url, **settings)

        async def chats():
            await model.chat([{"role": "user", "content": "hello"}])
            async with asyncio.timeout(0.5 if addresses == 1 else 60):
                await coach.chat([{"role": "user", "content": "hello"}])

        with pytest.raises(TimeoutError) if addresses == 1 else contextlib.nullcontext():
            asyncio.run(chats())  # it would wait for two minutes
        assert (len(one.asked), len(other.asked)) == (1, addresses - 1)


@pytest.mark.parametrize("sizes", [[300], [50, 900, 50, 400, 700], [1000]], ids=str)
def test_prompts_of_any_size_never_exceed_the_tokens_of_a_minute(sizes):
    endpoint, sent, limit = Endpoint(), [], 1000
    sizes = [size for size, _ in zip(itertools.cycle(sizes), range(20))]

    async def handle(request):
        tokens = round(len(request.content) / 4)
        if b"hello" not in request.content:
            sent.append((asyncio.get_running_loop().time(), tokens))
        usage = {"prompt_tokens": tokens, "completion_tokens": 0}
        return httpx2.Response(200, json=GOOD | {"usage": usage})

    endpoint.handle = handle
    texts = [f"{number} ".ljust(4 * size - 140, "x") for number, size in enumerate(sizes)]
    endpoint.answer(20, text=texts.__getitem__, tokens_per_minute=limit)
    assert len(sent) == 20 and max(tokens for _, tokens in sent) <= limit
    assert all(sum(n for now, n in sent if at <= now < at + 60) <= limit for at, _ in sent)
    assert sent[-1][0] - sent[0][0] < 2.5 * 60 * sum(sizes) / limit + 60


KERNEL = """
import asyncio, sys
import semback as sb

async def main(url, calls):
    budget = sb.Budget(batch=True)
    llm = sb.LLM("m", base_url=url, budget=budget, requests_per_minute=1200)
    await llm.chat([{"role": "user", "content": "hello"}])  # imports take a second
    print("ready", flush=True)
    input()
    texts = [f"Question {number}" for number in range(calls)]
    chats = [llm.chat([{"role": "user", "content": text}]) for text in texts]
    print("done", len(await asyncio.gather(*chats)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.process
def test_processes_of_a_batch_keep_one_limit_and_one_that_is_killed_blocks_nobody(of_a_batch):
    """1,200 a minute: 120 may leave at once, and 18 a second after them."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with servers.Endpoint(servers.good) as server:
        command = [sys.executable, "-c", KERNEL, server.url]
        killed, *others = [
            subprocess.Popen([*command, calls], **pipes) for calls in ("1000", "30", "30")
        ]
        for process in (killed, *others):
            assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        for process in (killed, *others):
            process.stdin.write("\n")
            process.stdin.flush()
        while len(server.times) < 110:
            assert killed.poll() is None
        killed.kill()
        killed.communicate()
        assert [process.communicate(timeout=60)[0] for process in others] == ["done 30\n"] * 2
    for number, at in enumerate([at for at in server.times if at > start], 1):
        assert number <= 120 + 18 * (at - start)


@pytest.mark.parametrize(
    "setting",
    [{"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"in_flight": 0}, {"timeout": 0}],
    ids=str,
)
def test_a_limit_that_is_none_is_refused(setting):
    with pytest.raises(ParameterError, match=next(iter(setting))):
        LLM("m", **setting)
