"""How things show themselves: everything is there to be read, in a terminal and in a notebook, and nothing of it is run."""

import base64
import copy
import pickle
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semback.report.drawing import graph_drawing, run_drawing

from semback import Gradients, Graph, Node, Run, Scores, Task, Trace
from semback.diff import Diff, texts_diff
from semback.propagate import Message
from semback.run import Score, Step
from semback.tasks import Example
from semback.usage import Usage

EVIL = "<script>alert(1)</script><img src=x onerror=\"alert('2')\"> & $x$ </details></table></svg>"
IN_A_PAGE = set("div p b table tr th td details summary del ins img span".split())
IN_A_DRAWING = set("svg rect path circle g title text".split())


class Page(HTMLParser):
    """Reads HTML as a browser would: text, elements, attributes; every element that is opened must be closed in turn."""

    def __init__(self, html):
        super().__init__()
        self.said, self.elements, self.open = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return "".join(self.said)

    @property
    def drawings(self):
        sources = [attributes["src"] for tag, attributes in self.elements if tag == "img"]
        return [
            base64.b64decode(
                source.removeprefix("data:image/svg+xml;base64,"), validate=True
            ).decode()
            for source in sources
        ]


def page(thing):
    return Page(thing._repr_html_())


GRAPH = Graph(
    (
        Node("facts", EVIL),
        Node("plan", EVIL, ("facts",), False, EVIL),
        Node("end", EVIL, ("facts", "plan")),
    )
)
TRACE = Trace(GRAPH, EVIL, dict.fromkeys(GRAPH.order, EVIL))
GRADIENTS = Gradients(
    TRACE,
    {"end": EVIL, "facts": EVIL},
    (Message("end", "facts", EVIL), Message("end", "plan", None)),
)
SCORES = Scores(
    (Score(EVIL, EVIL, EVIL, False), Score("b", None, None, False), Score("c", "5", "5", True))
)
STEP = Step(
    GRAPH.with_instructions({"facts": EVIL + " and more"}),
    SCORES,
    True,
    (EVIL,),
    {EVIL: {"facts": EVIL}},
    {EVIL: [["end", "facts", EVIL]]},
    {"end": EVIL},
)
FAILURE = {"phase": EVIL, "node": EVIL, "problem": EVIL, "reply": EVIL}
RUN = Run(EVIL, EVIL, EVIL, {}, (Step(GRAPH, SCORES, True), STEP), EVIL, Usage(failures=[FAILURE]))
TASK = Task(EVIL, (Example(EVIL, EVIL, EVIL),), (Example("b", EVIL, EVIL),), GRAPH)
KINDS = [GRAPH, TRACE, GRADIENTS, SCORES, STEP, RUN, RUN.diff(), TASK]
EVERY = pytest.mark.parametrize("thing", KINDS, ids=lambda thing: type(thing).__name__)


@EVERY
def test_html_in_a_question_a_name_or_a_reply_is_shown_and_not_run(thing):
    seen = page(thing)
    assert EVIL in seen.text and (EVIL in repr(thing) or isinstance(thing, (Graph, Scores)))
    assert {tag for tag, _ in seen.elements} <= IN_A_PAGE
    for svg in seen.drawings:
        assert {
            element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()
        } <= IN_A_DRAWING
    attributes = {
        name: value for _, attributes in seen.elements for name, value in attributes.items()
    }
    assert not {"id", "href"} & set(attributes), "an id may stand on a page once only"
    handlers = {name: value for name, value in attributes.items() if name.startswith("on")}
    assert set(handlers) <= {"onclick", "onkeydown"} and "alert" not in str(handlers)


@EVERY
def test_the_same_thing_shows_itself_the_same_and_no_dollar_starts_a_formula(thing):
    assert thing._repr_html_() == copy.deepcopy(thing)._repr_html_()
    assert page(thing).elements[0] == ("div", {"class": "tex2jax_ignore mathjax_ignore"})


# Graphs


def test_a_graph_in_text_names_every_node_its_inputs_and_what_is_trained():
    assert repr(GRAPH).split("\n") == [
        "Graph with 3 nodes, 1 of them fixed, answer node 'end'",
        "  facts  trainable  <- the question",
        "  plan   fixed      <- facts",
        "  end    trainable  <- facts, plan",
    ]


def bezier(controls, t):
    return sum(
        share * control
        for share, control in zip(
            ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3), controls
        )
    )


