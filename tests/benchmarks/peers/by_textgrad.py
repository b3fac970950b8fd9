"""TextGrad 0.1.8 with 32 threads for an evaluation, as its example of prompt optimisation has
threads; 64 are slower on two cores.

Otherwise than semback: its cache (always on) is empty at the start; a step asks for each variable
by itself and one after the other.
"""

from concurrent.futures import ThreadPoolExecutor

import textgrad as tg
from openai import OpenAI
from textgrad.autograd import FormattedLLMCall, StringBasedFunction
from textgrad.engine.local_model_openai_api import ChatExternalClient

HINT, ANSWER = "The question:\n{question}", "The question:\n{question}\n\n{hint_1}\n\n{hint_2}"


def start(url):
    engine = ChatExternalClient(client=OpenAI(base_url=url, api_key="none"), model_string="bench-1")
    tg.set_backward_engine(engine, override=True)
    texts = {
        "hint_1": "Work out one step.",
        "hint_2": "List what is given, and say what is asked.",
        "answer": "Work out the answer.",
    }
    instructions = {
        name: tg.Variable(text, role_description=f"instruction of the step {name}")
        for name, text in texts.items()
    }
    optimizer = tg.TGD(parameters=list(instructions.values()))
    loss = StringBasedFunction(
        lambda prediction, truth: str(int(prediction.value.endswith(truth.value))),
        "whether the answer is right",
    )

    def node(name, form, **inputs):
        return FormattedLLMCall(engine, form, dict.fromkeys(inputs), instructions[name])(
            inputs, f"what the step {name} says"
        )

    def answered(question):
        asked = tg.Variable(
            question["question"], requires_grad=False, role_description="the question"
        )
        hints = {name: node(name, HINT, question=asked) for name in ("hint_1", "hint_2")}
        return node("answer", ANSWER, question=asked, **hints)

    def evaluate(questions):
        with ThreadPoolExecutor(32) as pool:
            return [answer.value for answer in pool.map(answered, questions)]

    def step(questions):
        optimizer.zero_grad()
        losses = []
        for question in questions:
            truth = tg.Variable(
                question["answer"], requires_grad=False, role_description="the right answer"
            )
            losses.append(loss({"prediction": answered(question), "truth": truth}))
        tg.sum(losses).backward()
        optimizer.step()

    return evaluate, step
