"""`make pilot`: is there headroom? Before the study, and on training questions only.

The start graph of each task is evaluated twice (the second time is the null control), and so are
two sets of instructions written by hand: to work step by step, in two ways that the answer node
compares; and to answer at once. Where none of them moves the score by more than a second evaluation
does, no optimiser can show anything with this model. The results are in docs/real.md.

It asks of the data sets themselves: SEMBACK_DATA_DIR, or they are downloaded.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence

import pandas

import semback as sb
from semback.llm import llama

MODEL = "qwen2.5-coder-0.5b-instruct-q4_k_m"
SHORT = "At most two sentences."
QUESTIONS = 10  # of each task
ABREAST = 3  # tasks at a time, so that the server is never idle
BBH = (
    "date_understanding object_counting boolean_expressions navigate snarks hyperbaton "
    "web_of_lies sports_understanding disambiguation_qa tracking_shuffled_objects_three_objects"
).split()  # half of them language, half algorithms
STEPS = "Work out the answer step by step. State the result of each step, and the answer."
AT_ONCE = "State the answer at once, without reasons."
HINTS = {
    "by hand": {
        "hint_1": STEPS,
        "hint_2": "Solve it in another way, independently, and state the answer.",
        "answer": "Compare the answers of both hints. If they differ, check which one is right.",
    },
    "at once": {
        "hint_1": AT_ONCE,
        "hint_2": AT_ONCE,
        "answer": "Take the answer of the hints. If they differ, choose the more plausible one.",
    },
}
LIAR = {
    "by hand": {
        "Statement": "What exactly does it claim? Recall what is known about it, and say whether "
        "the claim is true, false, or exaggerated.",
        "Final": "Weigh the five answers step by step, the one about the statement itself most. A "
        "statement that is false or badly exaggerated is a lie (Yes); otherwise it is not (No).",
    },
    "at once": {
        "Statement": "Say at once whether it is true or false.",
        "Final": "Take the answer about the statement: Yes if it is false, No if it is true.",
    },
}


def tasks() -> dict[str, tuple[sb.Task, dict]]:
    """Each task, and its instructions by hand."""
    chosen = {
        "gsm8k": (sb.tasks.gsm8k(train=QUESTIONS, data="full", hint_form=SHORT), HINTS),
        "liar": (sb.tasks.liar(train=QUESTIONS, data="full"), LIAR),
    }
    for name in BBH:
        task = sb.tasks.bbh(name, train=QUESTIONS, data="full", hint_form=SHORT)
        chosen[name] = task, HINTS
    return chosen


async def pilot(url: str | None, model: str) -> None:
    cache, rows, turn = sb.ResponseCache(), {}, asyncio.Semaphore(ABREAST)
    llm = sb.LLM(model, cache=cache, base_url=url, timeout=3600.0, in_flight=16)
    names = ["start", "once more", *HINTS]

    async def row(name: str, task: sb.Task, instructions: dict) -> None:
        async with turn:
            try:
                lang = sb.Language(llm, llm)
                found = await sb.worth.headroom(task, lang, list(instructions.values()))
            except sb.CacheMiss:
                print(f"{name}: not recorded")  # LIAR may not be passed on
                return
        rows[name] = dict(zip(names, (found.accuracy * QUESTIONS).round().astype(int)))
        print(name, rows[name], flush=True)

    chosen = tasks()
    await asyncio.gather(*(row(name, *each) for name, each in chosen.items()))
    table = pandas.DataFrame({name: rows[name] for name in chosen if name in rows}).T
    table.loc["all"] = table.sum()
    print(f"\n{model}: correct answers to {QUESTIONS} training questions each\n{table.to_string()}")


def run(function: Callable[[str | None], Coroutine], models: Sequence[str]) -> None:
    """Run a function of the address of a server of these models; in replay there is none."""
    if os.environ.get("SEMBACK_CACHE_MODE") == "replay":
        asyncio.run(function(None))
    else:
        with llama.serving([*models], threads=int(sys.argv[1])) as url:
            asyncio.run(function(url))


if __name__ == "__main__":
    model = os.environ.get("MODEL") or MODEL
    run(lambda url: pilot(url, model), [model])
