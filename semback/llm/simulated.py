"""A simulated model, so that everything runs with no key, no network and no cost. Its numbers say nothing about real models.

It is a student model in the sense of item response theory. Every question has a difficulty, every task has some skills
that help with it, and a node's instruction carries the skills that are recognised by cues in its text (`SKILLS`). A
hint shows the skills it was made with. The answer node has its own skills and those that its inputs show, each
counted once; its answer is right when they outweigh the difficulty. This is the Rasch model, P(right) = logistic(ability -
difficulty), with hashes of the question as dice: the same request has the same reply, always and everywhere.

As a coach it knows beforehand which skills help with the task; from the prompt it takes whether anything should have been different,
and which of these skills nothing in sight shows. Shown all the inputs of a node together it shares them out; shown one input alone
it cannot know what the others contribute, and names the same skill for each; without gradients it guesses among all skills. It is
wrong now and then, and some of its proposals do harm.

What a result with it shows: that gradients reach every node, become instructions, and are kept or not by the gate. It does not show
that a score's content leads to the instruction at fault (`clerk` does, which knows nothing but its prompt), nor anything about how
well real models do any of this; and what it loses where a part is switched off is built into it.

It sits behind the real `openai` client, as a transport inside the process, so that all other code runs as it would live.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Callable

from ..cache.responses import ResponseCache
from ..errors import ParameterError, check
from ..prompts import fenced, outside
from ..tasks import Task
from ..usage import SIMULATED
from .chat import LLM

# What an instruction may ask for: the cue that shows it, in instructions, hints and gradients alike, and the words for it.
SKILLS = {
    r"step by step": "Work step by step.",
    r"given facts": "List the given facts first.",
    r"exactly what is asked": "Say exactly what is asked.",
    r"check the result": "Check the result against the question.",
    r"each possibility": "Go through each possibility.",
    r"order of events": "Keep track of the order of events.",
    r"every word means": "Say what every word means.",
    r"counterexample": "Look for a counterexample.",
    r"negations": "Watch out for negations.",
    r"every calculation": "Write out every calculation.",
    r"does not matter": "Set aside what does not matter.",
    r"who says it": "Consider who says it and why.",
}
HASTE = r"at once, without explanation"
HELPFUL = 8  # skills that help with a task, out of the twelve
START, GAIN, LOSS = (
    -0.3,
    (0.2, 0.6),
    1.5,
)  # ability without any skill; what a skill adds, least to most; what haste takes (logits)
FOLLOWED = 2  # pieces of advice in one instruction that are followed: the first ones
MISJUDGED, HARMFUL = (
    0.15,
    0.15,
)  # share of a coach's judgements that name a useless skill, and of its instructions that do harm


def model(name: str, task: Task, cache: ResponseCache | None = None, **settings) -> LLM:
    """The model that a notebook's parameter names: a simulated one if the name begins with "simulated", else LLM(name)."""
    ours = isinstance(name, str) and name.startswith(SIMULATED)
    return simulated(task, cache, name=name, **settings) if ours else LLM(name, cache, **settings)


def simulated(
    task: Task,
    cache: ResponseCache | None = None,
    name: str = SIMULATED,
    delay: float = 0.0,
    failing: float = 0.0,
    unreadable: float = 0.0,
    **settings,
) -> LLM:
    """An LLM that is answered by a student model which knows the questions of `task`.

    Parameters
    ----------
    task: its examples are the only questions that it can answer, and only in part.
    cache: as LLM's.
    name: begins with "simulated"; another name is another student, with other dice.
    delay: the longest time to a reply, in seconds; each request has its own, from 0 to that.
    failing: share of requests, from 0 to 1, that are answered with HTTP status 500.
    unreadable: share of replies, from 0 to 1, that are not in the form asked for.
    settings: the other parameters of LLM.

    Errors
    ------
    ParameterError: no task, a name that does not begin so, a time or share that cannot be.
    """
    check(Task, "a Task, as in simulated(task)", task=task)
    check(int | float, "a number", delay=delay, failing=failing, unreadable=unreadable)
    if not 0 <= delay < math.inf or not 0 <= failing <= 1 or not 0 <= unreadable <= 1:
        raise ParameterError(
            f"delay is in seconds, failing and unreadable are shares from 0 to 1; not {delay}, {failing}, {unreadable}"
        )
    student = Student(task, name)

    async def says(messages, attempt):
        text = json.dumps(messages)
        if delay:
            await asyncio.sleep(delay * dice("delay", text))
        if dice("fail", text, attempt) < failing:
            return None
        return (
            student.reply(messages)
            if dice("unreadable", text) >= unreadable
            else "I would rather not commit myself."
        )

    return scripted(name, says, cache, **settings)


