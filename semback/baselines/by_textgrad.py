"""TextGrad: every variable of the graph gets a gradient of its own, every instruction an update.

As in its example of prompt optimisation, the losses of a step's examples are summed, `TGD` rewrites
every instruction, and a step that lowers the score is undone. The score is that on the training
questions, which all methods have, not on separate validation questions. The loss is a function that
returns the task's feedback, where the example's returns 0 or 1; as a model it would add calls.

The graph is made of the library's calls, with the values from answering the questions. A node's
form is at the end of its user message, since the system prompt is what is improved. The library's
engines have a cache, or fields that cannot be changed; here the coach is a function that sends all
fields of `params`, and no others.
"""

import operator
from collections.abc import Mapping
from functools import partial
from itertools import count

import textgrad as tg  # pyright: ignore[reportMissingImports]
from textgrad import autograd  # pyright: ignore[reportMissingImports]

from .peer import Answer, Work

PURPOSE = "It checks the answer and says what it should have been."
ROLE = "system prompt to the language model in step"


def optimise(work: Work) -> None:
    """Take TextGrad's steps."""
    numbers = count()
    # Variables are kept in sets, whose order is that of requests, and of variables in prompts. By
    # default it depends on their addresses in memory.
    tg.Variable.__hash__ = lambda self: vars(self).setdefault("number", next(numbers))
    tg.set_backward_engine(partial(_coach, work, "backward"), override=True)
    variables = {
        node.name: _variable(node.instruction, f"{ROLE} {node.name}", node.trainable)
        for node in work.graph
    }
    trained = {name: variables[name] for name in work.instructions}
    optimizer = tg.TGD(list(trained.values()), engine=partial(_coach, work, "update"))

    def propose(chosen: list[Answer]) -> tuple[dict[str, str], dict[str, str]]:
        optimizer.zero_grad()
        tg.sum([_loss(work, variables, answer) for answer in chosen]).backward()
        optimizer.step()
        return {name: variable.value for name, variable in trained.items()}, {}

    def reset(instructions: dict[str, str]) -> None:
        for name, variable in trained.items():
            variable.set_value(instructions[name])

    work.improve(propose, reset, gate=operator.le)


def _coach(work: Work, phase: str, prompt: str, system_prompt: str) -> str | None:
    contents = {"system": system_prompt, "user": prompt}
    messages = [{"role": role, "content": content} for role, content in contents.items()]
    return work.complete(phase, messages=messages).choices[0].message.content


def _loss(work: Work, instructions: Mapping, answer: Answer) -> tg.Variable:
    """The loss of an example, with the graph that leads to it."""
    question = _variable(answer.example.question, "question to be answered", trainable=False)
    values = {}
    for node in (work.graph[name] for name in work.graph.order):
        inputs, shown = {"question": question}, "The question:\n{question}\n\n"
        for place, source in enumerate(node.inputs):
            inputs[f"input_{place}"] = values[source]
            shown += f"{_escaped(source)}:\n{{input_{place}}}\n\n"
        shown = f"{shown}{_escaped(node.form)}".strip()
        model = partial(_recorded, answer.values[node.name])
        call = autograd.FormattedLLMCall(model, shown, inputs, instructions[node.name])
        values[node.name] = call(inputs, f"reply of the language model in step {node.name}")
    check = autograd.StringBasedFunction(lambda prediction: answer.feedback, PURPOSE)
    return check({"prediction": values[work.graph.answer]})


def _variable(text: str, role: str, trainable: bool) -> tg.Variable:
    return tg.Variable(text, requires_grad=trainable, role_description=role)


def _recorded(reply: str, prompt: str, system_prompt: str) -> str:
    return reply


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
