"""A budget is a hard limit: once it is reached nothing is sent, and every reply is recorded."""

import asyncio

import httpx2
import pytest

from semback import LLM, Budget, BudgetExceeded, Language, ParameterError, Reply, descend
from semback.errors import CacheError


def ask(llm, *texts):
    async def all_of_them():
        return await asyncio.gather(
            *(llm.chat([{"role": "user", "content": text}]) for text in texts),
            return_exceptions=True,
        )

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "limit", [{"calls": 3}, {"tokens": 30}, {"dollars": 30 * 1.5e-7}], ids=str
)  # a scripted reply has 10 tokens
def test_no_call_goes_out_when_the_budget_is_spent_and_what_was_paid_for_is_kept(
    script, cache, limit
):
    scripted, budget = script("Yes."), Budget(**limit)
    llm = scripted.llm("gpt-4o-mini-2024-07-18", cache=cache, budget=budget)
    replies = [ask(llm, str(number))[0] for number in range(20)]
    errors = [reply for reply in replies if isinstance(reply, BudgetExceeded)]
    assert len(scripted.asked) == len(cache) == 20 - len(errors) and 1 <= len(scripted.asked) <= 5
    assert all(
        "is spent" in str(error) and "run again with a larger budget" in str(error)
        for error in errors
    )
    again = ask(
        scripted.llm("gpt-4o-mini-2024-07-18", cache=cache, budget=Budget(calls=1)),
        *map(str, range(len(cache))),
    )
    assert all(reply.recorded for reply in again), "what is recorded costs nothing"


def test_calls_are_limited_exactly_however_many_are_in_flight_and_models_share_one_budget(
    script, cache
):
    scripted, budget = script("Yes."), Budget(calls=7)
    one, two = (scripted.llm(name, cache=cache, budget=budget) for name in ("one", "two"))
    ask(one, *"abcde")
    replies = ask(two, *"abcdefgh")
    assert (
        len(scripted.asked) == len(cache) == 7
        and sum(isinstance(reply, BudgetExceeded) for reply in replies) == 6
    )


def test_a_run_that_meets_its_budget_goes_on_with_a_larger_one_and_pays_nothing_twice(
    script, cache, task
):
    def says(body):
        return "Answer: 0"

    scripted = script(says)
    with pytest.raises(BudgetExceeded, match="0 of 1 steps"):
        asyncio.run(
            descend(
                task, Language(*[scripted.llm(cache=cache, budget=Budget(calls=10))] * 2), steps=1
            )
        )
    asyncio.run(descend(task, Language(*[scripted.llm(cache=cache)] * 2), steps=1))
    bodies = [str(body) for body in scripted.asked]
    assert len(bodies) == len(set(bodies)) > 10


def test_a_run_that_meets_its_budget_says_how_many_steps_were_done(script, task):
    def says(body):
        updates = "<instruction>" in str(body)
        return "<instruction>\nBe right.\n</instruction>" if updates else "Answer: 0"

    llm = script(says).llm(
        budget=Budget(calls=140)
    )  # 36 for the start graph; a step takes 7 and 36
    with pytest.raises(BudgetExceeded, match=r"[12] of 9 steps"):
        asyncio.run(descend(task, Language(llm, llm), steps=9))


def test_what_is_under_way_when_the_budget_is_spent_is_kept_even_at_the_end_of_a_script(
    script, cache, task
):
    async def late(request):
        await asyncio.sleep(0.1)
        return scripted.handle(request)

    scripted = script("Answer: 0")
    llm = LLM("m", cache, transport=httpx2.MockTransport(late), budget=Budget(calls=9))
    with pytest.raises(BudgetExceeded):
        asyncio.run(descend(task, Language(llm, llm)))
    assert len(scripted.asked) == len(cache) == 9


def test_an_unknown_price_with_a_budget_in_dollars_is_refused_at_the_start():
    with pytest.raises(ParameterError, match="price of my-own-model is not known"):
        LLM("my-own-model", budget=Budget(dollars=1))
    LLM("my-own-model", budget=Budget(tokens=1))


@pytest.mark.parametrize(
    "limit",
    [{"calls": 0}, {"tokens": -1}, {"dollars": "1"}, {"dollars": float("nan")}, {"calls": True}],
    ids=str,
)
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ParameterError, match=next(iter(limit))):
        Budget(**limit)