def scripted(name: str, says: Callable, cache: ResponseCache | None = None, **settings) -> LLM:
    """An LLM that is answered by a function of this process, in place of the network.

    Parameters
    ----------
    name: begins with "simulated".
    says: async (messages, attempt) -> the reply, or None for HTTP status 500. attempt: "0", or which retry of the client it is.
    cache, settings: as LLM's.

    Its tokens are four characters each, of the messages as JSON and of the reply.
    """
    if not isinstance(name, str) or not name.startswith(SIMULATED):
        raise ParameterError(
            f"a simulated model's name begins with {SIMULATED!r}, so that nobody takes it for a real one; not {name!r}"
        )

    def transport():  # made at the first call that is not recorded, since httpx2 takes time to import
        import httpx2

        async def handle(request):
            messages = json.loads(request.content)["messages"]
            said = await says(messages, request.headers.get("x-stainless-retry-count", "0"))
            if said is None:
                return httpx2.Response(500, json={"error": {"message": "simulated failure"}})
            sizes = len(json.dumps(messages)), len(said)
            return httpx2.Response(
                200,
                json={
                    "id": "simulated",
                    "object": "chat.completion",
                    "created": 0,
                    "model": name,
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "stop",
                            "message": {"role": "assistant", "content": said},
                        }
                    ],
                    "usage": {
                        "prompt_tokens": sizes[0] // 4,
                        "completion_tokens": sizes[1] // 4,
                        "total_tokens": sum(sizes) // 4,
                    },
                },
            )

        return httpx2.MockTransport(handle)

    return LLM(name, cache, transport=transport, **settings)


def prompt_parts(messages: list[dict]) -> tuple[str, list[tuple[str, str]], str]:
    """What a prompt consists of: the system message, the (label, text) of each fenced block, and the user message without those."""
    system = "\n".join(m["content"] for m in messages if m["role"] == "system")
    prompt = next(m["content"] for m in messages if m["role"] == "user")
    return system, fenced(prompt), outside(prompt)


def dice(*parts) -> float:
    """A number from 0 to 1 that depends on nothing but the parts."""
    return (
        int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:7], "big")
        / 2**56
    )


