"""The optimisers of other libraries on the same task: TextGrad, OptoPrime, COPRO and GEPA.

The library runs as released, in its own process and environment, and proposes instructions there
(`peer`, and an adapter for each). Questions are answered and scored here, by `evaluate`, as they
are for semback. The library's requests to the coach go through a proxy on loopback, so all calls
are recorded and counted in the same way, and a rerun needs no network.
"""

import asyncio
import inspect
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from ..descend import check_settings, descend
from ..errors import ModelError, ParameterError, SembackError, check, known
from ..evaluate import check_models, scored
from ..graph import Graph
from ..language import Language
from ..llm import LLM
from ..paths import home
from ..proxy import Proxy
from ..run import Run, Scores, Step
from ..task import Task
from ..usage import Usage
from ..variants import METHODS

DRAWS = 10_000  # repeats of one request that a run may have; the next seed's draws begin there
LONGEST_LINE = 2**28  # bytes, from the process


def python() -> Path:
    """The Python that has the libraries: SEMBACK_PEERS_PYTHON, or the one in `.venv-peers`.

    Raises
    ------
    ParameterError
        There is none.
    """
    path = Path(os.environ.get("SEMBACK_PEERS_PYTHON") or home() / ".venv-peers/bin/python")
    if not path.exists():
        raise ParameterError(
            f"the libraries of other methods need their own environment, and there is no {path}: "
            "run `make .venv-peers/ready`"
        )
    return path


async def optimise(
    method: str, task: Task, lang: Language, steps: int = 4, errors: int = 2, seed: int = 0
) -> Run:
    """Improve the instructions of a task's graph by the method of another library.

    Parameters
    ----------
    method : str
        One of `METHODS`. The docstring of its adapter says what it cannot express.
    task : Task
    lang : Language
        The models. The coach must be an LLM with a cache.
    steps, errors, seed : int
        As in `descend`.

    Returns
    -------
    Run
        One step for each of the method's. A failed step (an exception, an empty instruction) leaves
        the graph as it was; what went wrong is in its `kept` and in `usage.failures`. Phases are
        "forward" and those of the method.

    Raises
    ------
    ParameterError
        An unknown method or an invalid setting; no coach; no environment with the library.
    CacheMiss, ModelError, BudgetExceeded
        From the models.
    """
    known("method", method, METHODS)
    check_models(task, lang)
    if method == "start":
        return await descend(task, lang, steps=0, seed=seed)
    check(LLM, "an LLM, for the library to ask", coach=lang.coach)
    assert isinstance(coach := lang.coach, LLM)
    if coach.cache is None:
        raise ParameterError(f"{method} needs a coach with a cache: LLM(name, ResponseCache())")
    if coach.system == "user":
        raise ParameterError(f"{method} sends system messages of its own; the coach takes none")
    settings: dict[str, Any] = {"steps": steps, "errors": errors, "seed": seed}
    check_settings(settings, len(task.train))
    python()
    lang = replace(lang, draw=seed, usage=Usage())
    proxy = Proxy(coach.cache, coach.endpoint, first_draw=seed * DRAWS)
    session = Session(task, lang, proxy)
    start = {node.name: node.instruction for node in task.graph}
    await session.answer(start, None)
    session.end_step(start, True, [], {})
    with TemporaryDirectory() as scratch, open(f"{scratch}/log", "w+b") as log:
        async with proxy.serving() as url:
            train = [vars(example) for example in task.train]
            job = {"graph": task.graph.to_dict(), "train": train, "url": url, **settings}
            job |= {"model": coach.model, "params": dict(coach.params)}
            failure = await _run(method, job, session, log, scratch)
    if failure:
        session.fail_step(failure)
    for usage in proxy.usage.values():
        lang.usage.include(usage)
    settings |= {"method": METHODS[method]}
    params = {"model": dict(lang.model.params), "coach": dict(coach.params)}
    stopped = "the library failed" if failure else "the library was done"
    names = task.name, lang.model.model, coach.model
    return Run(*names, settings, tuple(session.steps), stopped, lang.usage, params)


