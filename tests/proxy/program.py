"""A program as people write them with LangGraph: nodes that pass a state on, a tool, branches at
the same time, a vote over equal requests, and a stream. It knows nothing of semback."""

import asyncio
import json

import openai

ASKER = openai.AsyncOpenAI()
ADD = {
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {"type": "object", "properties": {"a": {}, "b": {}}},
}
TOOLS = [{"type": "function", "function": ADD}]


async def ask(messages, **fields):
    reply = await ASKER.chat.completions.create(model="m", messages=messages, **fields)
    return reply.choices[0].message


async def calculate(state):
    """Ask until the model no longer calls a tool."""
    messages = [{"role": "user", "content": state["question"]}]
    while (message := await ask(messages, tools=TOOLS)).tool_calls:
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            numbers = json.loads(call.function.arguments)
            content = str(numbers["a"] + numbers["b"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    return {"value": message.content}


async def criticise(state):
    topics = [[{"role": "user", "content": f"Criticise {state['value']}: {n}"}] for n in range(8)]
    return {"notes": [message.content for message in await asyncio.gather(*map(ask, topics))]}


async def vote(state):
    messages = [{"role": "user", "content": f"Is {state['value']} right?"}]
    return {"votes": [(await ask(messages, temperature=1)).content for _ in range(3)]}


async def write(state):
    messages = [{"role": "user", "content": f"Write a report on {json.dumps(state)}"}]
    stream = await ASKER.chat.completions.create(model="m", messages=messages, stream=True)
    return {"report": "".join([part.choices[0].delta.content or "" async for part in stream])}


async def main():
    state = {"question": "What is 2 + 2?"}
    for node in (calculate, criticise, vote, write):
        state |= await node(state)
    print(json.dumps(state))


asyncio.run(main())
