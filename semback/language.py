"""Language: the functions of a system whose values are texts and whose nodes are calls to language models.

`forward`, `backward` and `aggregate` are what `propagate` asks for; `update` turns gradients into a better instruction.
The words are in prompts/*.j2. A reply is read strictly: it has the form that was asked for, or it is a named failure.
A failure is asked again once, with the reason; if that fails too the result is None, which nobody mistakes for a text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from .errors import ModelError, ParameterError
from .graph import Node
from .prompts import forward_rendered, load, rendered
from .propagate import Trace, together
from .usage import Usage


@dataclass(frozen=True)
class Reply:
    """What a model said.

    text: the reply; empty where the model gave none. finish_reason: "stop", "length" (cut at the token limit),
    "refusal", "content_filter"… usage: {"prompt_tokens", "completion_tokens"}. model: as the endpoint names it.
    recorded: whether it came from the cache. shared: whether another caller's request, under way already, brought it.
    key: of its cache entry. fingerprint: the endpoint's, if it has one.
    """

    text: str
    finish_reason: str
    usage: Mapping[str, int]
    model: str
    recorded: bool
    key: str
    fingerprint: str | None = None
    shared: bool = False


class ChatModel(Protocol):
    """What `Language` asks of a model; `semback.LLM` is one."""

    model: str
    params: Mapping
    in_flight: int
    samples: bool

    async def chat(self, messages: list[dict], draw: int = 0) -> Reply: ...


class Case(NamedTuple):
    """One example as one node saw it; gradient is None where there is none. right: whether the whole system's answer was."""

    question: str
    inputs: dict[str, str | None]
    output: str | None
    gradient: str | None
    right: bool = False


CUT = "\n\n[The reply was cut here, at the token limit.]"
_TO_WHOM, _WORD = re.compile(r"""\s+to=(["'])(.*)\1\s*"""), re.compile(r"\w")