def test_what_is_no_chat_reply_is_paid_for_too(script, cache):
    budget = Budget(tokens=15)
    llm = script({"message": {"role": "assistant", "content": 7}}).llm(cache=cache, budget=budget)
    errors = [ask(llm, str(number))[0] for number in range(3)]
    assert budget.spent["tokens"] == 20 and [
        isinstance(error, BudgetExceeded) for error in errors
    ] == [False, False, True]


# What the notebooks of a batch spend together


def test_budgets_of_a_batch_are_one_and_others_are_their_own(script, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMBACK_BATCH", str(tmp_path / "spent"))
    scripted, priced = script("Yes."), "gpt-4o-mini-2024-07-18"
    one, two, own = (
        Budget(dollars=30 * 1.5e-7, batch=batch) for batch in (True, True, False)
    )  # a scripted reply has 10 tokens
    for number in range(20):
        ask(scripted.llm(priced, cache=cache, budget=(one, two)[number % 2]), str(number))
    assert (
        2 <= len(scripted.asked) == one.spent["calls"] == two.spent["calls"] <= 5
        and one.spent["dollars"] == two.spent["dollars"] >= one.dollars
    )
    ask(scripted.llm(priced, cache=cache, budget=own), "21")
    assert own.spent["calls"] == 1
    monkeypatch.delenv("SEMBACK_BATCH")
    assert Budget(calls=1, batch=True).spent["calls"] == 0
    assert isinstance(ask(scripted.llm("m", budget=Budget(calls=1, batch=True)), "22")[0], Reply), (
        "outside of a batch it is its own"
    )


def test_an_account_that_breaks_stops_the_next_call_and_costs_no_answer(
    script, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEMBACK_BATCH", str(tmp_path / "spent"))

    def breaks(body):
        for path in (tmp_path / "spent").iterdir():
            path.write_bytes(b"no database" * 1000)
        return "Yes."

    scripted = script(breaks)
    llm = scripted.llm(cache=cache, budget=Budget(tokens=10**6, batch=True))
    reply, error = ask(llm, "1")[0], ask(llm, "2")[0]
    assert reply.text == "Yes." and len(cache) == len(scripted.asked) == 1
    assert isinstance(
        error, CacheError
    ) and "the spending of this batch's notebooks cannot be added up" in str(error)


def reports(usage):
    """A reply that reports this usage."""
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": "Four."}}
    return lambda body: httpx2.Response(
        200, json={"model": "m", "usage": usage, "choices": [choice]}
    )


@pytest.mark.parametrize(
    "usage, recorded",
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
def test_a_reply_with_odd_token_counts_is_recorded_and_sent_for_once(
    script, cache, usage, recorded
):
    scripted = script(reports(usage))
    llm = scripted.llm("gpt-4o-mini", cache, budget=Budget(dollars=1), tokens_per_minute=10**6)
    assert ask(llm, "1")[0].usage == recorded and len(scripted.asked) == len(cache) == 1


def test_tokens_that_an_endpoint_does_not_report_are_estimated_for_the_budget(script):
    scripted = script(reports(None))
    llm = scripted.llm(budget=Budget(tokens=100))
    replies = [ask(llm, str(number))[0] for number in range(20)]
    assert "budget of 100 tokens is spent" in str(replies[-1]) and 1 < len(scripted.asked) < 6


def test_a_try_that_times_out_counts_as_many_tokens_as_its_prompt(script):
    async def late(request):
        await asyncio.sleep(1)

    budget, transport = Budget(tokens=10**6), httpx2.MockTransport(late)
    llm = LLM("m", transport=transport, budget=budget, timeout=0.05, retries=0)
    (error,) = ask(llm, "four" * 1000)
    assert "no whole reply in 0.05 s" in str(error) and 1000 < budget.spent["tokens"] < 1100


def test_a_failed_call_is_not_sent_again_when_the_budget_is_spent_meanwhile(script, cache):
    spent = reports({"prompt_tokens": 50, "completion_tokens": 50})(None)
    oops = httpx2.Response(500, json={"error": {"message": "oops"}})
    scripted = script([spent, oops])

    async def late(request):
        reply = scripted.handle(request)
        await asyncio.sleep(0.1)
        return reply

    transport = httpx2.MockTransport(late)
    llm = LLM("m", cache, transport=transport, budget=Budget(tokens=60), retries=5)
    assert "budget" in str(ask(llm, "1", "2")[1]) and len(scripted.asked) == 2
