"""How graphs, traces, gradients, scores, runs, tasks and diffs are displayed.

For each class a function makes a headline and tables, which are rendered as text for a terminal and
as HTML for notebooks and the report of a batch. The classes know nothing of this; their `__repr__`
and `_repr_html_` are set here.

The HTML comes from the templates beside this file, in which everything is escaped. Styling is in
attributes and drawings are images, since JupyterLab removes styles, scripts and inline SVG from a
notebook that it does not trust; what remains is readable. Drawings have no background, and their
colours stand out on white and on black.
"""

import re
import textwrap
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..diff import Diff
from ..graph import Graph
from ..llm.budget import priced_rows
from ..propagate import Gradients, Trace
from ..run import OUTCOMES, Questions, Run, Score, Scores, Step
from ..task import Task
from ..usage import SIMULATED

FIRST = 3  # examples of a task to show
ANSWERS = 10  # of one outcome, to show
FEW = 40  # right answers of a task to list
USAGE = ("phase", "model", "calls", "repeats", "prompt tokens", "reply tokens", "cost", "notes")
COUNTS = ("calls", "repeated", "prompt_tokens", "completion_tokens")
NUMBER = r"[$\[]?[+-]?\d[\d.,% \]]*"  # a cell with a number, a share or an interval

# A click on a node hides the rows of the others; a second click on it, or one beside the nodes,
# shows all rows.
CLICK = Path(__file__).with_name("click.js").read_text(encoding="utf-8")
# A gradient that asks for no change, in the prompt's words or in others that models use.
STAYS = r"(stay|remain|fine|good|keep it) (just |exactly )?(as (it is|is|they are)|unchanged)"
WIDE = 620  # pixels: the width of a drawing with texts, if it has few columns


