"""DSPy 3.4.1: dspy.Evaluate with 64 threads, and one proposal of dspy.GEPA for all predictors;
every cache off.

Otherwise than semback: a step asks no gradients, but answers its two questions four times, to score
the old and the new instructions.
"""

import dspy


class Graph(dspy.Module):
    def __init__(self):
        super().__init__()
        self.hint_1 = dspy.Predict(dspy.Signature("question -> hint", "Work out one step."))
        self.hint_2 = dspy.Predict(
            dspy.Signature("question -> hint", "List what is given, and say what is asked.")
        )
        self.answer = dspy.Predict(
            dspy.Signature("question, hint_1, hint_2 -> answer", "Work out the answer.")
        )

    def forward(self, question):
        hints = {name: getattr(self, name)(question=question).hint for name in ("hint_1", "hint_2")}
        return self.answer(question=question, **hints)


def metric(example, prediction, trace=None, pred_name=None, pred_trace=None):
    right = prediction.answer.endswith(example.answer)
    return dspy.Prediction(
        score=float(right), feedback=f"The answer should have been {example.answer}."
    )


def start(url):
    lm = dspy.LM("openai/bench-1", api_base=url, api_key="none", cache=False)
    dspy.configure(lm=lm)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    now = {"graph": Graph()}

    def examples(questions):
        return [dspy.Example(**each).with_inputs("question") for each in questions]

    def evaluate(questions):
        results = dspy.Evaluate(devset=examples(questions), metric=metric, num_threads=64)(
            now["graph"]
        ).results
        return [prediction.answer for _, prediction, _ in results]

    def step(questions):
        optimizer = dspy.GEPA(
            metric,
            max_metric_calls=2 * len(questions),
            reflection_minibatch_size=len(questions),
            num_threads=64,
            component_selector="all",
            reflection_lm=lm,
            track_stats=True,
            gepa_kwargs={"acceptance_criterion": "improvement_or_equal"},
        )
        two = examples(questions)
        now["graph"] = optimizer.compile(
            now["graph"], trainset=two, valset=two
        ).detailed_results.candidates[-1]

    return evaluate, step