def drawn(graph):
    """(box of each node: left, top, right, bottom; all curves as lists of points), from the SVG."""
    drawing = graph_drawing(graph)
    root = ET.fromstring(drawing.svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    boxes = {}
    for group in root.iter("g"):
        x, y, w, h = (float(group.find("rect").get(name)) for name in ("x", "y", "width", "height"))
        boxes[group.find("title").text] = (x, y, x + w, y + h)
        assert drawing.boxes[group.find("title").text] == (x, y, w, h)
    lines = []
    for path in root.findall("path"):
        for part in path.get("d").split("M")[1:]:
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", part)]
            curve = [
                (bezier(numbers[0:8:2], n / 20), bezier(numbers[1:8:2], n / 20)) for n in range(21)
            ]
            lines.append(curve + [(x, numbers[7]) for x in numbers[8:]])
    return boxes, lines, (drawing.width, drawing.height)


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 16))
    inputs = [
        draw(st.lists(st.integers(0, i - 1), max_size=4, unique=True)) if i else []
        for i in range(size)
    ]
    used = {source for each in inputs for source in each}
    nodes = [
        Node(f"node {i}", "", tuple(f"node {j}" for j in each), draw(st.booleans()))
        for i, each in enumerate(inputs)
    ]
    return Graph(
        (*nodes, Node("answer", "", tuple(f"node {i}" for i in range(size) if i not in used))),
        "answer",
    )


@given(
    st.one_of(
        graphs(),
        st.sampled_from(
            [Graph.layered([6, 8, 8, 7, 1]), Graph.layered([2, 3, 2, 2, 1], skips=True)]
        ),
    )
)
def test_no_node_lies_on_another_and_no_edge_runs_through_a_node(graph):
    boxes, lines, (width, height) = drawn(graph)
    assert set(boxes) == set(graph.order)
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 <= left and right <= width and 0 <= top and bottom <= height
        assert all(boxes[source][2] < left for source in graph[name].inputs), (
            "inputs stand to the left"
        )
        assert not [
            other
            for other, (x0, y0, x1, y1) in boxes.items()
            if other != name and x0 < right and left < x1 and y0 < bottom and top < y1
        ]
        assert not [
            point
            for line in lines
            for point in line
            if left < point[0] < right and top < point[1] < bottom
        ]


@given(graphs())
def test_every_edge_can_be_followed_from_the_input_to_its_user(graph):
    boxes, lines, _ = drawn(graph)
    on = {}
    for line in lines:
        on.setdefault(line[0], set()).add(line[-1])
    for name in graph.order:
        left, top, right, bottom = boxes[name]
        reached, new = (
            set(),
            {point for point in on if point[0] == right and top < point[1] < bottom},
        )
        while new:
            reached |= new
            new = {point for start in new for point in on.get(start, ())} - reached
        ends = {
            other
            for other, (x, y0, _, y1) in boxes.items()
            for point in reached
            if abs(point[0] - x) < 5 and y0 < point[1] < y1
        }
        assert ends == set(graph.successors(name))


def test_edges_cross_only_where_they_must():
    """Two chains given crosswise: in the order given their edges would cross twice."""
    nodes = [
        Node("a1", ""),
        Node("b1", ""),
        Node("b2", "", ("b1",)),
        Node("a2", "", ("a1",)),
        Node("a3", "", ("a2",)),
        Node("b3", "", ("b2",)),
        Node("end", "", ("a3", "b3")),
    ]
    boxes, _, _ = drawn(Graph(nodes))
    assert (
        len({boxes[name][1] < boxes[name.replace("a", "b")][1] for name in ("a1", "a2", "a3")}) == 1
    )


def test_a_chain_is_a_straight_line_and_keeps_its_size_however_long_it_is():
    chain = Graph([Node(f"n{i}", "", (f"n{i - 1}",) if i else ()) for i in range(30)])
    boxes, _, (width, _) = drawn(chain)
    assert len({top for _, top, _, _ in boxes.values()}) == 1 and width > 1500
    assert "overflow-x:auto" in chain._repr_html_() and "max-width:none" in chain._repr_html_()


def test_a_long_name_is_cut_in_the_drawing_and_whole_in_its_tip():
    name = "the node that " + "really " * 20 + "answers"
    graph = Graph((Node(name, "Go."),))
    assert f'title="{name}: Go."' in graph._repr_html_() and re.search(
        r">the node that [a-z ]*…</text>", graph_drawing(graph).svg
    )


# Traces and gradients


