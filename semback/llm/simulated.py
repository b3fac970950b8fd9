"""A simulated model: everything runs without a key, a network or costs.

Its numbers say nothing about real models. It is a student model in the sense of item response
theory. Every question has a difficulty, every task has some skills that help with it, and an
instruction carries the skills whose cues are in its text (`SKILLS`). A hint shows the skills that
it was made with. The answer node has its own skills and those that its inputs show, each counted
once, and answers by the Rasch model: P(correct) = logistic(ability - difficulty). Hashes serve as
dice, so the same request has the same reply on every machine.

As a coach it knows in advance which skills help with the task. From the prompt it learns whether
anything should have been different, and which of these skills no text in the prompt shows. If it
sees all inputs of a node together, it divides these skills among them; if it sees one input alone,
it cannot know what the others contribute, and names the same skill for each. Without gradients it
guesses. Some of its judgements are wrong, and some of its instructions do harm.

A result with it shows that gradients reach every node, become instructions, and are accepted or
rejected by the gate. It does not show that the content of a score leads to the faulty instruction
(`semback.studies.credit` measures that), nor how well real models do any of this; and what an
ablation loses is built into the model.

It sits behind the real `openai` client, as a transport in this process, so that all other code runs
as it does with an endpoint.

References
----------
Rasch, G. (1960). Probabilistic models for some intelligence and attainment tests. Copenhagen.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..cache import ResponseCache
from ..errors import ParameterError
from ..prompts import fenced, outside
from ..task import Task
from ..usage import SIMULATED
from .chat import LLM

# The cue of each skill, in instructions, hints and gradients, and the advice that contains it.
SKILLS = {
    "step by step": "Work step by step.",
    "given facts": "List the given facts first.",
    "exactly what is asked": "Say exactly what is asked.",
    "check the result": "Check the result against the question.",
    "each possibility": "Go through each possibility.",
    "order of events": "Keep track of the order of events.",
    "every word means": "Say what every word means.",
    "counterexample": "Look for a counterexample.",
    "negations": "Watch out for negations.",
    "every calculation": "Write out every calculation.",
    "does not matter": "Set aside what does not matter.",
    "who says it": "Consider who says it and why.",
}
HASTE = "at once, without explanation"  # the cue of harmful advice
HELPFUL = 8  # skills that help with a task, of the twelve
FOLLOWED = 2  # pieces of advice in one instruction that are followed: the first ones
START = -0.3  # ability without any skill, in logits
GAIN = (0.2, 0.6)  # the least and the most that a skill adds to it
LOSS = 1.5  # what haste takes from it
MISJUDGED = 0.15  # share of a coach's judgements that name a random skill
HARMFUL = 0.15  # share of a coach's instructions that do harm


def model(name: str, task: Task, cache: ResponseCache | None = None, **settings) -> LLM:
    """The model of this name: simulated if the name begins with "simulated", else ``LLM(name)``.

    Parameters
    ----------
    name : str
    task : Task
        Its questions are those that a simulated model can answer.
    cache : ResponseCache, optional
    **settings
        The other parameters of `LLM`.
    """
    if isinstance(name, str) and name.startswith(SIMULATED):
        return LLM.simulated(task, cache, name, **settings)
    return LLM(name, cache, **settings)


def scripted(
    name: str, reply: Callable[[list[dict]], str], cache: ResponseCache | None = None, **settings
) -> LLM:
    """An LLM whose replies come from a function in this process, in place of an endpoint.

    Parameters
    ----------
    name : str
        Begins with "simulated".
    reply : callable
        From the messages of a request to the text of the reply.
    cache : ResponseCache, optional
    **settings
        The other parameters of `LLM`.

    Raises
    ------
    ParameterError
        A name that does not begin with "simulated".
    """
    if not isinstance(name, str) or not name.startswith(SIMULATED):
        raise ParameterError(
            f"the name of a simulated model begins with {SIMULATED!r}, so that nobody takes it for "
            f"a real one; {name!r} does not"
        )

    def transport():
        import httpx2  # only at the first request that is not recorded: the import takes time

        def handle(request: httpx2.Request) -> httpx2.Response:
            messages = json.loads(request.content)["messages"]
            return httpx2.Response(200, json=_completion(name, messages, reply(messages)))

        return httpx2.MockTransport(handle)

    return LLM(name, cache, transport=transport, **settings)


def _completion(name: str, messages: list[dict], text: str) -> dict:
    """The body of a chat completion. A token is four characters (of JSON, in the prompt)."""
    prompt, reply = len(json.dumps(messages)) // 4, len(text) // 4
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    head = {"id": "simulated", "object": "chat.completion", "created": 0, "model": name}
    return {**head, "choices": [choice], "usage": usage}


def dice(*parts) -> float:
    """A pseudo-random number from 0 to 1 that depends on the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def pick(options: Sequence[str], *parts) -> str:
    """One of the options; which one depends on the parts alone."""
    return options[int(dice(*parts) * len(options))]


