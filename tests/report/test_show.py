"""How things show themselves: all of it can be read, and none of it is run or typeset."""

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

from semback import Example, Gradients, Graph, Node, Questions, Run, Scores, Step, Task, Trace
from semback.diff import Diff, texts_diff
from semback.propagate import Message
from semback.report import show
from semback.run import Score
from semback.usage import Count, Usage

EVIL = "<script>alert(1)</script><img src=x onerror=\"alert('2')\"> & $x$ </details></table></svg>"
IN_A_PAGE = set("div b small table tr th td details summary del ins span img button".split())
IN_A_DRAWING = set("svg style marker g path rect title text".split())


class Page(HTMLParser):
    """HTML as a browser reads it: texts, elements, attributes. Every element must be closed."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.elements, self.open = [], [], []
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
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def all(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]

    @property
    def drawings(self):
        start = "data:image/svg+xml;base64,"
        sources = [image["src"].removeprefix(start) for image in self.all("img")]
        return [base64.b64decode(source, validate=True).decode() for source in sources]


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
    (Score(EVIL, EVIL, EVIL, False), Score("b", None, None, False), Score("c", "5", "5", True)),
    traces={EVIL: TRACE},
    examples={EVIL: Example(EVIL, EVIL, EVIL)},
)
QUESTIONS = Questions(SCORES, SCORES)
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
KINDS = [GRAPH, TRACE, GRADIENTS, SCORES, QUESTIONS, STEP, RUN, RUN.diff(), TASK]
EVERY = pytest.mark.parametrize("thing", KINDS, ids=lambda thing: type(thing).__name__)


@EVERY
def test_html_in_a_question_a_name_or_a_reply_is_shown_and_not_run(thing):
    shown = page(thing)
    assert EVIL in shown.text and (EVIL in repr(thing) or isinstance(thing, Scores | Questions))
    assert {tag for tag, _ in shown.elements} <= IN_A_PAGE
    for svg in shown.drawings:
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()}
        assert tags <= IN_A_DRAWING
    for _, attributes in shown.elements:
        assert not {"id", "href"} & set(attributes), "an id may stand on a page once only"
        handlers = {name: value for name, value in attributes.items() if name.startswith("on")}
        assert handlers in ({}, {"onclick": show.CLICK})


@EVERY
def test_the_same_thing_shows_itself_the_same_and_no_dollar_starts_a_formula(thing):
    assert thing._repr_html_() == copy.deepcopy(thing)._repr_html_()
    assert page(thing).elements[0] == ("div", {"class": "tex2jax_ignore mathjax_ignore"})


# Graphs


def test_a_graph_in_text_names_every_node_its_training_inputs_and_instruction():
    graph = Graph(
        (Node("facts", "List them."), Node("plan", "Plan.", ("facts",), False, "One line."),
         Node("end", "Answer.", ("facts", "plan")))
    )  # fmt: skip
    assert repr(graph).split("\n") == [
        "Graph, answer node 'end'",
        "nodes:",
        "  node   training   inputs        form       instruction",
        "  facts  trainable  the question             List them.",
        "  plan   fixed      facts         One line.  Plan.",
        "  end    trainable  facts, plan              Answer.",
    ]


def drawn(graph, *texts):
    """The box of each node (left, top, right, bottom), all edges, and all arrows of gradients, as
    lists of points."""
    svg, corners, _, size = show.drawing(graph, *texts)
    root = ET.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    boxes = {}
    for group in root.iter("g"):
        if (title := group.find("title")) is not None:
            x, y, w, h = (
                int(group.find("rect").get(name)) for name in ("x", "y", "width", "height")
            )
            assert corners[title.text] == (x, y)
            boxes[title.text] = (x, y, x + w, y + h)
    found = {"tip": [], "stays": [], "changes": []}
    for path in root.iter("path"):
        if end := path.get("marker-end"):
            numbers = [int(number) for number in re.findall(r"-?\d+", path.get("d"))]
            found[end[5:-1]].append(list(zip(numbers[::2], numbers[1::2])))
    return boxes, found.pop("tip"), size, found


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
    last = tuple(f"node {i}" for i in range(size) if i not in used)
    return Graph((*nodes, Node("answer", "", last)), "answer")


CHAIN = Graph([Node(f"n{i}", "", (f"n{i - 1}",) if i else ()) for i in range(60)])
WIDE = Graph.layered([60, 1])
DENSE = [Graph.layered([6, 8, 8, 7, 1]), Graph.layered([2, 3, 2, 2, 1], skips=True)]


@given(st.one_of(graphs(), st.sampled_from([CHAIN, WIDE, *DENSE])))
def test_nodes_stand_apart_right_of_their_inputs_and_inside_the_drawing(graph):
    boxes, _, (width, height), _ = drawn(graph)
    assert set(boxes) == set(graph.order)
    for name, (left, top, right, bottom) in boxes.items():
        assert 0 <= left and right <= width and 0 <= top and bottom <= height
        assert all(boxes[source][2] < left for source in graph[name].inputs)
        assert not [
            other
            for other, (x0, y0, x1, y1) in boxes.items()
            if other != name and x0 < right and left < x1 and y0 < bottom and top < y1
        ]


@given(st.one_of(graphs(), st.sampled_from([CHAIN, WIDE, *DENSE])))
def test_every_edge_leads_from_an_input_to_its_user(graph):
    boxes, edges, *_ = drawn(graph)
    ends = [(edge[0], edge[-1]) for edge in edges]
    expected = [
        ((boxes[source][2], boxes[source][1] + 14), (boxes[name][0], boxes[name][1] + 14))
        for name in graph.order
        for source in graph[name].inputs
    ]
    assert sorted(ends) == sorted(expected)


def test_columns_are_depths_and_rows_follow_the_order_of_the_graph():
    graph = Graph.layered([1, 3, 2, 1], skips=True)
    places = show.places(graph)
    assert list(places) == list(graph.order)
    assert {name: column for name, (column, _) in places.items()} == graph.depth
    assert [places[f"step_2_{i}"] for i in (1, 2, 3)] == [(1, 0), (1, 1), (1, 2)]
    assert places["answer"] == (3, 1) and places["step_3_1"] == (2, 0.5), "columns are centred"


def test_a_chain_is_straight_and_an_edge_that_skips_a_node_is_bent_past_it():
    boxes, edges, (width, _), _ = drawn(CHAIN)
    assert len({top for _, top, _, _ in boxes.values()}) == 1 and width > 60 * 130
    assert all(len({y for _, y in edge}) == 1 for edge in edges)
    shown = CHAIN._repr_html_()
    assert "overflow-x:auto" in shown and "max-width:none" in shown
    _, edges, *_ = drawn(GRAPH)
    assert [edge for edge in edges if edge[1][1] < edge[0][1]] == [
        edge for edge in edges if edge[-1][0] - edge[0][0] > 150
    ]


def test_a_drawing_has_no_ground_so_that_it_can_stand_on_white_and_on_black():
    svg, corners, *_ = show.drawing(GRAPH)
    assert svg.count("<rect") == len(corners) and "100%" not in svg and "background" not in svg


def test_a_long_name_is_cut_in_the_drawing_and_whole_in_its_tip():
    name = "the node that " + "really " * 20 + "answers"
    graph = Graph((Node(name, "Go."),))
    assert f'title="{name}: Go."' in graph._repr_html_()
    assert re.search(r">the node that [a-z ]*…</text>", show.drawing(graph)[0])


def test_each_node_can_be_clicked_and_has_the_row_with_its_number():
    shown = page(GRADIENTS)
    buttons = shown.all("button")
    assert [button["data-node"] for button in buttons] == ["0", "1", "2"]
    assert buttons[1]["title"] == "plan: no gradient"
    rows = re.findall(r"<tr>(.*?)</tr>", GRADIENTS._repr_html_())
    assert [Page(row).texts[0] for row in rows[:4]] == ["node", "facts", "plan", "end"]


def test_a_copy_without_images_describes_the_graph():
    """An untrusted notebook, or a page that shows no images."""
    graph = Graph((Node("a", "A."), Node("b", "B.", ("a",)), Node("end", "End.", ("a", "b"))))
    (image,) = page(graph).all("img")
    assert image["alt"] == "a → b; a → end; b → end; answer: end"
    assert "atrainablethe questionA." in page(graph).text


def test_gradients_are_drawn_as_arrows_back_grey_where_all_should_stay():
    graph = Graph((Node("a", ""), Node("b", "", ("a",)), Node("end", "", ("a", "b"))))
    messages = [
        ("(score)", "end", "It should be 6."),
        ("end", "a", "The hint should stay as it is."),
        ("end", "b", "Name the units. " * 20),
        ("end", "b", "It is fine as it is."),
        ("b", "a", None),
    ]
    values = dict.fromkeys(graph.order, "a long value " * 20)
    boxes, edges, (width, _), arrows = drawn(graph, values, messages)
    assert len(edges) == 3 and width <= show.WIDE
    starts = {kind: [(path[0], path[-1]) for path in paths] for kind, paths in arrows.items()}
    for kind, source, target in (("stays", "end", "a"), ("changes", "end", "b")):
        (((x, y), (x1, y1)),) = starts[kind]
        assert x == boxes[source][0] and x1 == boxes[target][2]
        assert boxes[source][1] < y < boxes[source][3] and boxes[target][1] < y1 < boxes[target][3]
    root = ET.fromstring(show.drawing(graph, values, messages)[0])
    texts = [(text.get("class"), text.text) for text in root.iter() if text.tag.endswith("text")]
    lines = {kind: [text for each, text in texts if each == kind] for kind, _ in texts}
    assert len(lines["value"]) == 6 and all(line.endswith("a …") for line in lines["value"][1::2])
    assert lines["changes"][0].startswith("← end: Name the units.")
    assert lines["changes"][2].startswith("← (score): It should")
    assert lines["stays"][0].startswith("← end: The hint")
    again = show.drawing(graph, values, [*messages, *messages])[0]
    assert again == show.drawing(graph, values, messages)[0], "the same text twice is shown once"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It should stay as it is.", True),
        ("This hint is fine as it is; keep it.", True),
        ("The hints should remain as they are.", True),
        ("It should remain unchanged.", True),
        ("It should have named the units.", False),
        ("Stay with the question.", False),
    ],
)
def test_a_gradient_that_asks_for_no_change_is_known(text, expected):
    assert show.stays(text) is expected


# Traces and gradients


def test_a_trace_shows_the_inputs_and_the_value_of_each_node():
    graph = Graph((Node("a", "Start."), Node("b", "End.", ("a",))))
    trace = Trace(graph, "Why?", {"a": "first line\nsecond line", "b": "value of b"})
    assert repr(trace).split("\n") == [
        "Trace of 'Why?'",
        "values:",
        "  node  inputs        value",
        "  a     the question  first line",
        "    second line",
        "  b     a             value of b",
    ]
    assert page(trace).text.endswith(
        "nodeinputsvalueathe questionfirst line\nsecond linebavalue of b"
    )


def test_gradients_show_every_message_and_what_each_node_received():
    graph = Graph((Node("a", ""), Node("b", "", ("a",)), Node("c", "", ("a", "b"))))
    trace = Trace(graph, "Why?", {"a": "va", "b": "vb", "c": "vc"})
    messages = (Message("c", "a", "c to a"), Message("c", "b", "c to b"), Message("b", "a", None))
    gradients = Gradients(trace, {"c": "the truth", "b": "c to b", "a": "all for a"}, messages)
    assert repr(gradients).split("\n") == [
        "Gradients",
        "messages:",
        "  from     to  gradient",
        "  (score)  c   the truth",
        "  c        a   c to a",
        "  c        b   c to b",
        "  b        a   (none)",
    ]
    text = page(gradients).text
    assert "nodevaluegradientavaall for abvbc to bcvcthe truth" in text
    assert text.endswith("fromtogradient(score)cthe truthcac to acbc to bba(none)")


def test_a_node_that_no_gradient_reached_says_so():
    assert re.search(r">plan</td>.*?>no gradient</td>", GRADIENTS._repr_html_())
    assert re.search(r"end +plan +\(none\)", repr(GRADIENTS))


def test_a_long_text_is_folded_and_whole():
    text = "A long value. " * 100
    shown = Trace(Graph((Node("a", ""),)), "Why?", {"a": text})._repr_html_()
    assert "(1,400 characters)" in shown and text in shown and shown.count("<details") == 2


def test_many_rows_are_folded_under_one_line():
    graph = Graph.layered([6, 8, 8, 7, 1])
    messages = [Message(name, source, "g") for name in graph.order for source in graph[name].inputs]
    gradients = Gradients(Trace(graph, "Why?", dict.fromkeys(graph.order, "v")), {}, messages)
    shown = gradients._repr_html_()
    assert "<details><summary>messages (176)" in shown
    assert "<details open><summary>messages (3)" in GRADIENTS._repr_html_()


# Runs, steps, scores and diffs


def scores(correct, of=20):
    return Scores(tuple(Score(str(i), f"reply {i}", str(i), i < correct) for i in range(of)))


def a_run(model="gpt-x", failures=(), counts=()):
    """The start, a candidate that is accepted, one that is rejected, one step without candidate."""
    graph = Graph((Node("hint", "Think."), Node("answer", "Answer the question.", ("hint",))))
    better = graph.with_instructions({"answer": "Answer the whole question."})
    gradients, messages = {"e1": {"hint": "g"}}, {"e1": [["answer", "hint", "g"]]}
    steps = (
        Step(graph, scores(7), True),
        Step(better, scores(12), True, ("e1", "e2"), gradients, messages),
        Step(better.with_instructions({"hint": "X"}), scores(9), False, ("e3",)),
        Step(better, None, False, kept={"hint": "no gradient reached it"}),
    )
    usage = Usage(failures=list(failures))
    for row in counts:
        of = {name: value for name, value in row.items() if name not in ("phase", "model")}
        usage.counts[row["phase"], row["model"]] = Count(**of)
    return Run("sums", model, "coach-y", {}, steps, "all steps done", usage)


COUNT = {
    "phase": "forward",
    "model": "gpt-x",
    "calls": 9,
    "live": 3,
    "recorded": 2,
    "repeated": 4,
    "cut": 1,
    "prompt_tokens": 7000,
    "completion_tokens": 30,
    "answered_by": {"gpt-x": 8, "gpt-z": 1},
}


def test_a_run_shows_its_steps_its_verdicts_its_usage_and_its_unreadable_replies():
    failure = {"phase": "update", "node": "hint", "problem": "no block", "reply": "I'd rather not."}
    run = a_run(failures=[failure], counts=[COUNT])
    assert repr(run).split("\n") == [
        "Run on sums with gpt-x, coach coach-y: 1 of 3 steps accepted; all steps done",
        "steps:",
        "  step         training questions                     the gate saw          learned from",
        "  0: start     7 of 20 correct: 35.0 % [18.1, 56.7]",
        "  1: accepted  12 of 20 correct: 60.0 % [38.7, 78.1]  +5 −0 =15, p = 0.031  e1, e2",
        "  2: rejected  9 of 20 correct: 45.0 % [25.8, 65.8]   +0 −3 =17, p = 1      e3",
        "  3: rejected  no new instruction                                           "
        "no example; hint unchanged: no gradient reached it",
        "usage:",
        "  phase    model  calls  repeats  prompt tokens  reply tokens  cost     notes",
        "  forward  gpt-x  9      4        7,000          30            unknown  "
        "1 cut, answered by gpt-z",
        "unreadable replies:",
        "  phase   node  reply            problem",
        "  update  hint  I'd rather not.  no block",
    ]
    text = page(run).text
    for part in (
        "1: accepted12 of 20 correct: 60.0 % [38.7, 78.1]+5 −0 =15, p = 0.031e1, e2",
        "no gradient reached it",
        "forwardgpt-x947,00030unknown1 cut, answered by gpt-z",
        "updatehintI'd rather not.no block",
    ):
        assert part in text, part
    assert "simulated" not in text


def test_numbers_are_aligned_at_the_right():
    shown = a_run(counts=[COUNT])._repr_html_()
    assert re.search(r'text-align:right[^>]*>7,000</td><td style="[^"]*text-align:right', shown)
    assert re.search(r"text-align:left[^>]*>1: accepted<", shown)


def test_a_simulated_run_and_simulated_scores_say_so():
    note = "simulated: these numbers say nothing about real models"
    assert note in repr(a_run("simulated")) and note in page(a_run("simulated")).text
    usage = Usage()
    usage.counts["forward", "simulated"] = None
    simulated = replace(scores(5), usage=usage)
    assert repr(simulated) == "5 of 20 correct: 25.0 % [11.2, 46.9], simulated"


def test_a_step_shows_its_outcome_its_examples_its_instructions_and_every_message():
    step = a_run().steps[1]
    assert repr(step).split("\n") == [
        "Step: accepted, 12 of 20 correct: 60.0 % [38.7, 78.1]; learned from e1, e2",
        "messages:",
        "  example  from    to    gradient",
        "  e1       answer  hint  g",
    ]
    text = page(step).text
    assert "hintThink.ganswerAnswer the whole question." in text and "e1answerhintg" in text


def test_scores_show_the_first_answers_of_each_outcome_with_their_traces():
    text = page(scores(4)).text
    assert text.startswith("4 of 20 correct: 20.0 % [8.1, 41.6]")
    assert "the first of 16 wrong answers (10)" in text and "✗44reply: reply 4" in text
    assert "reply 14" not in text and "correct answers (4)" in text and "✓00reply: reply 0" in text
    assert "wrong" not in page(scores(20)).text
    shown = page(SCORES).text
    assert "1 unreadable" in repr(SCORES) and "✗b(unreadable)reply: (none)" in shown
    assert f"✗{EVIL}{EVIL}{EVIL}{EVIL}facts: {EVIL}\nplan: {EVIL}\nend: {EVIL}" in shown


def test_questions_are_grouped_by_what_became_of_them():
    def of(*rows):
        return Scores(tuple(Score(id, id, answer, correct) for id, answer, correct in rows))

    before = of(("a", "1", False), ("b", "2", True), ("c", None, False), ("d", "4", True))
    after = of(("a", "9", True), ("b", "8", False), ("c", "7", 0.5), ("d", "4", True))
    questions = Questions(before, after)
    assert [outcomes for *_, outcomes in questions.rows] == [
        ("got better",), ("got worse",), ("got better", "unreadable"), ("still right",)
    ]  # fmt: skip
    assert repr(questions) == (
        "4 questions: 2 got better, 1 got worse, 0 still wrong, 1 still right, 1 unreadable"
    )
    text = page(questions).text
    assert "✗ → ✓a19reply: areply: a" in text and "✗ → 0.5c(unreadable)7" in text
    assert text.index("got better (2)") < text.index("got worse (1)") < text.index("unreadable (1)")


def test_a_diff_shows_removed_and_added_words_as_git_does():
    diff = a_run().diff()
    assert diff == "[answer]\nAnswer the {+whole+} question." and repr(diff) == diff
    diff = texts_diff({"a": "Say the colour now."}, {"a": "Say the shape now."})
    assert diff == "[a]\nSay the [-colour-]{+shape+} now."
    shown = diff._repr_html_()
    assert ">colour</del><ins " in shown and ">shape</ins> now." in shown


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


def test_a_task_shows_sizes_examples_and_how_often_each_answer_is_correct(task):
    yes = replace(
        task,
        train=[Example(str(i), f"Q{i}?", "yes" if i % 3 else "no") for i in range(9)],
        test=[Example("t", "T?", "yes")],
    )
    assert repr(yes).split("\n")[:8] == [
        "Task sums: 9 training and 1 test examples; test questions that are also in training: none",
        "correct answers:",
        "  answer  in training  in test",
        "  yes     6            1",
        "  no      3            0",
        "the first training examples:",
        "  id  answer  question",
        "  0   no      Q0?",
    ]
    text = page(yes).text
    assert "yes61no30" in text and "Q2?" in text and "Q3?" not in text and "T?" not in text
    many = [Example(str(i), f"Q{i}?", str(i)) for i in range(50)]
    assert "correct answers" not in repr(replace(task, train=many)), "one for each question"


def test_a_task_says_how_many_test_questions_are_in_training(task):
    both = replace(task, test=(*task.test, *task.train[:5]), overlap=True)
    assert "12 training and 17 test examples; test questions that are also in training: 5" in repr(
        both
    )


def test_a_long_question_is_folded_in_html_and_whole(task):
    long = replace(task, train=[Example("a", "word " * 300, "yes")])
    assert "word " * 300 in page(long).text and "(1,500 characters)" in page(long).text
