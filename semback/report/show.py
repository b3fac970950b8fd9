"""How graphs, traces, gradients, runs and tasks look: as HTML in a notebook, as plain text in a terminal.

The data classes know nothing of this: at the end of this file each is given its two forms. Everything that comes from
a model or a data set is escaped, so a question that holds HTML is shown and not run.
"""

from collections import Counter
from html import escape

from ..diff import Diff, marked
from ..graph import Graph
from ..llm.prices import priced_rows
from ..propagate import Gradients, Trace
from ..run import Run, Scores, Step
from ..tasks import Task
from ..usage import SIMULATED
from .drawing import run_drawing
from .markup import FEW, LONG, entries, fold, image, readable_graph, said, table

_SIMULATED = "simulated: these numbers say nothing about real models"
COSTS = ("phase", "model", "calls", "repeats", "prompt tokens", "reply tokens", "cost", "notes")
_MARKS = {
    "-": ('<del style="background:#d55e0033">', "</del>"),
    "+": ('<ins style="background:#009e7333">', "</ins>"),
}


# Graph


def graph_text(graph: Graph) -> str:
    """One line a node: its name, whether it is trained, and where its inputs come from."""
    wide = max(map(len, graph.order))
    lines = [f"Graph with {_size(graph)}, answer node {graph.answer!r}"]
    for name in graph.order:
        trained = "trainable" if graph[name].trainable else "fixed    "
        lines.append(f"  {name:<{wide}}  {trained}  <- {_inputs(graph, name)}")
    return "\n".join(lines)


def graph_html(graph: Graph) -> str:
    """The graph, its nodes' instructions folded under it."""
    rows = {
        name: [
            ("inputs", _inputs(graph, name)),
            ("instruction", graph[name].instruction),
            *([("form", graph[name].form)] if graph[name].form else []),
            ("training", "trainable" if graph[name].trainable else "fixed"),
        ]
        for name in graph.order
    }
    return readable_graph(
        graph, _instructions(graph), rows, f"instructions of {_size(graph)}", few=0
    )


def _size(graph):
    fixed = sum(not node.trainable for node in graph.nodes)
    return f"{len(graph.nodes)} node{'s' * (len(graph.nodes) > 1)}" + (
        f", {fixed} of them fixed" if fixed else ""
    )


def _instructions(graph):
    return {
        node.name: node.instruction if node.trainable else f"(fixed) {node.instruction}"
        for node in graph.nodes
    }


def _inputs(graph, name):
    return ", ".join(graph[name].inputs) or "the question"


# Trace and Gradients


def trace_text(trace: Trace) -> str:
    """Every node's value under its name."""
    return "\n".join(
        [
            f"Trace of {str(trace.question)!r}",
            *(
                f"\n[{name}] given {_inputs(trace.graph, name)}\n{said(trace.values[name])}"
                for name in trace.graph.order
            ),
        ]
    )


def trace_html(trace: Trace) -> str:
    """The question and the graph; each node's inputs and value."""
    rows = {
        name: [
            *_given(trace, name),
            ("instruction", trace.graph[name].instruction),
            ("value", trace.values[name]),
        ]
        for name in trace.graph.order
    }
    return entries([("question", trace.question)]) + readable_graph(
        trace.graph, trace.values, rows, f"values of {_size(trace.graph)}"
    )


def _given(trace, name):
    return [(f"given by {source}", value) for source, value in trace.inputs(name).items()] or [
        ("given", "the question")
    ]


def gradients_text(gradients: Gradients) -> str:
    """Who told whom what."""
    lines = [f"{m.source} -> {m.target}: {said(m.gradient)}" for m in gradients.messages]
    answer = gradients.trace.graph.answer
    return "\n".join([f"Gradients\n(score) -> {answer}: {said(gradients.get(answer))}", *lines])


def gradients_html(gradients: Gradients) -> str:
    """The graph, each node's value, gradient and messages, and a row a message: who told whom what."""
    trace, graph = gradients.trace, gradients.trace.graph
    score = ("the score", graph.answer, gradients.get(graph.answer))
    messages = [score, *gradients.messages]
    line = {name: gradients.get(name, "no gradient") for name in graph.order}
    rows = {
        name: [
            ("value", trace.values[name]),
            ("gradient", line[name]),
            *((f"told by {source}", heard) for source, target, heard in messages if target == name),
            *(
                (f"told {target}", heard)
                for source, target, heard in gradients.messages
                if source == name
            ),
        ]
        for name in graph.order
    }
    return readable_graph(graph, line, rows, f"gradients of {_size(graph)}") + table(
        ("from", "to", "gradient"), messages, "who told whom what"
    )


