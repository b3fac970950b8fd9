"""AdalFlow 1.1.3: an AdalComponent with 64 workers and the TGD optimiser, no cache; its Groq
client, since that of OpenAI has no chat.

Otherwise than semback: gradients are asked for each input of a node by itself, and everything in a
step one after the other.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

# AdalFlow counts tokens with an encoding that would be downloaded; litellm brings it.
os.environ["TIKTOKEN_CACHE_DIR"] = str(
    Path(find_spec("litellm").origin).parent / "litellm_core_utils" / "tokenizers"
)

import adalflow as adal
from adalflow.components.model_client.groq_client import GroqAPIClient
from adalflow.optim.parameter import ParameterType
from adalflow.optim.text_grad.ops import sum_ops

TEXTS = {
    "hint_1": "Work out one step.",
    "hint_2": "List what is given, and say what is asked.",
    "answer": "Work out the answer.",
}
SHOWN = (
    "{{instruction}}\n\nThe question:\n{{question}}\n\n"
    "{% if hint_1 %}{{hint_1}}\n\n{{hint_2}}{% endif %}"
)


class Graph(adal.Component):
    def __init__(self, model):
        super().__init__()
        for name, text in TEXTS.items():
            instruction = adal.Parameter(
                name=name,
                data=text,
                role_desc=f"instruction of the step {name}",
                requires_opt=True,
                param_type=ParameterType.PROMPT,
            )
            setattr(
                self,
                name,
                adal.Generator(
                    **model,
                    template=SHOWN,
                    prompt_kwargs={"instruction": instruction},
                    use_cache=False,
                ),
            )

    def bicall(self, question, id):
        hints = {
            name: getattr(self, name)(prompt_kwargs={"question": question}, id=id)
            for name in ("hint_1", "hint_2")
        }
        for name, hint in hints.items():
            if self.training:
                hint.add_successor_map_fn(self.answer, lambda said: said.data.data)
            else:
                hints[name] = hint.data
        return self.answer(prompt_kwargs={"question": question, **hints}, id=id)


class Training(adal.AdalComponent):
    def prepare_task(self, sample):
        return self.task, {"question": sample.question, "id": sample.id}

    def prepare_loss(self, sample, prediction):
        prediction.eval_input = prediction.data.data
        truth = adal.Parameter(
            name="truth", data=sample.answer, eval_input=sample.answer, requires_opt=False
        )
        return self.loss_fn, {"kwargs": {"y": prediction, "y_gt": truth}, "id": sample.id}


def start(url):
    os.environ["GROQ_BASE_URL"] = url
    model = {"model_client": GroqAPIClient(api_key="none"), "model_kwargs": {"model": "bench-1"}}
    loss = adal.EvalFnToTextLoss(
        eval_fn=lambda y, y_gt: float(y.endswith(y_gt)),
        eval_fn_desc="1 if the answer is right, else 0",
    )
    training = Training(
        Graph(model),
        loss_fn=loss,
        backward_engine_model_config=model,
        text_optimizer_model_config=model,
    )
    training.configure_backward_engine()
    [optimizer] = training.configure_optimizers()

    def samples(questions):
        return [SimpleNamespace(id=each["question"], **each) for each in questions]

    def evaluate(questions):
        return [said.data for said in training.pred_step(samples(questions), 0, num_workers=64)[0]]

    def step(questions):
        two = samples(questions)
        optimizer.zero_grad()
        losses = training.loss_step(
            two, training.train_step(two, 0, num_workers=64), 0, num_workers=64
        )
        sum_ops(losses).backward()
        optimizer.propose()
        optimizer.step()

    return evaluate, step
