"""gepa 0.1.4: an adapter with 32 threads over the openai client, which is faster than gepa's own
model, and one proposal for all instructions; no cache.

Otherwise than semback: a step asks no gradients, but answers its two questions four times, to score
the old and the new instructions.
"""

from concurrent.futures import ThreadPoolExecutor

import gepa
from openai import OpenAI

INSTRUCTIONS = {
    "hint_1": "Work out one step.",
    "hint_2": "List what is given, and say what is asked.",
    "answer": "Work out the answer.",
}


class Adapter(gepa.GEPAAdapter):
    propose_new_texts = None

    def __init__(self, ask):
        self.ask = ask

    def evaluate(self, batch, candidate, capture_traces=False):
        def answered(each):
            hints = {
                name: self.ask(each["question"], candidate[name]) for name in ("hint_1", "hint_2")
            }
            return {
                **hints,
                "answer": self.ask(
                    "\n\n".join([each["question"], *hints.values()]), candidate["answer"]
                ),
            }

        with ThreadPoolExecutor(32) as pool:
            said = list(pool.map(answered, batch))
        answers = [each["answer"] for each in said]
        scores = [float(answer.endswith(each["answer"])) for answer, each in zip(answers, batch)]
        return gepa.EvaluationBatch(
            outputs=answers,
            scores=scores,
            trajectories=list(zip(batch, said)) if capture_traces else None,
        )

    def make_reflective_dataset(self, candidate, eval_batch, components_to_update):
        return {
            name: [
                {
                    "Inputs": each["question"],
                    "Generated Outputs": said[name],
                    "Feedback": f"The answer should have been {each['answer']}.",
                }
                for each, said in eval_batch.trajectories
            ]
            for name in components_to_update
        }


def start(url):
    client, now = OpenAI(base_url=url, api_key="none"), {"instructions": INSTRUCTIONS}

    def ask(text, instruction=None):
        system = [{"role": "system", "content": instruction}] if instruction else []
        said = client.chat.completions.create(
            model="bench-1", messages=[*system, {"role": "user", "content": text}]
        )
        return said.choices[0].message.content

    adapter = Adapter(ask)

    def evaluate(questions):
        return adapter.evaluate(questions, now["instructions"]).outputs

    def step(questions):
        result = gepa.optimize(
            now["instructions"],
            trainset=questions,
            valset=questions,
            adapter=adapter,
            reflection_lm=ask,
            reflection_minibatch_size=len(questions),
            max_metric_calls=2 * len(questions),
            module_selector="all",
            acceptance_criterion="improvement_or_equal",
        )
        now["instructions"] = result.candidates[-1]

    return evaluate, step