@dataclass(frozen=True)
class Table:
    """Rows of plain values under a title.

    Parameters
    ----------
    title : str
    head : sequence of str
        The names of the columns. Long values belong in the last one.
    rows : sequence of sequences
    graph : Graph, optional
        It is drawn above its table, which has a row for each node, in the order of the graph.
    values : mapping, optional
        {node: value} in the drawing.
    messages : sequence of (source, target, gradient), optional
        In the drawing; a source need not be a node: it may be the score.
    detail : bool
        Left out of the text, and folded in HTML, as is any table with many rows.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    graph: Graph | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[tuple[str, str, Any]] = ()
    detail: bool = False

    def as_text(self) -> str:
        """Aligned columns; all but the last are shortened."""
        rows = [list(self.head)]
        for row in self.rows:
            rows.append([*(short(cell, 60) for cell in row[:-1]), plain(row[-1])])
        widths = [max(len(cell) for cell in column) for column in zip(*rows)]
        lines = [f"{self.title}:"]
        for *cells, last in rows:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths)]
            lines.append("  " + "  ".join([*padded, last.replace("\n", "\n    ")]).rstrip())
        return "\n".join(lines)


View = tuple[str, *tuple[Table, ...]]  # a headline, and tables


def shows(kind: Any) -> Callable:
    """A decorator for the function that makes a View of an instance: sets how `kind` displays."""

    def decorate(view: Callable[[Any], View]) -> Callable[[Any], View]:
        kind.__repr__ = lambda thing: as_text(*view(thing))
        kind._repr_html_ = lambda thing: as_html(*view(thing))
        return view

    return decorate


def as_text(headline: str, *tables: Table) -> str:
    """The headline and the tables, except details, as text."""
    shown = [table.as_text() for table in tables if table.rows and not table.detail]
    return "\n".join([headline, *shown])


def as_html(headline: str, *tables: Table) -> str:
    """The headline and the tables as HTML, in which no dollar sign starts a formula in Jupyter."""
    return render("view.html.j2", headline=headline, tables=tables)


def render(template: str, **values: Any) -> str:
    """Render a template of this folder with values, which are escaped."""
    return _templates().get_template(template).render(values)


@lru_cache
def _templates() -> Any:
    import jinja2

    loader, undefined = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.StrictUndefined
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )
    used = (plain, short, percent, interval, base64, is_number, drawing, mark, inputs)
    templates.globals |= {function.__name__: function for function in used} | {"click": CLICK}
    return templates


def plain(value: object) -> str:
    """The value as text."""
    return "(none)" if value is None else str(value)


def short(value: object, length: int) -> str:
    """The value on one line, cut at a word, with … if something is left out."""
    return textwrap.shorten(plain(value), length, placeholder=" …")


def percent(share: float) -> str:
    """A proportion from 0 to 1, in percent."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float) -> str:
    """A 95 % interval of a proportion, in percent."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def base64(data: str | bytes) -> str:
    """Data encoded for a data URL."""
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def is_number(cell: object) -> bool:
    """Whether a cell is a number, to be aligned to the right."""
    return re.fullmatch(NUMBER, plain(cell)) is not None


def places(graph: Graph) -> dict[str, tuple[int, float]]:
    """The column, from 0 at the left, and the row, from 0 at the top, of every node in a drawing.

    A node's column is its depth, so every edge leads to the right; its row is its place among the
    nodes of the column, in topological order. Shorter columns are centred beside the longest one,
    so rows may be half-integers.
    """
    columns = defaultdict(list)
    for name in graph.order:
        columns[graph.depth[name]].append(name)
    longest = max(map(len, columns.values()))
    return {
        name: (column, (longest - len(names)) / 2 + row)
        for column, names in columns.items()
        for row, name in enumerate(names)
    }


def stays(gradient: object) -> bool:
    """Whether a gradient asks for no change."""
    return re.search(STAYS, plain(gradient), re.IGNORECASE) is not None


def drawing(
    graph: Graph,
    values: Mapping[str, Any] | None = None,
    messages: Sequence[tuple[str, str, Any]] = (),
) -> tuple[str, dict[str, tuple[int, int]], tuple[int, int], tuple[int, int]]:
    """The graph as SVG, with the start of each value and gradient, and an arrow for each message.

    Parameters
    ----------
    graph, values, messages
        As in `Table`.

    Returns
    -------
    svg : str
    corners : dict of str to (int, int)
        The left and top of each node, in pixels.
    box : (int, int)
        Width and height of every node, in pixels.
    size : (int, int)
        Width and height of the drawing, in pixels.
    """
    width, notes, changes = 130, {name: [] for name in graph.order}, {}
    if values or messages:
        width = max(width, WIDE // (1 + max(graph.depth.values())) - 66)
    for name, value in (values or {}).items():
        notes[name] += [(line, "value") for line in _lines(value, width)]
    for source, target, gradient in messages:
        if gradient is not None:
            kind = "stays" if stays(gradient) else "changes"
            lines = [(line, kind) for line in _lines(f"← {source}: {gradient}", width)]
            if not set(lines) <= set(notes[target]):  # the same text came from another example
                notes[target] += lines
            changes[source, target] = min(kind, changes.get((source, target), kind))
    height = 28 + 13 * max(map(len, notes.values()))
    corners = {
        name: (10 + (width + 56) * column, round(22 + (height + 16) * row))
        for name, (column, row) in places(graph).items()
    }
    right, bottom = (max(values) for values in zip(*corners.values()))
    box, size = (width, height), (right + width + 10, bottom + height + 10)
    shown = {"corners": corners, "box": box, "size": size, "notes": notes, "changes": changes}
    return render("graph.svg.j2", graph=graph, **shown), corners, box, size


def _lines(value: object, width: int) -> list[str]:
    """The first two lines of a text at a font size of 10 pixels, cut at words."""
    return textwrap.wrap(plain(value), 2 * (width - 12) // 11, max_lines=2, placeholder=" …")


@shows(Graph)
def graph_view(graph: Graph) -> View:
    """A row for each node: whether it is trained, its inputs and its instruction."""
    rows = []
    for node in (graph[name] for name in graph.order):
        training = "trainable" if node.trainable else "fixed"
        rows.append((node.name, training, inputs(graph, node.name), node.form, node.instruction))
    head = ("node", "training", "inputs", "form", "instruction")
    return f"Graph, answer node {graph.answer!r}", Table("nodes", head, rows, graph)


@shows(Trace)
def trace_view(trace: Trace) -> View:
    """The question, and the value of each node."""
    graph = trace.graph
    rows = [(name, inputs(graph, name), trace.values[name]) for name in graph.order]
    values = Table("values", ("node", "inputs", "value"), rows, graph, trace.values)
    return f"Trace of {plain(trace.question)!r}", values


@shows(Gradients)
def gradients_view(gradients: Gradients) -> View:
    """The value and gradient of each node, and all messages."""
    graph, values = gradients.trace.graph, gradients.trace.values
    rows = [(name, values[name], gradients.get(name, "no gradient")) for name in graph.order]
    messages = [("(score)", graph.answer, gradients.get(graph.answer)), *gradients.messages]
    head = ("node", "value", "gradient")
    nodes = Table("gradients", head, rows, graph, values, messages, detail=True)
    return "Gradients", nodes, Table("messages", ("from", "to", "gradient"), messages)


@shows(Scores)
def scores_view(scores: Scores) -> View:
    """Correct answers, accuracy with its 95 % interval, and the first answers of each outcome."""
    groups = {"wrong": [], "unreadable": [], "correct": []}
    for row in scores.rows:
        kind = "correct" if row.correct == 1 else "wrong"
        groups[kind if row.answer is not None else "unreadable"].append((row,))
    simulated = any(model.startswith(SIMULATED) for _, model in scores.usage.counts)
    headline = _scored(scores) + (", simulated" if simulated else "")
    return headline, *(_answers(f"{kind} answers", groups[kind], [scores]) for kind in groups)


@shows(Questions)
def questions_view(questions: Questions) -> View:
    """How many questions have which outcome, and the first of each."""
    groups = {outcome: [] for outcome in OUTCOMES}
    for before, after, outcomes in questions.rows:
        for outcome in outcomes:
            groups[outcome].append((before, after))
    counts = ", ".join(f"{len(rows)} {outcome}" for outcome, rows in groups.items())
    stages = questions.before, questions.after
    tables = [_answers(outcome, rows, stages) for outcome, rows in groups.items()]
    return f"{len(questions.rows)} questions: {counts}", *tables


def _answers(title: str, rows: Sequence[Sequence[Score]], stages: Sequence[Scores]) -> Table:
    """The first of these questions: the right answer, and what was answered at each stage."""
    if len(rows) > ANSWERS:
        title = f"the first of {len(rows)} {title}"
    names = ("before", "after") if len(stages) > 1 else ("answer",)
    shown = []
    for scores in rows[:ANSWERS]:
        last, example = scores[-1], stages[-1].examples.get(scores[-1].id)
        cells = [" → ".join(map(mark, scores)), last.id]
        cells += [example.question, example.answer] if example else ["", ""]
        cells += [score.answer or "(unreadable)" for score in scores]
        for score, stage in zip(scores, stages):
            trace = stage.traces.get(score.id)
            values = trace.values.items() if trace else [("reply", score.reply)]
            cells.append("\n".join(f"{name}: {plain(value)}" for name, value in values))
        shown.append(cells)
    head = ["", "example", "question", "right answer", *names]
    head += [f"{name}, node by node".removeprefix("answer, ") for name in names]
    return Table(title, head, shown, detail=True)


@shows(Step)
def step_view(step: Step) -> View:
    """The outcome of the step, the graph that was tried with its gradients, all messages, and, if
    they are available, the questions that the gate saw."""
    rows, messages, answer = [], [], step.candidate.answer
    for name in step.candidate.order:
        gradients = [texts[name] for texts in step.gradients.values() if name in texts]
        rows.append((name, step.candidate[name].instruction, "\n".join(gradients)))
    for example in step.examples:
        if score := step.gradients.get(example, {}).get(answer):
            messages.append((example, "(score)", answer, score))
        messages += [(example, *message) for message in step.messages.get(example, ())]
    drawn = [message[1:] for message in messages]
    head = ("node", "instruction", "gradients")
    seen = scores_view(step.judged)[1:] if step.judged and step.judged.examples else ()
    return (
        f"Step: {_verdict(step)}, {_scored(step.judged)}; learned from {_learned(step)}",
        Table("instructions", head, rows, step.candidate, messages=drawn, detail=True),
        Table("messages", ("example", "from", "to", "gradient"), messages),
        *seen,
    )


@shows(Run)
def run_view(run: Run) -> View:
    """The steps, what they cost, the replies that could not be read, and why the run ended."""
    accepted = sum(step.accepted for step in run.steps[1:])
    headline = (
        f"Run on {run.task} with {run.model}, coach {run.coach}: "
        f"{accepted} of {len(run.steps) - 1} steps accepted; {run.stopped}"
    )
    if run.simulated:
        headline += "\nsimulated: these numbers say nothing about real models"
    seen = [str(comparison or "") for comparison in run.comparisons]
    steps = [("0: start", _scored(run.steps[0].judged), "", "")]
    for number, step in enumerate(run.steps[1:], 1):
        verdict = f"{number}: {_verdict(step)}"
        steps.append((verdict, _scored(step.judged), seen[number], _learned(step)))
    questions = f"{'validation' if run.steps[0].validation else 'training'} questions"
    columns = ("phase", "node", "reply", "problem")
    failures = [tuple(failure[name] for name in columns) for failure in run.usage.failures]
    return (
        headline,
        Table("steps", ("step", questions, "the gate saw", "learned from"), steps),
        usage_table(priced_rows(run.usage)),
        Table("unreadable replies", columns, sorted(failures, key=str)),
    )


def usage_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Calls, tokens and costs, from the rows of `priced_rows` or of a record's `usage`.

    How many calls were live is left out, so that a rerun shows the same.
    """
    shown = []
    for row in rows:
        phase = f"{row['stage']}: {row['phase']}" if "stage" in row else row["phase"]
        cost = "unknown" if row["cost"] is None else f"${row['cost']:.4f}"
        notes = [f"{row[kind]} {kind}" for kind in ("cut", "refused", "truncated") if row.get(kind)]
        notes += [f"answered by {name}" for name in sorted({*row["answered_by"]} - {row["model"]})]
        numbers = [f"{row[name]:,}" for name in COUNTS]
        shown.append((phase, row["model"], *numbers, cost, ", ".join(notes)))
    return Table("usage", USAGE, shown)


