"""How graphs, traces, gradients, scores, runs, tasks and diffs show themselves.

Of each class a function makes paragraphs and tables, and these have two forms: text for a terminal,
HTML for notebooks and the report of a batch. The classes know nothing of this; they are given their
forms here.

The HTML comes from the templates beside this file, in which everything is escaped. Looks are
attributes and drawings are images, since JupyterLab removes styles, scripts and inline SVG from a
notebook that it does not trust; what is left can be read. Drawings have no ground, and colours that
stand out on white and on black.
"""

import re
import textwrap
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..diff import Diff
from ..graph import Graph
from ..llm.budget import priced_rows
from ..propagate import Gradients, Trace
from ..run import Run, Scores, Step
from ..task import Task
from ..usage import SIMULATED

if TYPE_CHECKING:
    from jinja2 import Environment

FIRST = 3  # examples of a task, and wrong answers, that are shown
FEW = 40  # rows that are shown unfolded
USAGE = ("phase", "model", "calls", "repeats", "prompt tokens", "reply tokens", "cost", "notes")
COUNTS = ("calls", "repeated", "prompt_tokens", "completion_tokens")
NUMBER = r"[$\[]?[+-]?\d[\d.,% \]]*"  # a cell with a number, a share or an interval

# A click on a node hides the rows of the others, a click beside the nodes shows all of them.
CLICK = (
    "const node = event.target.dataset.node, texts = this.nextElementSibling; texts.open = true;"
    " [...texts.querySelectorAll('tr')].slice(1).forEach("
    "(row, place) => { row.hidden = node && place !== +node })"
)


@dataclass(frozen=True)
class Table:
    """Rows of plain values under a title.

    Parameters
    ----------
    title : str
    head : sequence of str
        The names of the columns. Where values are long, those of the last column are.
    rows : sequence of sequences
    graph : Graph, optional
        It is drawn above its table, which has a row for each node, in the order of the graph.
    detail : bool
        Left out of the text form, and folded in HTML; there as well, where there are many rows.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    graph: Graph | None = None
    detail: bool = False

    def as_text(self) -> str:
        """Aligned columns; all but the last are cut."""
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
    """Decorate a function that makes a View of an instance: the class gets the forms of that."""

    def decorate(view: Callable[[Any], View]) -> Callable[[Any], View]:
        kind.__repr__ = lambda thing: as_text(*view(thing))
        kind._repr_html_ = lambda thing: as_html(*view(thing))
        return view

    return decorate


def as_text(headline: str, *tables: Table) -> str:
    """The headline and the tables that are no details as text."""
    shown = [table.as_text() for table in tables if table.rows and not table.detail]
    return "\n".join([headline, *shown])


def as_html(headline: str, *tables: Table) -> str:
    """The headline and the tables as HTML, in which no dollar sign starts a formula in Jupyter."""
    return render("view.html.j2", headline=headline, tables=tables)


def render(template: str, **values: Any) -> str:
    """A template of this folder with values, which are escaped."""
    return _templates().get_template(template).render(values)


@lru_cache
def _templates() -> "Environment":
    import jinja2

    loader, undefined = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.StrictUndefined
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )
    used = (plain, short, percent, interval, base64, is_number, drawing)
    templates.globals |= {function.__name__: function for function in used} | {"click": CLICK}
    return templates


def plain(value: object) -> str:
    """The value as text."""
    return "(none)" if value is None else str(value)


def short(value: object, length: int) -> str:
    """The value on one line, cut at a word, with … where something is left out."""
    return textwrap.shorten(plain(value), length, placeholder=" …")


def percent(share: float) -> str:
    """A share from 0 to 1 as text."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float) -> str:
    """A 95 % interval of a share, in percent."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def base64(data: str | bytes) -> str:
    """Data as it stands in a page."""
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def is_number(cell: object) -> bool:
    """Whether a cell stands at the right of its column."""
    return re.fullmatch(NUMBER, plain(cell)) is not None


def places(graph: Graph) -> dict[str, tuple[int, float]]:
    """The column, from 0 at the left, and the row, from 0 at the top, of every node of a drawing.

    A node's column is its depth, so every edge leads to the right; its row is its place among the
    nodes of the column, in topological order. Shorter columns are centred beside the longest one,
    so rows may be halves.
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