def block(tag: str, text: str, to: str | None = None) -> str:
    """A block of a reply, in the form that the prompts ask for."""
    opening = tag if to is None else f'{tag} to="{to}"'
    return f"<{opening}>\n{text}\n</{tag}>"


@dataclass(frozen=True)
class Prompt:
    """The messages of a request, taken apart.

    Attributes
    ----------
    system : str
        The system message: in a forward call, the node's instruction and form. With
        ``system="user"`` they are in the user message, which is then given here too.
    user : str
        The first user message.
    data : list of (str, str)
        The (label, text) of each fenced block of the user message.
    wording : str
        The user message without its fenced blocks.
    """

    system: str
    user: str
    data: list[tuple[str, str]]
    wording: str

    @classmethod
    def of(cls, messages: list[dict]) -> "Prompt":
        """The prompt that these messages hold, in OpenAI's chat format."""
        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        user = next(m["content"] for m in messages if m["role"] == "user")
        return cls(system or user, user, fenced(user), outside(user))

    @property
    def targets(self) -> list[str]:
        """The inputs for which the prompt asks for a gradient."""
        return re.findall(r'^<gradient to="(.*)">$', self.wording, re.MULTILINE)

    def texts(self, *labels: str) -> list[str]:
        """The fenced texts with one of these labels; "from" stands for the values of all inputs."""
        return [text for label, text in self.data if label.partition(" ")[0] in labels]


