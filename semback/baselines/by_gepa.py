"""GEPA (gepa 0.1.4): the coach reads examples with feedback and rewrites instructions; those that
do better on these examples join a pool, from which the next ones are made.

Its prompts show the instruction of one node, its inputs and values, and the feedback on the answer.

- Training and validation set are the training questions. A minibatch has `errors` of them, which
  GEPA draws from all questions, not from those with wrong answers. GEPA skips a minibatch without a
  wrong answer, which is then not a step.
- A step rewrites all nodes (`module_selector="all"`), as with other methods, not one at a time.
- A step is a proposal. It is accepted if GEPA would return it from then on: if it does better than
  its parent on the minibatch, and is the best of the pool on all questions. A proposal that does no
  better on the minibatch is not evaluated on the others, and has no scores. GEPA ends early once a
  graph answers all questions correctly.
- A step fails if the coach fails twice, or if the graph cannot work with the proposal (an empty
  instruction); GEPA continues. It takes a reply without ``` blocks as the instruction.
"""

from typing import Any

import gepa  # pyright: ignore[reportMissingImports] - it is in the environment of the libraries

from .peer import Answer, Work


class System(gepa.GEPAAdapter):
    """The graph and the coach, as GEPA sees them, and the callbacks that steps are made from."""

    def __init__(self, work: Work):
        self.work, self.left = work, work.steps
        self.outcome: Any = None  # of an iteration: new instructions, a problem, or None: no step

    def evaluate(self, batch, candidate, capture_traces=False) -> gepa.EvaluationBatch:
        several = {each.id: each for each in batch}  # GEPA fills a last batch up with repeats
        by_id = {each.example.id: each for each in self.work.answer(candidate, several.values())}
        answers = [by_id[each.id] for each in batch]
        values = [each.values[self.work.graph.answer] for each in answers]
        return gepa.EvaluationBatch(values, [each.score for each in answers], answers)

    def make_reflective_dataset(self, candidate, eval_batch, components_to_update) -> dict:
        self.answers = eval_batch.trajectories
        return {name: [self._record(name, each) for each in self.answers] for name in candidate}

    def _record(self, name: str, answer: Answer) -> dict:
        inputs = {f"from {each}": answer.values[each] for each in self.work.graph[name].inputs}
        inputs = {"question": answer.example.question, **inputs}
        parts = {"Inputs": inputs, "Generated Outputs": answer.values[name]}
        return {**parts, "Feedback": answer.feedback}

    def ask(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        try:
            reply = self.work.complete("update", messages=messages)
            return reply.choices[0].message.content or ""
        except Exception as problem:
            self.outcome = problem  # GEPA only logs it
            raise

    def on_evaluation_skipped(self, event) -> None:
        self.outcome = None

    def on_proposal_end(self, event) -> None:
        self.outcome = event["new_instructions"]

    def on_valset_evaluated(self, event) -> None:
        self.best = event["is_best_program"]

    def on_error(self, event) -> None:
        self.outcome = event["exception"]

    def __call__(self, state) -> bool:
        """Report what the last iteration did. Returns whether GEPA should stop."""
        if isinstance(self.outcome, dict):
            self.work.end_step(self.outcome, self.best, self.answers)
        elif self.outcome:
            self.work.fail_step(self.outcome)
        self.left -= self.outcome is not None
        self.outcome, self.best = "GEPA proposed nothing", False
        return self.left <= 0


def optimise(work: Work) -> None:
    """Let GEPA make as many proposals as there are steps."""
    system = System(work)
    gepa.optimize(
        work.instructions,
        trainset=work.train,
        valset=work.train,
        adapter=system,
        reflection_lm=system.ask,  # GEPA calls a function one prompt at a time: draws have an order
        callbacks=[system],
        stop_callbacks=[system, gepa.ScoreThresholdStopper(1.0)],
        raise_on_exception=False,
        reflection_minibatch_size=work.errors,
        module_selector="all",
        seed=work.seed,
    )
