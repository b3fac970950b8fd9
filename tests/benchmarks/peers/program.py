"""`python program.py by_textgrad URL`: the work W by one library. Questions come as JSON on
standard input, seconds and requests go out.

What a peer's module gives is `start(url)`, which returns two functions: `evaluate(questions)` gives
the answer to each question, a text, and `step(questions)` improves the instructions of the three
nodes from wrongly answered ones. One question before W is for what a library does only once; the
import is timed apart.
"""

import importlib
import json
import sys
import time
from urllib.request import urlopen

PARTS = "evaluate", "step", "evaluate again"


def main(name: str, url: str) -> None:
    questions, began = json.load(sys.stdin), time.perf_counter()
    peer = importlib.import_module(name)
    seconds, requests = {"import": time.perf_counter() - began}, {}

    def timed(part, function, *arguments):
        before, began = _requests(url), time.perf_counter()
        done = function(*arguments)
        seconds[part] = time.perf_counter() - began
        requests[part] = _requests(url) - before
        return done

    evaluate, step = peer.start(url)
    evaluate([questions.pop()])
    answers = timed("evaluate", evaluate, questions)
    wrong = [
        each
        for each, answer in zip(questions, answers, strict=True)
        if read(answer) != each["answer"]
    ]
    timed("step", step, wrong[:2])
    again = timed("evaluate again", evaluate, questions)
    assert all(read(answer).isdigit() for answer in answers + again), "an answer cannot be read"
    assert not set(answers) & set(again), "a question was asked again with the old instructions"
    print(json.dumps({**seconds, "W": sum(seconds[part] for part in PARTS), "requests": requests}))


def read(answer: str) -> str:
    """What the answer node's text says the answer is."""
    return answer.rpartition("Answer: ")[2].strip()


def _requests(url) -> int:
    with urlopen(url.removesuffix("/v1") + "/counters", data=b"{}") as said:
        return json.load(said)["requests"]


if __name__ == "__main__":
    main(*sys.argv[1:])