@dataclass(frozen=True)
class Language:
    """A language-model system's functions. Ablations are arguments, and no update ever resets them.

    Parameters
    ----------
    model: answers, in `forward`.
    coach: writes gradients and instructions, in `backward` and `update`; None where only `forward` is asked for.
    neighbourhood: whether a node judges all its inputs together, in one call; without it each input is judged alone, by
        a call that sees no other input. (That is TextGrad's form; its own prompt shows more of the context, but also
        asks about one variable at a time and does not say that the others may change.)
    gradient: whether there are gradients at all; without them `update` sees inputs and outputs only.
    feedback: what a gradient says of a value: "target", how it should be different, or "comment", how good it is.
    critique: whether `update` first asks for the weaknesses of the instruction, then for a better one.
    short: whether new instructions are to be at most 40 words.
    prompts: a folder with templates that replace those of the same name in semback/prompts.
    draw: which sample of every request, where a model samples; `descend` sets it from its seed. Nodes that ask the same get the same.
    usage: where calls and failures are counted.
    """

    model: ChatModel
    coach: ChatModel | None
    neighbourhood: bool = True
    gradient: bool = True
    feedback: str = "target"
    critique: bool = False
    short: bool = False
    prompts: str | Path | None = None
    draw: int = 0
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)

    def __post_init__(self):
        for name, said in (
            ("model", self.model),
            ("coach", self.coach),
        ):  # another class may chat too, or a subclass do without
            chats = (
                callable(getattr(said, "chat", None))
                or type(self) is not Language
                and not isinstance(said, str | None)
            )
            if not chats and not (said is None and name == "coach"):
                raise ParameterError(
                    f"{name} is {repr(said)[:80]}; it takes an LLM"
                    + f", as in LLM({said!r})" * isinstance(said, str)
                )
        for name in ("neighbourhood", "gradient", "critique", "short"):
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it takes True or False")
        if type(self.draw) is not int:
            raise ParameterError(f"draw is {self.draw!r}; it takes a whole number, an int")
        if self.feedback not in ("target", "comment"):
            raise ParameterError(f'feedback is {self.feedback!r}; it is "target" or "comment"')
        if self.prompts is not None and not (
            isinstance(self.prompts, str | Path) and Path(self.prompts).is_dir()
        ):
            raise ParameterError(f"prompts is {str(self.prompts)!r}, which is not a folder")
        load(self.prompts and str(self.prompts))

    # The three functions that propagate asks for

    async def forward(self, node: Node, question: str, inputs: dict[str, str | None]) -> str | None:
        """The node's value: the model's whole reply, and where it was cut at the token limit, that it was; None where it gave none."""
        return await self._ask(
            self.model, "forward", node.name, self._forward_messages(node, question, inputs), _value
        )

    def recorded(
        self, node: Node, asked: Sequence[tuple[str, dict[str, str | None]]]
    ) -> list[tuple[Reply, str] | None]:
        """`forward` for several questions and their inputs, without a call: for each the reply and the value; None where there is no
        value recorded. Nothing is counted."""
        said = self.model.recorded(
            [self._forward_messages(node, question, inputs) for question, inputs in asked],
            self._draw(self.model),
        )
        return [(reply, value) if reply and (value := _value(reply)[0]) else None for reply in said]

    async def backward(
        self,
        node: Node,
        question: str,
        inputs: dict[str, str | None],
        output: str | None,
        gradient: str,
    ) -> dict[str, str | None]:
        """One gradient for each input, from one call that sees them all; None for an input where the reply had none.

        Without the neighbourhood: one call an input.
        """
        groups = (
            [inputs] if self.neighbourhood else [{name: value} for name, value in inputs.items()]
        )
        gradients = {}
        for reply in await together(
            self._judge(node, question, group, output, gradient) for group in groups
        ):
            gradients |= reply
        return gradients

    def aggregate(self, gradients: Sequence[str]) -> str:
        """What several nodes said of one value, as one text: each said thing once, in order."""
        said = list(dict.fromkeys(gradients))
        return said[0] if len(said) == 1 else "\n".join(f"- {each}" for each in said)

    # And what descend, evaluate and plan ask for

    async def update(self, node: Node, cases: Sequence[Case]) -> str | None:
        """A better instruction for the node, given how it did in some cases; None where the reply had none."""
        critique = (
            await self._ask_for_block(node, "critique", "critique", cases=cases)
            if self.critique
            else None
        )
        return await self._ask_for_block(
            node, "update", "instruction", cases=cases, critique=critique, short=self.short
        )

    async def answer_again(
        self, trace: Trace, problem: str, read: Callable[[str], str | None]
    ) -> Trace:
        """The same trace with a second reply of the answer node, which is told why its first could not be used.

        read: `Task.read`, to tell whether the second one can.
        """
        node = trace.graph[trace.graph.answer]
        self._count_failure("forward", node.name, problem, trace.answer)
        messages = self._forward_messages(node, trace.question, trace.inputs(node.name))
        reply = await self._chat(
            self.model, "forward", node.name, [*messages, *self._objection(trace.answer, problem)]
        )
        value, wrong = _value(reply)
        if wrong or read(value) is None:
            self._count_failure("forward", node.name, wrong or problem, reply.text)
        return replace(trace, values={**trace.values, node.name: value})

    def messages(self, template: str, **data) -> list[dict]:
        """The prompt that a template makes of the data. ParameterError: the template does not work."""
        return rendered(
            template, {**data, "feedback": self.feedback}, self.prompts and str(self.prompts)
        )

    async def _judge(self, node, question, inputs, output, gradient):
        messages = self.messages(
            "backward",
            node=node,
            question=question,
            inputs=inputs,
            output=output,
            gradient=gradient,
        )
        return await self._ask(
            self.coach,
            "backward",
            node.name,
            messages,
            lambda reply: _blocks(reply, "gradient", list(inputs)),
        )

    async def _ask(self, llm: ChatModel, phase: str, node: str, messages: list[dict], read):
        """What `read` makes of the reply: (value, None), or (what there is of it, the problem). With a problem, it asks once more."""
        before = None
        for _ in range(2):
            reply = await self._chat(llm, phase, node, messages)
            value, problem = read(reply)
            if isinstance(
                before, dict
            ):  # what the first reply said rightly, unless the second says it anew
                value = {
                    name: before[name] if said is None else said for name, said in value.items()
                }
            before = value
            if not problem:
                break
            self._count_failure(phase, node, problem, reply.text)
            messages = [*messages, *self._objection(reply.text, problem)]
        return value

    async def _ask_for_block(self, node: Node, template: str, tag: str, **data) -> str | None:
        messages = self.messages(template, node=node, **data)
        return (
            await self._ask(
                self.coach, "update", node.name, messages, lambda reply: _blocks(reply, tag)
            )
        )[""]

    async def _chat(self, llm, phase, node, messages):
        if llm is None:
            raise ParameterError(
                f"{phase} of node {node!r} asks a coach, and there is none: make it Language(model, coach)"
            )
        try:
            reply = await llm.chat(messages, draw=self._draw(llm))
        except ModelError as error:
            raise type(error)(f"{phase} of node {node!r}: {error}") from None
        self.usage.add(phase, llm.model, reply)
        return reply

    def _draw(self, llm: ChatModel) -> int:
        return self.draw if llm.samples else 0  # else every seed would pay for the same reply

    def _objection(self, reply, problem):
        return [
            {"role": "assistant", "content": reply or "(nothing)"},
            *self.messages("again", problem=problem),
        ]

    def _count_failure(self, phase, node, problem, reply):
        self.usage.failures.append(
            {"phase": phase, "node": node, "problem": problem, "reply": reply}
        )

    def _forward_messages(
        self, node: Node, question: str, inputs: dict[str, str | None]
    ) -> list[dict]:
        if (
            self.prompts
        ):  # a template that may change while it is worked on, and may say the node's name
            return self.messages("forward", node=node, question=question, inputs=inputs)
        return forward_rendered(node.instruction, node.form, question, tuple(inputs.items()))