def test_a_trace_shows_what_each_node_was_given_and_what_it_said():
    graph = Graph((Node("a", "Start."), Node("b", "End.", ("a",))))
    trace = Trace(graph, "Why?", {"a": "said by a", "b": "said by b"})
    assert (
        "Why?" in repr(trace)
        and "[b] given a\nsaid by b" in repr(trace)
        and "[a] given the question" in repr(trace)
    )
    seen = page(trace)
    folded = [attributes["data-node"] for tag, attributes in seen.elements if tag == "details"]
    assert folded == ["0", "1"] and re.search(
        r"given by a\W*said by a\W*instruction\W*End\.\W*value\W*said by b", seen.text
    )


def test_gradients_show_who_told_whom_what_as_text_as_a_table_and_at_each_node():
    graph = Graph((Node("a", ""), Node("b", "", ("a",)), Node("c", "", ("a", "b"))))
    trace = Trace(graph, "Why?", {"a": "va", "b": "vb", "c": "vc"})
    told = (Message("c", "a", "c to a"), Message("c", "b", "c to b"), Message("b", "a", None))
    gradients = Gradients(trace, {"c": "the truth", "b": "c to b", "a": "all for a"}, told)
    assert repr(gradients).split("\n") == [
        "Gradients",
        "(score) -> c: the truth",
        "c -> a: c to a",
        "c -> b: c to b",
        "b -> a: (nothing)",
    ]
    html = gradients._repr_html_()
    at_b = Page(re.search(r'<details data-node="1">.*?</details>', html)[0])
    assert [text for text in at_b.said if text.strip()] == [
        "b",
        " c to b",
        "value",
        "vb",
        "gradient",
        "c to b",
        "told by c",
        "c to b",
        "told a",
        "(nothing)",
    ]
    assert Page(html).text.endswith("fromtogradientthe scorecthe truthcac to acbc to bba(nothing)")
    nodes = {
        attributes["data-node"]: attributes["title"]
        for tag, attributes in page(gradients).elements
        if tag == "span"
    }
    assert nodes == {"0": "a: all for a", "1": "b: c to b", "2": "c: the truth"}


def test_a_node_that_no_gradient_reached_says_so():
    assert (
        "no gradient"
        in re.search(r'<details data-node="1">.*?</details>', GRADIENTS._repr_html_())[0]
    )
    assert "end -> plan: (nothing)" in repr(GRADIENTS)


def test_a_copy_without_images_says_what_the_graph_is():
    """Where a notebook is not trusted, or shown by a page that lets no drawings through, no text of the drawing is left behind."""
    seen = page(
        Graph((Node("a", "Start."), Node("b", "Go on.", ("a",)), Node("end", "End.", ("a", "b"))))
    )
    assert [attributes["alt"] for tag, attributes in seen.elements if tag == "img"] == [
        "a → b; a + b → end"
    ]
    assert seen.text.startswith("instructions of 3 nodes")


def test_a_long_text_is_folded_and_whole():
    text = "A long value. " * 100
    html = Trace(Graph((Node("a", ""),)), "Why?", {"a": text})._repr_html_()
    assert "(1,400 characters)" in html and text in html and html.count("<details") == 2


def test_many_nodes_and_many_messages_are_folded_under_one_line_each():
    graph = Graph.layered([6, 8, 8, 7, 1])
    trace = Trace(graph, "Why?", dict.fromkeys(graph.order, "v"))
    gradients = Gradients(
        trace,
        {},
        [Message(name, source, "g") for name in graph.order for source in graph[name].inputs],
    )
    assert (
        "gradients of 30 nodes" in gradients._repr_html_()
        and "who told whom what (176 rows)" in gradients._repr_html_()
    )


# Runs, steps, scores and diffs


def scores(correct, of=20):
    return Scores(tuple(Score(str(i), f"reply {i}", str(i), i < correct) for i in range(of)))


def a_run(model="gpt-x", failures=(), counts=()):
    """The start, one candidate that is accepted, one that is rejected, one step without a new instruction."""
    graph = Graph((Node("hint", "Think."), Node("answer", "Answer the question.", ("hint",))))
    better = graph.with_instructions({"answer": "Answer the whole question."})
    usage = Usage.from_rows(list(counts), list(failures))
    return Run(
        "sums",
        model,
        "coach-y",
        {},
        (
            Step(graph, scores(7), True),
            Step(
                better,
                scores(12),
                True,
                ("e1", "e2"),
                {"e1": {"hint": "g"}},
                {"e1": [["answer", "hint", "g"]]},
            ),
            Step(better.with_instructions({"hint": "X"}), scores(9), False, ("e3",)),
            Step(better, None, False, kept={"hint": "no gradient reached it"}),
        ),
        "all steps done",
        usage,
    )


