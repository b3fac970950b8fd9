"""semback, in the same way as the others: an empty response cache, and 64 requests in flight.

The openai client is imported before W.
"""

import asyncio

import openai  # noqa: F401 - semback imports it with the first request

from semback import LLM, Example, Graph, Language, Node, ResponseCache, Task, backward, evaluate
from semback.language import Case


def start(url):
    hint_1, hint_2 = (
        Node("hint_1", "Work out one step."),
        Node("hint_2", "List what is given, and say what is asked."),
    )
    now = {
        "graph": Graph(
            (hint_1, hint_2, Node("answer", "Work out the answer.", ("hint_1", "hint_2")))
        )
    }
    runner, model = (
        asyncio.Runner(),
        LLM("bench-1", ResponseCache("cache"), base_url=url, api_key="none"),
    )
    lang = Language(model, model)

    def examples(questions):
        return [Example(each["question"], each["question"], each["answer"]) for each in questions]

    def scored(questions):
        task = Task("W", examples(questions), (), now["graph"])
        scores = runner.run(evaluate(now["graph"], task.train, task, lang))
        now["traces"], now["task"] = scores.traces, task
        return [row.reply for row in scores.rows]

    async def improved(wrong):
        traces, graph = [now["traces"][example.id] for example in wrong], now["graph"]
        judged = (
            backward(trace, now["task"].feedback(example), lang)
            for trace, example in zip(traces, wrong)
        )
        gradients = await asyncio.gather(*judged)
        cases = {
            node: [
                Case(
                    trace.question,
                    trace.inputs(node.name),
                    trace.values[node.name],
                    gradient[node.name],
                )
                for trace, gradient in zip(traces, gradients)
            ]
            for node in graph.nodes
        }
        new = await asyncio.gather(*(lang.update(node, of_node) for node, of_node in cases.items()))
        return graph.with_instructions(dict(zip((node.name for node in cases), new)))

    def step(questions):
        now["graph"] = runner.run(improved(examples(questions)))

    return scored, step