@shows(Task)
def task_view(task: Task) -> View:
    """Sizes, how often each answer is the right one, some examples, and the start graph."""
    train = Counter(example.answer for example in task.train)
    test = Counter(example.answer for example in task.test)
    both = (train + test).most_common()
    answers = [(answer, train[answer], test[answer]) for answer, _ in both if len(both) <= FEW]
    examples = [(each.id, each.answer, each.question) for each in task.train[:FIRST]]
    questions = {example.question for example in task.train}
    shared = sum(example.question in questions for example in task.test)
    return (
        f"Task {task.name}: {len(task.train)} training and {len(task.test)} test examples; "
        f"test questions that are also in training: {shared or 'none'}",
        Table("correct answers", ("answer", "in training", "in test"), answers),
        Table("the first training examples", ("id", "answer", "question"), examples),
        *graph_view(task.graph)[1:],
    )


def mark(score: Score) -> str:
    """Whether an answer was correct; a graded one's score."""
    return "✓" if score.correct == 1 else f"{score.correct:.2g}" if score.correct else "✗"


def inputs(graph: Graph, name: str) -> str:
    """What a node receives, in words."""
    return ", ".join(graph[name].inputs) or "the question"


def _scored(scores: Scores | None) -> str:
    if scores is None:
        return "no new instruction"
    counted = f"{scores.correct:g} of {len(scores.rows)} {'points' if scores.graded else 'correct'}"
    shown = f"{counted}: {percent(scores.accuracy)} {interval(*scores.interval)}"
    return f"{shown}, {scores.unreadable} unreadable" if scores.unreadable else shown


def _verdict(step: Step) -> str:
    return "accepted" if step.accepted else "rejected"


def _learned(step: Step) -> str:
    unchanged = [f"{name} unchanged: {reason}" for name, reason in step.kept.items()]
    leaks = [f"{name} leaks: {leak}" for name, leak in step.leaks.items()]
    return "; ".join([", ".join(step.examples) or "no example", *unchanged, *leaks])


_Diff: Any = Diff  # already a text, so it has no tables
_Diff.__repr__ = lambda diff: str(diff) or "no instruction changed"
_Diff._repr_html_ = lambda diff: render("diff.html.j2", diff=diff)
