"""`make coaching`: what real coaches make of our prompts, on training questions only.

Of each sample file of BBH, questions that the start graph answers wrongly are coached together,
once by each model. Counted are replies whose blocks could be read at the first try, gradients that
are no copy of the value that they are about, instructions that differ from the old ones, and those
that do not leak. `OLD=FOLDER` measures other templates, such as those of an earlier commit. The
results are in docs/real.md.
"""

import asyncio
import os
import sys
from dataclasses import replace

from rapidfuzz.fuzz import ratio

import semback as sb
from benchmarks.pilot import MODEL, SHORT
from semback.llm import llama

COACHES = ("qwen2.5-coder-1.5b-instruct-q4_k_m", MODEL)
FILES = ("date_understanding", "object_counting", "boolean_expressions")
WRONG = 4  # questions of each file
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
    new = [
        step.candidate[name].instruction != task.graph[name].instruction
        for name in task.graph.order
    ]
    clean = [name not in step.leaks for name in task.graph.order]
    read = asked - (calls - asked)  # what could not be read was asked for once more
    return [(read, asked), *((sum(each), len(each)) for each in (gradients, new, clean))]


async def main(url: str) -> None:
    cache, settings = sb.ResponseCache(), {"timeout": 3600.0, "in_flight": 8, "base_url": url}
    answering = sb.LLM(MODEL, cache=cache, **settings)
    print("coach: read at first try, gradients no copy, new instructions, without leak")
    for coach in COACHES:
        whole = [[0, 0] for _ in range(4)]
        for name in FILES:
            lang = sb.Language(
                answering, sb.LLM(coach, cache=cache, **settings), prompts=os.environ.get("OLD")
            )
            for total, found in zip(
                whole, await coached(sb.tasks.bbh(name, hint_form=SHORT), lang)
            ):
                total[:] = map(sum, zip(total, found))
        shares = (f"{some} of {all_} ({some / max(all_, 1):.0%})" for some, all_ in whole)
        print(f"{coach}: {', '.join(shares)}", flush=True)


if __name__ == "__main__":
    with llama.serving([*COACHES], threads=int(sys.argv[1])) as url:
        asyncio.run(main(url))
