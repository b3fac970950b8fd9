"""Recall: questions of which everything is recorded are answered many at once, and nothing else about them is different."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from conftest import Script

from semback import LLM, Example, Language, Reply, ResponseCache, evaluate
from semback.cache.recording import canonical
from semback.errors import CacheError
from semback.llm.recall import recalled

EXAMPLES = [Example(f"sum/{i}", f"What is {i % 90} + {i}, or so?", str(i % 3)) for i in range(100)]


class AsItComes(Language):
    """Another way of answering than ours, for all that anybody can know: every question goes through `propagate.forward`."""

    async def forward(self, *seen):
        return await super().forward(*seen)


def says(body):
    """A reply that only the request decides. Some are empty, some hold no answer, also when they are asked for again."""
    chance = random.Random(str(body["messages"]))
    return (
        ""
        if chance.random() < 0.05
        else f"I think of {chance.random()}."
        + f"\nAnswer: {chance.randrange(3)}" * (chance.random() < 0.8)
    )


def evaluated(task, cache, kind=Language, examples=EXAMPLES):
    script = Script(says)
    model = script.llm(cache=cache)
    return asyncio.run(
        evaluate(task.graph, examples, task, kind(model, model), traces=True)
    ), script


def everything(scores):
    failures = sorted(map(str, scores.usage.failures))
    return (
        scores.rows,
        {each: trace.values for each, trace in scores.traces.items()},
        scores.usage.rows(),
        failures,
        scores.usage.keys,
    )


def test_what_is_recalled_is_what_would_have_been_answered_and_is_counted_the_same(task, cache):
    live, script = evaluated(task, cache)
    assert script.asked and live.usage.failures and 0 < live.unreadable < len(live.rows)
    again, one_by_one = evaluated(task, cache), evaluated(task, cache, AsItComes)
    assert (
        everything(again[0]) == everything(one_by_one[0])
        and again[0] == live
        and not again[1].asked + one_by_one[1].asked
    )
    lang = Language(script.llm(cache=cache), None)
    known = [trace for _, trace in recalled(task.graph, EXAMPLES, lang)]
    assert (
        60 < sum(map(bool, known)) < 100
    )  # empty replies were asked for again, and are read as that was answered


def test_a_node_is_looked_up_once_for_64_questions(task, cache, monkeypatch):
    script, seen, replies = Script(lambda body: "Answer: 1"), [], ResponseCache.replies

    def counted(self, asked):
        seen.append(len(asked))
        return replies(self, asked)

    monkeypatch.setattr(ResponseCache, "replies", counted)
    for _ in range(2):
        seen.clear()
        model = script.llm(cache=cache)
        asyncio.run(evaluate(task.graph, EXAMPLES, task, Language(model, model)))
    assert seen == [4] * 3 + [64] * 3 + [32] * 3  # for each of three nodes


@pytest.mark.parametrize("missing", [0.02, 0.4, 1])
def test_only_what_is_not_recorded_is_asked_for(task, tmp_path, missing):
    with_all, with_some = ResponseCache(tmp_path / "all"), ResponseCache(tmp_path / "some")
    live, _ = evaluated(task, with_all)
    chance = random.Random(0)
    for key, entry in with_all.entries():
        if chance.random() >= missing:
            with_some.add(key, entry)
    held = len(with_some)
    again, asked = evaluated(task, with_some)
    assert (
        again == live
        and len(asked.asked) == len(with_all) - held > 0
        and len(with_some) == len(with_all)
    )
    counts = again.usage.counts["forward", "scripted"], live.usage.counts["forward", "scripted"]
    assert counts[0].calls == counts[1].calls and counts[0].live == len(asked.asked)


def test_another_way_of_answering_is_asked_though_everything_is_recorded(task, cache):
    class Silent(Language):
        async def forward(self, *seen):
            return "Answer: 7"

    class Proud(LLM):
        async def chat(self, messages, draw=0):
            return Reply("Answer: 8", "stop", {}, self.model, recorded=True, key="")

    evaluated(task, cache)
    assert {row.answer for row in evaluated(task, cache, Silent)[0].rows} == {"7"}
    model = Proud("scripted", cache)
    scores = asyncio.run(evaluate(task.graph, EXAMPLES, task, Language(model, model)))
    assert {row.answer for row in scores.rows} == {"8"}
    without_chat = SimpleNamespace(in_flight=2, model="none")
    scores = asyncio.run(evaluate(task.graph, EXAMPLES, task, Silent(without_chat, without_chat)))
    assert {row.answer for row in scores.rows} == {"7"}


def test_mode_refresh_asks_anew_and_once(task, tmp_path):
    evaluated(task, ResponseCache(tmp_path, mode="auto"))
    cache = ResponseCache(tmp_path, mode="refresh")
    (first, asked), (second, asked_again) = evaluated(task, cache), evaluated(task, cache)
    assert first == second and asked.asked and not asked_again.asked


def test_a_row_that_was_altered_is_an_error_and_not_a_reply(task, cache):
    evaluated(task, cache)
    entries = dict(cache.entries())
    (one, _), (_, other) = list(entries.items())[:2]
    cache._disk.set(one, canonical(other))
    with pytest.raises(CacheError, match=f"entry {one[:12]} .* was altered"):
        evaluated(task, cache)


def test_others_have_their_turn_during_a_replay(task, cache):
    async def beside():
        script = Script(says)
        model, turns = script.llm(cache=cache), []

        async def count():
            while True:
                turns.append(len(turns))
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await evaluate(task.graph, EXAMPLES, task, Language(model, model))
        counting.cancel()
        return len(turns)

    evaluated(task, cache)
    assert asyncio.run(beside()) >= len(EXAMPLES) / 64