# Scores, Step and Run


def scores_text(scores: Scores) -> str:
    """Right answers, accuracy with its interval, and how many replies could not be read."""
    low, high = scores.interval
    unreadable = f", {scores.unreadable} unreadable" if scores.unreadable else ""
    origin = (
        ", simulated"
        if any(model.startswith(SIMULATED) for _, model in scores.usage.counts)
        else ""
    )
    interval = f"95 % interval {low:.1%} to {high:.1%}"
    return f"{scores.correct} of {len(scores.rows)} right: {scores.accuracy:.1%} ({interval}{unreadable}{origin})"


def scores_html(scores: Scores) -> str:
    """The same, and the first wrong answers, folded."""
    wrong = [row for row in scores.rows if not row.correct]
    rows = [
        (row.id, "(unreadable)" if row.answer is None else row.answer, row.reply)
        for row in wrong[:5]
    ]
    return escape(scores_text(scores)) + table(
        ("example", "answer", "reply"), rows, f"the first of {len(wrong)} wrong answers", few=0
    )


def step_text(step: Step) -> str:
    """Which examples the step learned from, what came of it, and who told whom what."""
    return "\n".join(
        [
            _from(step),
            *(
                f"{name}: {source} -> {target}: {said(heard)}"
                for name, source, target, heard in _told(step)
            ),
        ]
    )


def step_html(step: Step) -> str:
    """The same, with the graph that was tried: each node's instruction and the gradients it came from."""
    graph = step.candidate
    rows = {
        name: [
            ("instruction, as tried", graph[name].instruction),
            *([("kept", step.kept[name])] if name in step.kept else []),
            *(
                (f"gradient, {each}", heard[name])
                for each, heard in step.gradients.items()
                if name in heard
            ),
        ]
        for name in graph.order
    }
    return (
        f"<p>{escape(_from(step))}</p>"
        + readable_graph(
            graph, _instructions(graph), rows, f"instructions and gradients of {_size(graph)}"
        )
        + table(("example", "from", "to", "gradient"), _told(step), "who told whom what")
    )


def _from(step):
    return f"Step from {', '.join(step.examples) or 'no example'}: {_went(step)}"


def _told(step):
    return [
        (name, source, target, heard)
        for name in step.examples
        for source, target, heard in step.messages.get(name, ())
    ]


def run_text(run: Run) -> str:
    """The steps, what they cost, which replies could not be read, and why the run ended."""
    return "\n".join(
        [
            _headline(run),
            *(f"  {n}: {_went(step, n)}" for n, step in enumerate(run.steps)),
            *(
                f"  {phase}, {model}: {calls} calls ({repeats} of them repeats), {asked} + {replied} tokens, {cost}"
                + (f", {notes}" if notes else "")
                for phase, model, calls, repeats, asked, replied, cost, notes in _costs(run)
            ),
            *(
                f"  {count} not readable: {phase} of {node}: {problem}"
                for (phase, node, problem), count in _failures(run)
            ),
            *([f"  {_SIMULATED}"] if run.simulated else []),
        ]
    )


def run_html(run: Run) -> str:
    """The same, as a curve and tables, with the replies that could not be read."""
    steps = [(n, _went(step, n), ", ".join(step.examples)) for n, step in enumerate(run.steps)]
    costs = _costs(run)
    columns = len(COSTS) - (not any(row[-1] for row in costs))
    unread = sorted(
        ((f["phase"], f["node"], f["problem"], f["reply"]) for f in run.usage.failures), key=str
    )
    return (
        f"<p>{escape(_headline(run))}</p>"
        + image(run_drawing(run), "accuracy by step")
        + table(("step", "training examples", "from"), steps, "steps")
        + table(COSTS[:columns], [row[:columns] for row in costs], "costs")
        + table(
            ("phase", "node", "problem", "reply"), unread, "replies that could not be read", few=0
        )
        + (f"<p>{_SIMULATED}</p>" if run.simulated else "")
    )


def _headline(run):
    accepted, tried = sum(step.accepted for step in run.steps[1:]), len(run.steps) - 1
    return (
        f"Run on {run.task} with {run.model}, coached by {run.coach}; {run.stopped}: "
        f"{accepted} accepted, {tried - accepted} rejected"
    )