class Student:
    """What the simulated model knows and does: a function from messages to a reply."""

    def __init__(self, task: Task, name: str):
        self.task, self.name = task, name
        self.known: dict[str, str] = {}
        for example in (*task.train, *task.test):
            self.known.setdefault(example.question, example.answer)
        self.answers = sorted(set(self.known.values()))
        helpful = sorted(SKILLS, key=lambda skill: dice(name, task.name, skill))[:HELPFUL]
        self.gain = {
            skill: GAIN[0] + (GAIN[1] - GAIN[0]) * dice(name, task.name, skill, "gain")
            for skill in helpful
        }

    def reply(self, messages: list[dict]) -> str:
        """What the student says; it tells what it is asked for by the blocks that the prompt wants, and looks at nothing else."""
        (system, fences, asked), prompt = (
            prompt_parts(messages),
            next(m["content"] for m in messages if m["role"] == "user"),
        )
        if targets := re.findall(r'^<gradient to="(.*)">$', asked, re.MULTILINE):
            return "\n".join(
                f'<gradient to="{to}">\n{said}\n</gradient>'
                for to, said in self._judge(targets, fences).items()
            )
        if "<critique>" in asked:
            return f"<critique>\n{self._weakness(fences)}\n</critique>"
        if "<instruction>" in asked:
            return f"<instruction>\n{self._instruction(fences, prompt)}\n</instruction>"
        return self._answer(system, fences)

    def _answer(self, system: str, fences) -> str:
        """A hint shows the skills of its node and of the node's inputs; the answer node shows them too, and commits itself."""
        own, hasty = _skills(system)[:FOLLOWED], bool(re.search(HASTE, system))
        gathered = list(
            dict.fromkeys(
                [
                    *own,
                    *_skills(
                        "\n".join(text for label, text in fences if label.startswith("from "))
                    ),
                ]
            )
        )
        worked = (
            "I took it at once."
            if hasty
            else " ".join(["I looked at the question.", *(SKILLS[skill] for skill in gathered)])
        )
        question = next((text for label, text in fences if label == "question"), None)
        if not self._answers(system) or question not in self.known:
            return worked
        ability = START + sum(self.gain.get(skill, 0) for skill in gathered) - LOSS * hasty
        difficulty = _logit(dice(self.name, question, "difficulty")) / 2
        right = _logit(dice(self.name, question, "luck")) < ability - difficulty
        answer = self.known[question] if right else self._mistake(question)
        stated = f"{worked}\n\nAnswer: {answer}"
        return stated if self.task.read(stated) == answer else answer

    def _answers(self, system: str) -> bool:
        """Whether this is the answer node's prompt: it has the form, or else the purpose, of the task's answer node."""
        node = self.task.graph[self.task.graph.answer]
        return node.form in system if node.form else system.startswith(_purpose(node.instruction))

    def _mistake(self, question: str) -> str:
        others = [answer for answer in self.answers if answer != self.known[question]]
        return (
            others[int(dice(self.name, question, "mistake") * len(others))] if others else "unknown"
        )

    def _missing(self, fences) -> list[str]:
        """The skills to name: those that a gradient names; else the helpful ones that nothing in sight shows, unless all was well."""
        told = [text for label, text in fences if label in ("gradient", "critique")]
        if (
            (named := _skills("\n".join(told)))
            or told
            and not any("should have been" in text for text in told)
        ):
            return named
        seen = _skills(
            "\n".join(
                text
                for label, text in fences
                if label in ("instruction", "output") or label.startswith("from ")
            )
        )
        return [skill for skill in self.gain if skill not in seen]

    def _judge(self, targets, fences) -> dict[str, str]:
        missing, judged = self._missing(fences), {}
        for place, to in enumerate(targets):
            named = missing[place % len(missing)] if missing else None
            if dice(self.name, "misjudged", to, fences) < MISJUDGED:
                named = list(SKILLS)[int(dice(to, fences) * len(SKILLS))]
            judged[to] = (
                f"It should have been made with this advice: {SKILLS[named]}"
                if named
                else "It should stay as it is."
            )
        return judged

    def _weakness(self, fences) -> str:
        missing = self._missing(fences)
        return (
            f"It does not give this advice: {SKILLS[missing[0]]}" if missing else "There is none."
        )

    def _instruction(self, fences, prompt: str) -> str:
        old = next(text for label, text in fences if label == "instruction")
        has = _skills(old)[:FOLLOWED]
        if any(label == "gradient" for label, _ in fences):
            inputs = len({label for label, _ in fences if label.startswith("from ")})
            missing = [skill for skill in self._missing(fences) if skill not in has]
            new = missing[inputs % len(missing)] if missing else None
        else:
            new = list(SKILLS)[int(dice("guess", prompt) * len(SKILLS))]
        if new:
            has = [*has, new][-FOLLOWED:]  # there is no room for more: the oldest goes
        advice = [SKILLS[skill] for skill in dict.fromkeys(has)]
        if dice(self.name, "harm", prompt) < HARMFUL:
            advice = ["Answer at once, without explanation."]
        return " ".join([_purpose(old), *advice])


def _skills(text: str) -> list[str]:
    """The skills whose cues stand in a text, in the order of their first cue."""
    places = {
        skill: found.start() for skill in SKILLS if (found := re.search(skill, text, re.IGNORECASE))
    }
    return sorted(places, key=places.get)


def _purpose(instruction: str) -> str:
    """The first sentence, which says what a node is for; the simulated coach never changes it."""
    return re.split(r"(?<=[.!?])\s", instruction.strip())[0]


def _logit(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))