def test_a_run_shows_its_steps_its_verdicts_its_costs_and_its_failures():
    count = dict(
        phase="forward",
        model="gpt-x",
        calls=9,
        live=3,
        recorded=2,
        repeated=4,
        cut=0,
        refused=0,
        prompt_tokens=70,
        completion_tokens=30,
        live_prompt_tokens=0,
        live_completion_tokens=0,
    )
    failure = {
        "phase": "update",
        "node": "hint",
        "problem": "no <instruction> in it",
        "reply": "I would rather not.",
    }
    run = a_run(failures=[failure, failure], counts=[count])
    assert repr(run).split("\n") == [
        "Run on sums with gpt-x, coached by coach-y; all steps done: 1 accepted, 2 rejected",
        "  0: 7 of 20 right, 35.0% (18.1% to 56.7%), start",
        "  1: 12 of 20 right, 60.0% (38.7% to 78.1%), accepted",
        "  2: 9 of 20 right, 45.0% (25.8% to 65.8%), rejected",
        "  3: no new instruction, rejected; hint kept its instruction: no gradient reached it",
        "  forward, gpt-x: 9 calls (4 of them repeats), 70 + 30 tokens, price unknown",
        "  2 not readable: update of hint: no <instruction> in it",
    ]
    text = page(run).text
    for part in (
        "12 of 20 right, 60.0% (38.7% to 78.1%), accepted",
        "e1, e2",
        "9 of 20 right",
        "no gradient reached it",
        "forwardgpt-x947030price unknown",
        "replies that could not be read (2 rows)",
        "I would rather not.",
    ):
        assert part in text, part
    assert "simulated" not in text


def test_a_simulated_run_and_simulated_scores_say_so():
    assert "simulated: these numbers say nothing about real models" in repr(a_run("simulated"))
    assert page(a_run("simulated")).text.endswith(
        "simulated: these numbers say nothing about real models"
    )
    assert ">simulated</text>" in run_drawing(a_run("simulated")).svg
    usage = Usage()
    usage.counts["forward", "simulated"] = None
    assert (
        repr(replace(scores(5), usage=usage))
        == "5 of 20 right: 25.0% (95 % interval 11.2% to 46.9%, simulated)"
    )


def test_the_curve_draws_the_graph_as_a_line_and_candidates_by_shape_at_their_accuracy():
    root = ET.fromstring(
        run_drawing(a_run()).svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    )
    marks = {
        group.find("title").text: group
        for group in root.iter("g")
        if group.find("title") is not None
    }
    assert list(marks) == [
        "step 0: 7 of 20 right",
        "step 1: 12 of 20 right",
        "step 2: 9 of 20 right",
    ]
    assert [mark.find("circle") is not None for mark in marks.values()] == [True, True, False]
    y0, y1 = (float(mark.find("circle").get("cy")) for mark in list(marks.values())[:2])
    axis = {
        text.text: float(text.get("y")) - 4 for text in root.iter("text") if text.text.endswith("%")
    }
    bar = re.match(
        r"M\S+ (\S+)V(\S+)$", marks["step 1: 12 of 20 right"].find("path").get("d")
    ).groups()  # Wilson's of 12 of 20
    for y, share in ((y0, 7 / 20), (y1, 12 / 20), *zip(map(float, bar), (0.3866, 0.7812))):
        assert y == pytest.approx(axis["0%"] + share * (axis["100%"] - axis["0%"]), abs=0.1)
    line = next(path.get("d") for path in root.findall("path") if "V" in path.get("d"))
    assert re.findall(r"[ V]([\d.]+)", line) == [f"{y0:.1f}", f"{y1:.1f}"]


@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_simulated_stands_in_the_middle_of_the_curve_whose_axis_has_a_name(steps):
    run = replace(a_run("simulated"), steps=(a_run().steps[0], *[a_run().steps[2]] * (steps - 1)))
    root = ET.fromstring(
        (drawing := run_drawing(run)).svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    )
    word = next(text for text in root.iter("text") if text.text == "simulated")
    left, right = map(
        float,
        re.match(
            r"M(\S+) \S+H(\S+)$", next(path.get("d") for path in root.findall("path"))
        ).groups(),
    )
    assert (
        float(word.get("x")) == (left + right) / 2 and right - left > 200 and right < drawing.width
    )  # it is 180 pixels wide
    assert "accuracy on training questions, by step" in [text.text for text in root.iter("text")]


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_a_run_of_any_length_has_a_curve(steps):
    run = replace(a_run(), steps=(a_run().steps[0], *[a_run().steps[2]] * (steps - 1)))
    assert (
        ET.fromstring(run_drawing(run).svg) is not None
        and run_drawing(run).svg.count("<title>") == steps
    )
    assert ("steps (100 rows)" in run._repr_html_()) == (steps == 100)


