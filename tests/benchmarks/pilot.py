"""`make pilot`: is there headroom? Before the study, and on training questions only.

The start graph of each task is evaluated twice (the second time is the null control), and so are
two sets of instructions written by hand: to work step by step, in two ways that the answer node
compares; and to answer at once. Where none of them moves the score by more than a second evaluation
does, no optimiser can show anything with this model. The results are in docs/real.md.
"""

import asyncio
import os
import sys

import semback as sb
from semback.llm import llama

MODEL = "qwen2.5-coder-0.5b-instruct-q4_k_m"
SHORT = "At most two sentences."
TASKS = {
    name: (sb.tasks.bbh, {"category": name})
    for name in ("date_understanding", "object_counting", "boolean_expressions")
}
TASKS |= {"gsm8k": (sb.tasks.gsm8k, {"train": 20})}
BY_HAND = {
    "hint_1": "Work out the answer step by step. State the result of each step, and the answer.",
    "hint_2": "Solve it in another way, independently, and state the answer.",
    "answer": "Compare the answers of both hints. If they differ, check which one is right.",
}
AT_ONCE = {
    "hint_1": "State the answer at once, without reasons.",
    "hint_2": "State the answer at once, without reasons.",
    "answer": "Take the answer of the hints. If they differ, choose the more plausible one.",
}


async def pilot(url: str) -> None:
    cache = sb.ResponseCache()
    llm = sb.LLM(MODEL, cache=cache, base_url=url, timeout=3600.0, in_flight=16)
    print(f"{MODEL}: training questions answered correctly")
    for name, (function, arguments) in TASKS.items():
        task = function(**arguments, hint_form=SHORT)
        lang = sb.Language(llm, llm)
        found = await sb.worth.headroom(task, lang, [BY_HAND, AT_ONCE])
        found.index = ["start", "start, once more", "by hand", "at once"]
        print(f"\n{name}, {len(task.train)} questions\n{found.round(2).to_string()}", flush=True)


if __name__ == "__main__":
    if os.environ.get("SEMBACK_CACHE_MODE") == "replay":
        asyncio.run(pilot("http://127.0.0.1:1/v1"))
    else:
        with llama.serving([MODEL], threads=int(sys.argv[1])) as url:
            asyncio.run(pilot(url))
