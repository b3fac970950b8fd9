"""Language: the functions of a system whose values are texts and whose nodes are model calls.

`forward`, `backward` and `aggregate` are what `propagate` calls; `update` turns gradients into a
better instruction. The words of the prompts are in prompts/*.j2. A reply without the form that the
prompt asks for is a named failure: the model is asked once more, with the reason, and if that fails
too the result is None, which cannot be mistaken for a text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .errors import ModelError, ParameterError, known
from .graph import Node
from .prompts import load, rendered
from .propagate import Trace, together
from .replies import Reply, named_blocks, without_thoughts
from .usage import Usage

CUT = "\n\n[The reply was cut here, at the token limit.]"
AT_LIMIT = "it was empty: thoughts took the whole limit; raise it (max_tokens in params)"
REFUSED = ("refusal", "content_filter")  # finish reasons


class ChatModel(Protocol):
    """What Language and descend need from a model; `semback.LLM` is one.

    `samples` says whether two draws of one request may differ. `chat` takes messages in OpenAI's
    chat format.
    """

    model: str  # its name
    params: Mapping[str, Any]  # what is sent besides name and messages
    in_flight: int  # the most requests at a time

    @property
    def samples(self) -> bool: ...

    async def chat(self, messages: list[dict], draw: int = 0) -> Reply: ...


class Case(NamedTuple):
    """One example as one node saw it, for an update of its instruction.

    `gradient` is None if there is none; `right` says whether the whole system answered correctly.
    """

    question: str
    inputs: dict[str, str | None]
    output: str | None
    gradient: str | None
    right: bool = False


@dataclass(frozen=True)
class Language:
    """The functions of a language-model system. Ablations are arguments, fixed for a whole run.

    Parameters
    ----------
    model : ChatModel
        Computes values, in `forward`.
    coach : ChatModel or None
        Writes gradients and instructions; None where only `forward` is needed.
    neighbourhood : bool
        Whether a node judges all its inputs together, in one call. Without it each input is judged
        alone, by a call that sees no other input. (That is TextGrad's form; its own prompt shows
        more of the context, but also asks about one variable at a time and does not say that the
        others may change.)
    gradient : bool
        Whether there are gradients at all; without them `update` sees inputs and outputs only.
    feedback : {"target", "comment"}
        What a gradient says of a value: how it should be different, or how good it is.
    critique : bool
        Whether `update` first asks for the weaknesses of the instruction, then for a better one.
    short : bool
        Whether new instructions are to be at most 40 words.
    prompts : path, optional
        A folder with templates that replace those of the same name in semback/prompts.
    draw : int
        Which sample of every request; `descend` sets it from its seed. Nodes that send the same
        request get the same reply.
    draws : {"sampling", "seed"}
        "sampling": only models that sample (at a temperature above 0) are asked again for each
        draw. "seed": all are, so that the spread over seeds also shows how a served model varies at
        temperature 0; each seed then pays for all its replies.
    usage : Usage
        Where calls and failures are counted.

    Raises
    ------
    ParameterError
        For a value of the wrong type, or a template that cannot work.
    """

    model: ChatModel
    coach: ChatModel | None = None
    neighbourhood: bool = True
    gradient: bool = True
    feedback: str = "target"
    critique: bool = False
    short: bool = False
    prompts: str | Path | None = None
    draw: int = 0
    draws: str = "sampling"
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, model in (("model", self.model), ("coach", self.coach)):
            if model is None and name == "coach":
                continue
            if not callable(getattr(model, "chat", None)):
                example = f", as in LLM({model!r})" if isinstance(model, str) else ""
                raise ParameterError(f"{name} is {repr(model)[:80]}; it takes an LLM{example}")
        for name in ("neighbourhood", "gradient", "critique", "short"):
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it takes True or False")
        if type(self.draw) is not int:
            raise ParameterError(f"draw is {self.draw!r}; it takes a whole number, an int")
        known("feedback", self.feedback, ("target", "comment"))
        known("draws", self.draws, ("sampling", "seed"))
        if self.prompts is not None:
            if not isinstance(self.prompts, str | Path) or not Path(self.prompts).is_dir():
                raise ParameterError(f"prompts is {str(self.prompts)!r}, which is not a folder")
            load(str(self.prompts))

    async def forward(self, node: Node, question: str, inputs: dict[str, str | None]) -> str | None:
        """The node's value: the model's whole reply without thoughts, marked where it was cut.

        None if two replies were empty or refused.
        """
        messages = self.messages("forward", node=node, question=question, inputs=inputs)
        return await self._read(self.model, "forward", node, messages, _value)

    async def backward(
        self,
        node: Node,
        question: str,
        inputs: dict[str, str | None],
        output: str | None,
        gradient: str,
    ) -> dict[str, str | None]:
        """One gradient for each input, from one call that sees them all.

        None for an input for which the reply had none. Without the neighbourhood there is one call
        for each input.
        """
        if self.neighbourhood:
            return await self._judge(node, question, inputs, output, gradient)
        alone = [
            self._judge(node, question, {name: value}, output, gradient)
            for name, value in inputs.items()
        ]
        return {name: text for each in await together(alone) for name, text in each.items()}

    def aggregate(self, gradients: Sequence[str]) -> str:
        """What several nodes wrote about one value, as one text: each text once, in order."""
        texts = list(dict.fromkeys(gradients))
        return texts[0] if len(texts) == 1 else "\n".join(f"- {text}" for text in texts)

    async def update(
        self,
        node: Node,
        cases: Sequence[Case],
        find_leak: Callable[[str], str | None] | None = None,
    ) -> str | None:
        """A better instruction for the node, given how it did in some cases; None if none was read.

        If `find_leak` finds something in it, the coach is asked once more.
        """
        critique = await self._block("critique", node, cases) if self.critique else None
        data = {"critique": critique, "short": self.short}
        return await self._block("update", node, cases, find_leak, **data)

    async def answer_again(
        self, trace: Trace, problem: str, read: Callable[[str], str | None]
    ) -> Trace:
        """The same trace with a second reply of the answer node, after an objection to its first.

        Parameters
        ----------
        trace : Trace
        problem : str
            Why the first reply could not be used.
        read : callable
            `Task.read`, to see whether the second one can be used.
        """
        node = trace.graph[trace.graph.answer]
        self.usage.fail("forward", node.name, problem, trace.answer)
        inputs = trace.inputs(node.name)
        messages = self.messages("forward", node=node, question=trace.question, inputs=inputs)
        messages += self._objection(trace.answer, problem)
        reply = await self._chat(self.model, "forward", node, messages)
        value, second_problem = _value(reply)
        if value is None or read(value) is None:
            self.usage.fail("forward", node.name, second_problem or problem, reply.text)
        return replace(trace, values={**trace.values, node.name: value})

    def messages(self, template: str, **data) -> list[dict]:
        """The prompt that a template makes from data. ParameterError if the template is broken."""
        folder = str(self.prompts) if self.prompts else None
        return rendered(template, {**data, "feedback": self.feedback}, folder)

    async def _judge(self, node, question, inputs, output, gradient) -> dict[str, str | None]:
        data = {"question": question, "inputs": inputs, "output": output, "gradient": gradient}
        messages = self.messages("backward", node=node, **data)
        found: dict[str, str | None] = dict.fromkeys(inputs)

        def read(reply: Reply) -> tuple[dict[str, str | None], str | None]:
            new, problem = _blocks(reply, "gradient", list(inputs), messages)
            found.update({name: text for name, text in new.items() if text is not None})
            return found, problem  # a block that only the first of two replies has counts too

        return await self._read(self.coach, "backward", node, messages, read)

    async def _block(self, template: str, node: Node, cases, find_leak=None, **data) -> str | None:
        """The text of the one block that a template asks for."""
        messages = self.messages(template, node=node, cases=cases, **data)
        tag = "critique" if template == "critique" else "instruction"

        def read(reply: Reply) -> tuple[str | None, str | None]:
            found, problem = _blocks(reply, tag, [""], messages)
            text = found[""]
            return text, problem or (find_leak(text) if find_leak and text else None)

        return await self._read(self.coach, "update", node, messages, read)

    async def _read(self, model, phase: str, node: Node, messages: list[dict], read: Callable):
        """What `read` finds in the reply; if it names a problem, in a second reply."""
        for _ in range(2):
            reply = await self._chat(model, phase, node, messages)
            value, problem = read(reply)
            if not problem:
                break
            self.usage.fail(phase, node.name, problem, reply.text)
            messages = [*messages, *self._objection(reply.text, problem)]
        return value

    async def _chat(self, model: ChatModel | None, phase: str, node: Node, messages) -> Reply:
        if model is None:
            problem = f"{phase} of node {node.name!r} needs a coach, and there is none"
            raise ParameterError(f"{problem}: use Language(model, coach)")
        draw = self.draw if model.samples or self.draws == "seed" else 0
        try:
            reply = await model.chat(messages, draw=draw)
        except ModelError as error:
            where = f"{phase} of node"
            if not str(error).startswith(where):  # nodes that share a request share its error
                error.args = (f"{where} {node.name!r}: {error}",)
            raise
        self.usage.add(phase, model.model, reply)
        return reply

    def _objection(self, reply: str | None, problem: str) -> list[dict]:
        again = self.messages("again", problem=problem)
        return [{"role": "assistant", "content": reply or "(nothing)"}, *again]


def _value(reply: Reply) -> tuple[str | None, str | None]:
    """(a node's value, None), or (None, the problem)."""
    if reply.finish_reason in REFUSED:
        return None, "it was refused"
    text = without_thoughts(reply.text)
    if not text:
        return None, AT_LIMIT if reply.finish_reason == "length" else "it was empty"
    return (text + CUT if reply.finish_reason == "length" else text), None


def _blocks(
    reply: Reply, tag: str, names: Sequence[str], messages: list[dict]
) -> tuple[dict[str, str | None], str | None]:
    """({name: text or None}, the problem or None) of the blocks in a reply to these messages."""
    text, problem = _value(reply)
    if text is None:
        return dict.fromkeys(names), problem
    found, problem = named_blocks(text.removesuffix(CUT), tag, names)
    form, _ = named_blocks(messages[-1]["content"], tag, names)
    for name in names:
        if found[name] and found[name] == form[name]:
            found[name], problem = None, f"a <{tag}> block repeats the form and says nothing"
    if problem and reply.finish_reason == "length":
        problem += "; the reply was cut at the token limit"
    return found, problem
