"""Trace (trace-opt) 0.1.3.8: bundles of async functions under asyncio, 64 calls at a time, and
OptoPrime.

Otherwise than semback: a step asks once for all instructions, from the traces of both questions,
and there are no gradients; no cache.
"""

import asyncio
import os

from openai import AsyncOpenAI
from opto import trace
from opto.optimizers import OptoPrime
from opto.utils.llm import CustomLLM


def start(url):
    os.environ.update(
        TRACE_CUSTOMLLM_URL=url, TRACE_CUSTOMLLM_MODEL="bench-1", TRACE_CUSTOMLLM_API_KEY="none"
    )
    client, runner, free = (
        AsyncOpenAI(base_url=url, api_key="none"),
        asyncio.Runner(),
        asyncio.Semaphore(64),
    )
    texts = {
        "hint_1": "Work out one step.",
        "hint_2": "List what is given, and say what is asked.",
        "answer": "Work out the answer.",
    }
    instructions = {
        name: trace.node(text, name=name, trainable=True) for name, text in texts.items()
    }
    optimizer = OptoPrime(list(instructions.values()), llm=CustomLLM())

    @trace.bundle()
    async def say(instruction, question, *hints):
        """What a model says to the question, given an instruction and hints."""
        asked = [
            {"role": "system", "content": instruction},
            {"role": "user", "content": "\n\n".join([question, *hints])},
        ]
        async with free:
            said = await client.chat.completions.create(model="bench-1", messages=asked)
        return said.choices[0].message.content

    @trace.bundle()
    def together(*answers):
        """The answers to several questions."""
        return "\n\n".join(answers)

    async def answered(question):
        asked = trace.node(question["question"], name="question")
        hints = await asyncio.gather(
            *(say(instructions[name], asked) for name in ("hint_1", "hint_2"))
        )
        return await say(instructions["answer"], asked, *hints)

    async def all_answered(questions):
        return await asyncio.gather(*map(answered, questions))

    traces = {}

    def evaluate(questions):
        traces.update(
            zip((each["question"] for each in questions), runner.run(all_answered(questions)))
        )
        return [traces[each["question"]].data for each in questions]

    def step(questions):
        answers = together(*(traces[each["question"]] for each in questions))
        optimizer.zero_feedback()
        optimizer.backward(
            answers,
            "The answers should have been " + ", ".join(each["answer"] for each in questions),
        )
        optimizer.step()

    return evaluate, step