def _text(reply: Reply) -> tuple[str | None, str | None]:
    """(the reply without the thinking aloud that some models put in front, None), or (None, why there is none)."""
    if reply.finish_reason in ("refusal", "content_filter"):
        return None, "it was refused"
    text = reply.text.strip()
    if text.startswith("<think>"):
        text = text.partition("</think>")[2].strip()
    return (text, None) if text else (None, "it was empty")


def _value(reply: Reply) -> tuple[str | None, str | None]:
    """The same of a node's reply, marked where it was cut: what stands at its end is no conclusion, for whoever reads it."""
    text, problem = _text(reply)
    return text and text + CUT * (reply.finish_reason == "length"), problem


def _blocks(
    reply: Reply, tag: str, names: Sequence[str] = ("",)
) -> tuple[dict[str, str | None], str | None]:
    """The text of the one <tag to="name"> block for each name (of the one <tag> block where the name is empty), and what is wrong.

    A tag counts where it has a line to itself, as it was asked for, so that a reply which talks about the tags is not read
    as if it used them. A reply that is nothing but blocks, each of some words, may have them on one line. What is wrong
    with one block takes nothing from the others: they are returned.
    """
    found, problems = dict.fromkeys(names), []
    text, problem = _text(reply)
    text = (text or "").replace("\r\n", "\n")
    tag_on_a_line, block_on_one, nothing_else, tags = _patterns(tag)
    blocks, opened = [], None
    for line in tag_on_a_line.finditer(text):
        if opened and line[1] is None:
            blocks.append((opened[1], text[opened.end() : line.start()]))
        opened = (opened or line) if line[1] is not None else None
    alone = block_on_one.findall(text) if nothing_else.fullmatch(text) else []
    if alone and all(len(said.split()) > 2 for _, said in alone):
        blocks = alone
    said: dict[str, list[str]] = {}
    for attribute, content in blocks:
        to = _TO_WHOM.fullmatch(attribute)
        said.setdefault(to[2] if to else attribute.strip(), []).append(content.strip())
    for name in names:
        block = f"the <{tag}> block" + (f' for "{name}"' if name else "")
        contents = said.pop(name, [])
        if len(contents) != 1:
            problems.append(
                f"{block} is missing"
                if not contents
                else f"{block} stands there {len(contents)} times"
            )
        elif tags.search(contents[0]):
            problems.append(f"in {block} there is another <{tag}> tag")
        elif not _WORD.search(contents[0]):
            problems.append(f"{block} is empty")
        else:
            found[name] = contents[0]
    problems += [f'nobody asked for a <{tag}> block for "{name}"' for name in said]
    if problems and reply.finish_reason == "length":
        problems.append("the reply was cut at the token limit")
    return found, problem or "; ".join(problems) or None


@cache
def _patterns(tag: str) -> tuple[re.Pattern, ...]:
    """What finds a tag that has a line to itself (of the closing one no attribute), a block on one line, a text of nothing but those, and
    any tag."""
    one_line = rf"<{tag}([^>\n]*)>((?:(?!</{tag}>).)*+)</{tag}>\s*+"  # possessive, so that a reply that goes round in circles takes no time
    return (
        re.compile(rf"^[ \t]*<(?:{tag}([^>\n]*)|/{tag})>[ \t]*$", re.MULTILINE),
        re.compile(one_line),
        re.compile(rf"(?:{one_line})++"),
        re.compile(rf"</?{tag}\b"),
    )