def _went(step, number=None):
    if step.scores is None:
        went = "no new instruction"
    else:
        low, high = step.scores.interval
        went = f"{step.scores.correct} of {len(step.scores.rows)} right, {step.scores.accuracy:.1%} ({low:.1%} to {high:.1%})"
    kept = "".join(f"; {name} kept its instruction: {why}" for name, why in step.kept.items())
    return (
        f"{went}, {'start' if number == 0 else 'accepted' if step.accepted else 'rejected'}{kept}"
    )


def _costs(run):
    """A row a phase and model. What was live is in the saved run and not here, so that a rerun shows the same."""
    return [
        (
            row["phase"],
            row["model"],
            row["calls"],
            row["repeated"],
            row["prompt_tokens"],
            row["completion_tokens"],
            "price unknown" if row["cost"] is None else f"{row['cost']:.4f} $",
            _notes(row),
        )
        for row in priced_rows(run.usage)
    ]


def _notes(row):
    """Replies that were cut at the token limit or refused, and who answered where it is not who was asked."""
    others = sorted(name for name in row["answered_by"] if name != row["model"])
    return ", ".join(
        [f"{row[kind]} {kind}" for kind in ("cut", "refused") if row[kind]]
        + [f"answered by {name}" for name in others]
    )


def _failures(run):
    return sorted(
        Counter(
            (failure["phase"], failure["node"], failure["problem"])
            for failure in run.usage.failures
        ).items()
    )


# Diff and Task


def diff_text(diff: Diff) -> str:
    """The diff as `print` shows it, or that there is nothing to show."""
    return str(diff) or "no instruction changed"


def diff_html(diff: Diff) -> str:
    """What went is struck through, what came is underlined."""
    texts = []
    for name, pieces in diff.pieces.items():
        words = {
            mark: sum(len(piece.split()) for each, piece in pieces if each == mark) for mark in "+-"
        }
        inside = "".join(marked(mark, escape(piece), _MARKS) for mark, piece in pieces)
        texts.append(
            fold(
                f"<b>{escape(name)}</b>: {words['+']} words in, {words['-']} out",
                f'<div style="white-space:pre-wrap;padding:3px 8px">{inside}</div>',
                " open",
            )
        )
    return "".join(texts) or f"<p>{diff_text(diff)}</p>"


def task_text(task: Task) -> str:
    """Sizes, how often each answer is right, three examples, and the start graph."""
    shown = [
        f"  {e.id}: {e.question if len(e.question) <= LONG else e.question[:LONG] + '…'}\n    -> {e.answer}"
        for e in task.train[:3]
    ]
    answers = [
        f"  answer {answer}: {train} in training, {test} in test"
        for answer, train, test in _answers(task)
    ]
    return "\n".join(
        [f"Task {task.name}: {_sizes(task)}", *answers, *shown, graph_text(task.graph)]
    )


def task_html(task: Task) -> str:
    """The same, with the graph drawn."""
    return (
        f"<p><b>{escape(task.name)}</b>: {_sizes(task)}; the first training examples:</p>"
        + table(
            ("id", "question", "answer"),
            [(e.id, e.question, e.answer) for e in task.train[:3]],
            "examples",
        )
        + table(("right answer", "in training", "in test"), _answers(task), "answers")
        + graph_html(task.graph)
    )


def _sizes(task):
    both = len({example.id for example in task.train} & {example.id for example in task.test})
    asked = {example.question for example in task.train}
    again = sum(example.question in asked for example in task.test) - both
    text = f"{len(task.train)} training and {len(task.test)} test examples, {f'{both} of them in both' if both else 'none in both'}"
    return text + (
        f"; {again} others of the test ask what one in training asks, word for word"
        if again
        else ""
    )


def _answers(task):
    """(answer, times in training, times in test), the most frequent first, where the answers are few and come again."""
    train, test = (Counter(example.answer for example in part) for part in (task.train, task.test))
    both = train + test
    return (
        [(answer, train[answer], test[answer]) for answer, _ in both.most_common()]
        if len(both) <= min(FEW, both.total() / 2)
        else []
    )


def _plain(html):
    """The function's HTML, in which no dollar sign starts a formula: Jupyter would typeset two prices in a question."""
    return lambda thing: f'<div class="tex2jax_ignore mathjax_ignore">{html(thing)}</div>'


for _kind, _as_text, _as_html in (
    (Graph, graph_text, graph_html),
    (Trace, trace_text, trace_html),
    (Gradients, gradients_text, gradients_html),
    (Scores, scores_text, scores_html),
    (Run, run_text, run_html),
    (Step, step_text, step_html),
    (Task, task_text, task_html),
    (Diff, diff_text, diff_html),
):
    _kind.__repr__ = _as_text
    _kind._repr_html_ = _plain(_as_html)
