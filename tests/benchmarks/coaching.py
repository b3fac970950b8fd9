"""`make coaching`: what real coaches make of our prompts, on training questions only.

Of two sample tasks, questions that the start graph answers wrongly are coached together, once by
each model. Counted are replies whose blocks could be read at the first try, gradients that are no
copy of the value that they are about, instructions that differ from the old ones, and those that do
not leak. `OLD=FOLDER` measures other templates beside ours, such as those of an earlier commit. The
results are in docs/real.md.
"""

import asyncio
import os
import sys
from dataclasses import replace

import pandas
from rapidfuzz.fuzz import ratio

import semback as sb
from benchmarks.pilot import MODEL, SHORT
from semback.llm import llama

COACHES = ("qwen2.5-coder-1.5b-instruct-q4_k_m", MODEL)
COUNTED = ("read at first try", "no copy", "new instruction", "without leak")
WRONG = 4  # questions of each task
COPY = 90  # similarity, in percent, from which a gradient is a copy


async def coached(task: sb.Task, lang: sb.Language) -> list[tuple[int, int]]:
    """How many of how many: replies read, gradients, new instructions, those without a leak."""
    scores = await sb.evaluate(task.graph, task.train, task, lang)
    chosen = [row.id for row in scores.rows if not row.correct][:WRONG]
    wrong = [example for example in task.train if example.id in chosen]
    traces = {each.id: await sb.forward(task.graph, each, lang) for each in wrong}
    few = replace(task, train=wrong)
    run = await sb.descend(few, lang, steps=1, errors=WRONG, gate="off")
    step = run.steps[1]
    calls = sum(count.calls for (phase, _), count in run.usage.counts.items() if phase != "forward")
    asked = len(wrong) + len(task.graph.order)  # one backward call a question, one update a node
    gradients = [
        ratio(text, traces[id].values[to]) < COPY
        for id, messages in step.messages.items()
        for _, to, text in messages
    ]
    new = {
        node.name: node.instruction != task.graph[node.name].instruction for node in step.candidate
    }
    clean = [name not in step.leaks for name, differs in new.items() if differs]
    read = asked - (calls - asked)  # what could not be read was asked for once more
    return [
        (read, asked),
        *((sum(each), len(each)) for each in (gradients, [*new.values()], clean)),
    ]


async def main(url: str) -> None:
    cache, settings = sb.ResponseCache(), {"timeout": 3600.0, "in_flight": 8, "base_url": url}
    answering, rows = sb.LLM(MODEL, cache=cache, **settings), []
    tasks = [
        sb.tasks.bbh("date_understanding", hint_form=SHORT),
        sb.tasks.gsm8k(train=20, hint_form=SHORT),
    ]
    for coach in COACHES:
        for folder in [None, *filter(None, [os.environ.get("OLD")])]:
            lang = sb.Language(answering, sb.LLM(coach, cache=cache, **settings), prompts=folder)
            counts = [await coached(task, lang) for task in tasks]
            row = {"coach": coach, "templates": folder or "these"}
            for name, pairs in zip(COUNTED, zip(*counts)):
                some, total = map(sum, zip(*pairs))
                row[name] = f"{some} of {total}"
            rows.append(row)
            print(row, flush=True)
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    if os.environ.get("SEMBACK_CACHE_MODE") == "replay":
        asyncio.run(main("http://127.0.0.1:1/v1"))
    else:
        with llama.serving([*COACHES], threads=int(sys.argv[1])) as url:
            asyncio.run(main(url))