class Session:
    """The semback side: answers questions for the library's process, and takes its steps.

    Attributes
    ----------
    steps : list of Step
    """

    def __init__(self, task: Task, lang: Language, proxy: Proxy):
        self.task, self.lang, self.proxy, self.steps = task, lang, proxy, list[Step]()
        self._scores: dict[Graph, Scores] = {}  # on all training examples
        self._examples = {example.id: example for example in task.train}
        self._names = [node.name for node in task.graph if node.trainable]

    @property
    def graph(self) -> Graph:
        """The graph that was accepted last."""
        return [step.candidate for step in self.steps if step.accepted][-1]

    async def answer(self, instructions: Any, ids: list[str] | None) -> list[dict]:
        """Answer training examples, by default all: the id, values, correct and feedback of each.

        Raises
        ------
        ValueError
            The graph cannot work with these instructions.
        """
        graph = self._graph(instructions)
        scores = self._scores.get(graph)
        if scores is None:
            examples = [self._examples[id] for id in ids or self._examples]
            refused: list[ModelError] = []
            title = f"after step {max(len(self.steps) - 1, 0)}"
            scores = await scored(graph, examples, self.task, self.lang, title, refused=refused)
            if refused:
                raise ValueError(f"prompts with these instructions were refused: {refused[0]}")
            if len(examples) == len(self._examples):
                self._scores[graph] = scores
        found = []
        for row in scores.rows:
            if not ids or row.id in ids:
                trace = scores.traces[row.id]
                feedback = self.task.feedback(self._examples[row.id], trace)
                values = {name: value or "" for name, value in trace.values.items()}
                found.append(
                    {"id": row.id, "values": values, "correct": row.correct, "feedback": feedback}
                )
        return found

    def end_step(
        self, instructions: Any, accepted: bool, examples: list[str], kept: dict[str, str]
    ) -> None:
        """Take a step that the process reports; an accepted graph must have been scored."""
        graph = self._graph(instructions)
        scores = self._scores.get(graph)
        if accepted and scores is None:
            raise ValueError("a graph was accepted that was not evaluated")
        for name, problem in kept.items():
            self.lang.usage.fail("update", name, problem, None)
        more = {"kept": kept, "calls": self.calls()}
        self.steps.append(Step(graph, scores, accepted, tuple(examples), **more))

    def fail_step(self, problem: str) -> None:
        """Take a step that failed: the graph stays, and the failure is counted."""
        self.fail(problem)
        kept = dict.fromkeys(self._names, problem)
        self.steps.append(Step(self.graph, None, False, kept=kept, calls=self.calls()))

    def calls(self) -> int:
        """The number of calls to the models so far, without repeats."""
        coached = sum(usage.calls for usage in self.proxy.usage.values())
        return self.lang.usage.calls + coached

    def fail(self, problem: str) -> None:
        """Count a failure."""
        self.lang.usage.fail("update", ", ".join(self._names), problem, None)

    def _graph(self, instructions: Any) -> Graph:
        names = self._names
        if not isinstance(instructions, Mapping) or not set(instructions) >= set(names):
            raise ValueError(f"the library gave instructions for {list(instructions)}, not {names}")
        for name in names:
            text = instructions[name]
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"the library gave {text!r} as the instruction of {name}")
        return self.task.graph.with_instructions({name: instructions[name] for name in names})


async def _run(
    method: str, job: dict, session: Session, log: IO[bytes], scratch: str
) -> str | None:
    """Serve the process of a library until it ends. Returns what went wrong, if it failed.

    The proxy's first error is raised: what the library would do after it is not a result.
    """
    command = [str(python()), "-m", f"{__name__}.peer", method]
    pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": log, "limit": LONGEST_LINE}
    process = await asyncio.create_subprocess_exec(
        *command, **pipes, env=_environment(scratch), cwd=scratch
    )
    assert process.stdin and process.stdout
    try:
        message: Any = job
        while True:
            with suppress(ConnectionError):  # it ended; its exit code is checked below
                process.stdin.write(json.dumps(message).encode() + b"\n")
                await process.stdin.drain()
            line = await process.stdout.readline()
            if session.proxy.errors:  # any later step would not be the library's
                raise session.proxy.errors[0]
            if not line:
                break
            message = await _reply(json.loads(line), session)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not code:
        return None
    log.seek(0)
    last = log.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"its process ended with exit code {code}: {' '.join(last)}"


async def _reply(message: list, session: Session) -> dict[str, Any]:
    """The reply to [method of Session, arguments…] from the process: a result, or a problem."""
    try:
        done = getattr(session, message[0])(*message[1:])
        return {"done": await done if inspect.isawaitable(done) else done}
    except SembackError:
        raise  # not the library's fault
    except ValueError as problem:
        return {"problem": str(problem)}


def _environment(scratch: str) -> dict[str, str]:
    """The process's environment variables: no keys, throw-away caches, nothing random."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "0", "HOME": scratch}
    own |= {"OPENAI_API_KEY": "unused", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return {**kept, **own, "DSPY_CACHEDIR": scratch, "NO_PROXY": "127.0.0.1"}