class Student:
    """What the simulated model knows about a task, and its replies.

    Parameters
    ----------
    task : Task
    name : str
        The model's name, on which all its dice depend.
    """

    def __init__(self, task: Task, name: str):
        self.task, self.name = task, name
        self.known: dict[str, str] = {}
        for example in (*task.train, *task.test):
            self.known.setdefault(example.question, example.answer)
        helpful = sorted(SKILLS, key=lambda skill: dice(name, task.name, skill))[:HELPFUL]
        least, most = GAIN
        self.gain = {
            skill: least + (most - least) * dice(name, task.name, skill, "gain")
            for skill in helpful
        }

    def reply(self, messages: list[dict]) -> str:
        """The reply to a prompt; the blocks that it asks for tell what kind of call it is."""
        prompt = Prompt.of(messages)
        reasons = block("reasons", self._weakness(prompt)) + "\n"
        if prompt.targets:
            return reasons + self._gradients(prompt)
        if "<critique>" in prompt.wording:
            return reasons + block("critique", self._weakness(prompt))
        if "<instruction>" in prompt.wording:
            return reasons + block("instruction", self._instruction(prompt))
        return self._for_library(prompt.user) or self._value(prompt)

    def _value(self, prompt: Prompt) -> str:
        """The value of a node: it shows the skills of the node and of its inputs."""
        skills = _skills(prompt.system)[:FOLLOWED] + _skills("\n".join(prompt.texts("from")))
        skills = list(dict.fromkeys(skills))
        hasty = HASTE in prompt.system
        working = " ".join(["I looked at the question.", *(SKILLS[skill] for skill in skills)])
        if hasty:
            working = "I took it at once."
        question = next(iter(prompt.texts("question")), "")
        if question not in self.known or not self._is_answer_node(prompt.system):
            return working
        ability = START + sum(self.gain.get(skill, 0) for skill in skills) - LOSS * hasty
        answer = self._answer(question, ability)
        reply = f"{working}\n\nAnswer: {answer}"
        return reply if self.task.read(reply) == answer else answer

    def _is_answer_node(self, system: str) -> bool:
        """Whether a system message has the form, or else the purpose, of the task's answer node."""
        node = self.task.graph[self.task.graph.answer]
        return node.form in system if node.form else system.startswith(_purpose(node.instruction))

    def _answer(self, question: str, ability: float) -> str:
        """The right answer if the ability suffices, else that to another question."""
        difficulty = _logit(dice(self.name, question, "difficulty")) / 2
        right = self.known[question]
        if _logit(dice(self.name, question, "luck")) < ability - difficulty:
            return right
        others = sorted(set(self.known.values()) - {right})
        return pick(others, self.name, question, "mistake") if others else "unknown"

    def _missing(self, prompt: Prompt) -> list[str]:
        """The skills that gradients name; if they name none, the helpful ones that no text shows.

        None is missing if the gradients do not say that anything should have been different.
        """
        gradients = "\n".join(prompt.texts("gradient", "critique"))
        named = _skills(gradients)
        if named or (gradients and "should have been" not in gradients):
            return named
        shown = _skills("\n".join(prompt.texts("instruction", "output", "from")))
        return [skill for skill in self.gain if skill not in shown]

    def _gradients(self, prompt: Prompt) -> str:
        missing, blocks = self._missing(prompt), []
        for place, to in enumerate(prompt.targets):
            skill = missing[place % len(missing)] if missing else None
            if dice(self.name, "misjudged", to, prompt.data) < MISJUDGED:
                skill = pick(list(SKILLS), to, prompt.data)
            text = "It should stay as it is."
            if skill:
                text = f"It should have been made with this advice: {SKILLS[skill]}"
            blocks.append(block("gradient", text, to))
        return "\n".join(blocks)

    def _weakness(self, prompt: Prompt) -> str:
        for skill in self._missing(prompt):
            return f"It does not give this advice: {SKILLS[skill]}"
        return "There is none."

    def _instruction(self, prompt: Prompt) -> str:
        """The old purpose with the latest pieces of advice, as many as are followed."""
        old = prompt.texts("instruction")[0]
        skills = _skills(old)[:FOLLOWED]
        new = self._new_skill(prompt, skills)
        if new:
            skills = [*skills, new][-FOLLOWED:]
        advice = [SKILLS[skill] for skill in dict.fromkeys(skills)]
        if dice(self.name, "harm", prompt.user) < HARMFUL:
            advice = ["Answer at once, without explanation."]
        return " ".join([_purpose(old), *advice])

    def _for_library(self, text: str) -> str | None:
        """A guess, in the form that the optimiser of another library asks for.

        None for any other prompt, including that for a library's gradient.
        """
        if "<IMPROVED_VARIABLE>" in text:  # TextGrad
            return f"<IMPROVED_VARIABLE>{self._guess(text)}</IMPROVED_VARIABLE>"
        if text.endswith("within ``` blocks."):  # gepa
            return f"```\n{self._guess(text)}\n```"
        if text.rstrip().endswith("Your response:"):  # OptoPrime
            variables = text.partition("\n#Variables\n")[2].partition("\n#Constraints\n")[0]
            old = re.findall(r"^\(str\) (\w+)=(.*)$", variables, re.MULTILINE)
            guesses = {name: self._guess(f"{name}: {each}") for name, each in old}
            return json.dumps({"suggestion": guesses})
        form = text.rpartition("output fields")[2]  # DSPy
        fields = re.findall(r"\[\[ ## (proposed_\w+) ## \]\]", form)
        guess = self._guess(text)
        return "\n\n".join(f"[[ ## {field} ## ]]\n{guess}" for field in fields) or None

    def _guess(self, text: str) -> str:
        """An instruction for the first node that a text speaks of, with random advice."""
        purposes = [_purpose(node.instruction) for node in self.task.graph]
        purpose = min((each for each in purposes if each in text), key=text.find, default="")
        advice = [SKILLS[pick(list(SKILLS), self.name, text, n)] for n in range(FOLLOWED)]
        return " ".join([purpose, *dict.fromkeys(advice)]).strip()

    def _new_skill(self, prompt: Prompt, present: list[str]) -> str | None:
        if not prompt.texts("gradient"):
            return pick(list(SKILLS), "guess", prompt.user)
        missing = [skill for skill in self._missing(prompt) if skill not in present]
        inputs = {label for label, _ in prompt.data if label.startswith("from ")}
        return missing[len(inputs) % len(missing)] if missing else None


def _skills(text: str) -> list[str]:
    """The skills whose cues are in a text, in the order of their first cue."""
    lower = text.lower()
    return sorted((skill for skill in SKILLS if skill in lower), key=lower.index)


def _purpose(instruction: str) -> str:
    """The first sentence of an instruction, which the simulated coach never changes."""
    return re.split(r"(?<=[.!?])\s", instruction.strip())[0]


def _logit(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))
