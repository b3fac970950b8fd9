"""`make coaching`: what real coaches make of our prompts, on training questions only.

Of date_understanding, some questions that the start graph answers wrongly are coached by each
model, as one step of a descent. Counted are replies whose blocks could be read at the first try,
gradients that are no copy of the value that they are about, instructions that differ from the old
ones, and those that do not leak. `OLD=FOLDER` measures other templates beside ours, such as those
of an earlier commit. The results are in docs/real.md.
"""

import asyncio
import os

import pandas
from rapidfuzz.fuzz import ratio

import semback as sb
from benchmarks.pilot import MODEL, SHORT, run
from semback.language import Case
from semback.leaks import Leaks

COACHES = ("qwen2.5-coder-1.5b-instruct-q4_k_m", MODEL)
WRONG = 4  # questions
COPY = 90  # similarity, in percent, from which a gradient is a copy


async def coached(task: sb.Task, examples: list[sb.Example], traces: dict, lang: sb.Language):
    """{what: the replies, gradients or instructions, each True if it is so}."""
    passes = [
        sb.backward(traces[each.id], task.feedback(each, traces[each.id]), lang)
        for each in examples
    ]
    gradients = await asyncio.gather(*passes)
    updates = []
    for name in task.graph.order:
        cases = [
            Case(each.trace.question, each.trace.inputs(name), each.trace.values[name], each[name])
            for each in gradients
            if name in each
        ]
        if cases:
            updates.append((task.graph[name], lang.update(task.graph[name], cases)))
    texts = await asyncio.gather(*(update for _, update in updates))
    new = [text not in (None, node.instruction) for (node, _), text in zip(updates, texts)]
    finder, asked = Leaks(task), len(examples) + len(updates)
    again = lang.usage.calls - asked  # what could not be read is asked for once more
    return {
        "read at first try": [True] * (asked - again) + [False] * again,
        "gradient is no copy": [
            ratio(text, each.trace.values[target]) < COPY
            for each in gradients
            for _, target, text in each.messages
        ],
        "new instruction": new,
        "without leak": [not finder.find(text) for text, one in zip(texts, new) if one],
    }


async def main(url: str | None) -> None:
    cache, settings = sb.ResponseCache(), {"timeout": 3600.0, "in_flight": 8, "base_url": url}
    answering, rows = sb.LLM(MODEL, cache=cache, **settings), []
    task = sb.tasks.bbh("date_understanding", hint_form=SHORT)
    scores = await sb.evaluate(task.graph, task.train, task, sb.Language(answering))
    wrong = [scores.examples[row.id] for row in scores.rows if not row.correct]
    for name in COACHES:
        coach = sb.LLM(name, cache=cache, **settings)
        for folder in [None, *filter(None, [os.environ.get("OLD")])]:
            lang = sb.Language(answering, coach, prompts=folder)
            found = await coached(task, wrong[:WRONG], scores.traces, lang)
            row = {"coach": name, "templates": folder or "these"}
            row |= {what: f"{sum(each)} of {len(each)}" for what, each in found.items()}
            rows.append(row)
            print(row, flush=True)
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    run(main, COACHES)