def drawing(graph: Graph) -> tuple[str, dict[str, tuple[int, int]], tuple[int, int]]:
    """The graph as SVG.

    Returns
    -------
    svg : str
    corners : dict of str to (int, int)
        The left and top of each node, in pixels; all are 130 by 28.
    size : (int, int)
        Width and height of the drawing, in pixels.
    """
    corners = {
        name: (10 + 186 * column, round(22 + 44 * row))
        for name, (column, row) in places(graph).items()
    }
    right, bottom = (max(values) for values in zip(*corners.values()))
    size = right + 140, bottom + 38
    return render("graph.svg.j2", graph=graph, corners=corners, size=size), corners, size


@shows(Graph)
def graph_view(graph: Graph) -> View:
    """A row for each node: whether it is trained, its inputs and its instruction."""
    rows = []
    for node in (graph[name] for name in graph.order):
        training = "trainable" if node.trainable else "fixed"
        rows.append((node.name, training, _inputs(graph, node.name), node.form, node.instruction))
    head = ("node", "training", "inputs", "form", "instruction")
    return f"Graph, answer node {graph.answer!r}", Table("nodes", head, rows, graph)


@shows(Trace)
def trace_view(trace: Trace) -> View:
    """The question, and the value of each node."""
    graph = trace.graph
    rows = [(name, _inputs(graph, name), trace.values[name]) for name in graph.order]
    values = Table("values", ("node", "inputs", "value"), rows, graph)
    return f"Trace of {plain(trace.question)!r}", values


@shows(Gradients)
def gradients_view(gradients: Gradients) -> View:
    """The value and gradient of each node, and all messages."""
    graph, values = gradients.trace.graph, gradients.trace.values
    rows = [(name, values[name], gradients.get(name, "no gradient")) for name in graph.order]
    messages = [("(score)", graph.answer, gradients.get(graph.answer)), *gradients.messages]
    nodes = Table("gradients", ("node", "value", "gradient"), rows, graph, detail=True)
    return "Gradients", nodes, Table("messages", ("from", "to", "gradient"), messages)


@shows(Scores)
def scores_view(scores: Scores) -> View:
    """Correct answers, accuracy with its 95 % interval, and the first wrong answers."""
    wrong = [row for row in scores.rows if not row.correct]
    rows = [(row.id, row.answer or "(unreadable)", row.reply) for row in wrong[:FIRST]]
    title = f"the first of {len(wrong)} wrong answers"
    simulated = any(model.startswith(SIMULATED) for _, model in scores.usage.counts)
    headline = _scored(scores) + (", simulated" if simulated else "")
    return headline, Table(title, ("example", "answer", "reply"), rows, detail=True)


@shows(Step)
def step_view(step: Step) -> View:
    """What came of the step, the graph that was tried, and all messages."""
    rows, messages = [], []
    for name in step.candidate.order:
        gradients = [texts[name] for texts in step.gradients.values() if name in texts]
        rows.append((name, "\n".join(gradients), step.candidate[name].instruction))
    for example in step.examples:
        messages += [(example, *message) for message in step.messages.get(example, ())]
    head = ("node", "gradients", "instruction")
    return (
        f"Step: {_verdict(step)}, {_scored(step.judged)}; learned from {_learned(step)}",
        Table("instructions", head, rows, step.candidate, detail=True),
        Table("messages", ("example", "from", "to", "gradient"), messages),
    )


@shows(Run)
def run_view(run: Run) -> View:
    """The steps, what they cost, which replies could not be read, and why the run ended."""
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
    """Calls, tokens and costs of rows as `priced_rows` or the `usage` of a record has them.

    What was live is left out, so that a rerun shows the same.
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
    """Sizes, how often each answer is correct, some examples, and the start graph."""
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


def _inputs(graph: Graph, name: str) -> str:
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


_Diff: Any = Diff  # a text already, so it has no tables
_Diff.__repr__ = lambda diff: str(diff) or "no instruction changed"
_Diff._repr_html_ = lambda diff: render("diff.html.j2", diff=diff)