def test_a_step_shows_its_examples_what_came_of_it_and_who_told_whom_what():
    step = a_run().steps[1]
    assert (
        repr(step)
        == "Step from e1, e2: 12 of 20 right, 60.0% (38.7% to 78.1%), accepted\ne1: answer -> hint: g"
    )
    text = page(step).text
    assert (
        "12 of 20 right" in text
        and "Answer the whole question." in text
        and "gradient, e1" in text
        and "e1answerhintg" in text
    )


def test_scores_show_the_first_wrong_answers_and_what_could_not_be_read():
    text = page(scores(12)).text
    assert (
        text.startswith("12 of 20 right: 60.0%")
        and "the first of 8 wrong answers (5 rows)" in text
        and "reply 12" in text
    )
    assert (
        "reply 17" not in text and "reply 11" not in text and "wrong" not in page(scores(20)).text
    )
    assert "1 unreadable" in repr(SCORES) and "b(unreadable)(nothing)" in page(SCORES).text


def test_a_diff_shows_words_that_went_and_came_as_git_does():
    diff = a_run().diff()
    assert diff == "[answer]\nAnswer the {+whole+} question." and repr(diff) == diff
    diff = texts_diff({"a": "Say the colour now."}, {"a": "Say the shape now."})
    assert diff == "[a]\nSay the [-colour-]{+shape+} now."
    assert ">colour</del><ins " in diff._repr_html_() and ">shape</ins> now." in diff._repr_html_()
    assert "1 words in, 1 out" in page(diff).text


def test_words_that_stand_alone_in_what_was_rewritten_belong_to_the_change():
    diff = texts_diff(
        {"a": "Think about it and then say what you know"},
        {"a": "List every fact first and count them all twice"},
    )
    assert (
        diff
        == "[a]\n[-Think about it and then say what you know-]{+List every fact first and count them all twice+}"
    )


def test_a_diff_of_nothing_is_empty_and_says_so():
    run = replace(a_run(), steps=a_run().steps[:1])
    assert run.diff() == "" and not run.diff()
    assert (
        repr(run.diff()) == "no instruction changed"
        and page(run.diff()).text == "no instruction changed"
    )


@given(st.text(st.sampled_from("ab \n\t")), st.text(st.sampled_from("ab \n\t")))
def test_a_diff_holds_both_texts_to_the_letter(old, new):
    pieces = texts_diff({"n": old}, {"n": new}).pieces.get("n", (("=", old),))
    assert "".join(text for mark, text in pieces if mark != "+") == old
    assert "".join(text for mark, text in pieces if mark != "-") == new


def test_a_diff_is_a_text_that_can_be_copied_and_pickled():
    diff = a_run().diff()
    again = pickle.loads(pickle.dumps(diff))
    assert (
        isinstance(diff, str)
        and again == diff
        and again.pieces == diff.pieces
        and isinstance(again, Diff)
    )


# Tasks


def test_a_task_shows_sizes_three_examples_and_how_often_each_answer_is_right(task):
    yes = replace(
        task,
        train=[Example(str(i), f"Q{i}?", "yes" if i % 3 else "no") for i in range(9)],
        test=[Example("t", "T?", "yes")],
    )
    assert repr(yes).startswith(
        "Task sums: 9 training and 1 test examples, none in both\n  answer yes: 6 in training, 1 in test\n"
        "  answer no: 3 in training, 0 in test\n  0: Q0?\n    -> no\n  1: Q1?"
    )
    text = page(yes).text
    assert (
        "9 training and 1 test examples" in text
        and "yes61no30" in text
        and "Q2?" in text
        and "Q3?" not in text
        and "T?" not in text
    )
    assert "right answer" not in page(task).text, "there are as many answers as questions"


def test_a_task_says_how_many_examples_are_in_both_parts(task):
    both = replace(task, test=(*task.test, *task.train[:5]), overlap=True)
    assert (
        "12 training and 17 test examples, 5 of them in both" in repr(both)
        and "5 of them in both" in page(both).text
    )


def test_a_long_question_is_cut_with_a_mark_in_text_and_folded_in_html(task):
    long = replace(task, train=[Example("a", "word " * 300, "yes")])
    assert "word …" in repr(long) and len(repr(long)) < 900 and "word " * 300 in page(long).text
