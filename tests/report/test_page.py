"""The report of a batch: complete, the same every time, open to nobody else's text, and with hashes that anyone can check."""

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import nbformat
import pytest
from semback.report.results import folder
from test_results import changed, record_of

from semback import DataError, Node, Run, comparisons, results
from semback.report import page as report

EVIL = """<script>alert(1)</script>"><img src=https://x.example/a onerror='alert(1)'>{{ 7*7 }}"""
NAME = """"'><script>1</script>"""


class Elements(HTMLParser):
    """(tag, attributes) of every element of a page, those of its frames too, and all text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs := dict(attrs)))
        if "srcdoc" in attrs:
            inside = Elements(attrs["srcdoc"])
            self.found, self.text = self.found + inside.found, self.text + inside.text

    def handle_data(self, data):
        self.text += data


def notebook(name, stem, code="1 + 1", output="2", **metadata):
    """Put an executed notebook beside the results of a batch."""
    book = nbformat.v4.new_notebook(metadata={"papermill": metadata})
    book.cells = [
        nbformat.v4.new_code_cell(
            code, outputs=[nbformat.v4.new_output("execute_result", {"text/plain": output})]
        )
    ]
    path = folder(name) / "notebooks" / f"{stem}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(book, path)


@pytest.fixture
def record(task, cache):
    """The record of a small run in the batch "trial"; its responses are in the cache."""
    return record_of("trial", task, "liar", cache=cache)


def test_a_report_holds_numbers_figures_parameters_gradients_and_versions(record):
    notebook(
        "trial",
        "liar-sums-full-seed0-simulated",
        "the_code = 2",
        parameters={"steps": 2, "name": "trial", "train": 12},
    )
    text = (page := Elements(report.html("trial"))).text
    table = results.table([record]).iloc[0]
    assert comparisons.table([record])["words"].iloc[0] in text
    assert (
        f"{table['after']:.1%}" in text
        and f"{table['low']:.1%} – {table['high']:.1%}" in text
        and "LIAR" in text
    )
    figures = [
        attrs
        for tag, attrs in page.found
        if tag == "img" and attrs["src"].startswith("data:image/png;base64,iVBOR")
    ]
    assert len(figures) >= 2 and all(each["alt"] for each in figures)
    assert (
        "Bars are 95 % intervals: Wilson over questions" in text
        and "model,coach,data,conditions,variant" in text
    )
    assert "draw_between" in text and "train" in text and "the_code" in text
    run = Run.load(folder("trial") / "history" / "liar-sums-full-seed0-simulated.json")
    assert all(
        said in text
        for step in run.steps[1:]
        for messages in step.messages.values()
        for _, _, said in messages
    )
    assert (
        re.search(r"Python\s*3\.\d+\.\d+", text)
        and re.search(r"pandas\s*\d+\.", text)
        and re.search(r"semback\s*0\.", text)
    )


def test_the_same_files_give_the_same_bytes(record):
    notebook("trial", "first")
    one = report.write("trial").read_bytes()
    notebook(
        "trial", "first", start_time="2026-11-23T02:56:32", duration=1.5
    )  # its cell has another id, its metadata a time
    assert report.write("trial").read_bytes() == one


def test_a_report_loads_nothing_and_runs_no_script(record):
    notebook("trial", "01_first")
    page = Elements(html := report.html("trial"))
    assert not {"script", "link", "object", "embed", "audio", "video", "form"} & {
        tag for tag, _ in page.found
    }
    for tag, attrs in page.found:
        assert "srcset" not in attrs and attrs.get("src", "data:").startswith("data:"), (tag, attrs)
    assert "url(http" not in html and "@import" not in html
    policy = next(
        attrs["content"]
        for tag, attrs in page.found
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_hash_is_that_of_the_recording_which_export_writes(record, task, cache, own_home):
    record_of("trial", replace(task, name="others"), "bbh", cache=cache, seed=1)
    runs, html = results.responses("trial"), report.html("trial")
    recorded = report.recordings({"both": {key for keys in runs.values() for key in keys}, **runs})
    for group, keys in (("both", None), *runs.items()):
        cache.export(path := own_home / "some.jsonl", keys and set(keys))
        assert (
            recorded[group].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            and recorded[group].sha256 in html
        )
        assert (
            recorded[group].count
            == recorded[group].found
            == len(path.read_bytes().split(b"\n")) - 1
        )
    assert len(runs) == 2 and len({each.sha256 for each in recorded.values()}) == 3


def test_without_all_responses_there_is_no_hash(record, cache):
    (keys,) = results.responses("trial").values()
    cache.drop(keys[0])
    text = Elements(report.html("trial")).text
    assert (
        f"{len(keys)} responses, of which the cache holds {len(keys) - 1}: there is no hash" in text
        and "SHA-256 of their" not in text
    )
    (folder("trial") / "responses" / "liar-sums-full-seed0-simulated.txt").unlink()
    assert "Which responses this rests on was not kept." in Elements(report.html("trial")).text


@pytest.mark.parametrize("name", ["<b>&'\"{{ 7*7 }}", "ein Lauf"])
def test_a_text_from_elsewhere_is_shown_and_never_obeyed(task, cache, name):
    nodes = [replace(node, instruction=node.instruction + EVIL) for node in task.graph.nodes]
    hostile = replace(
        task,
        name="a/" + NAME,
        graph=replace(task.graph, nodes=(Node(nodes[0].name, EVIL), *nodes[1:])),
        train=[replace(each, id=NAME + each.id) for each in task.train],
    )
    record_of(name, hostile, NAME, cache=cache, group=NAME)
    notebook(name, "<i>x", f"print({EVIL!r})", EVIL, parameters={EVIL: EVIL})
    notebook(name, EVIL.split("/")[0] + ".failed", EVIL, EVIL)
    page = Elements(report.html(name))
    assert not [
        tag
        for tag, attrs in page.found
        if tag == "script" or "onerror" in attrs or tag == "img" and "x.example" in attrs["src"]
    ]
    assert EVIL in page.text and NAME in page.text and name in page.text


def test_simulated_numbers_are_labelled_and_real_ones_are_not(record):
    assert "These numbers are simulated." in report.html("trial")
    path = next((folder("trial") / "results").glob("*.json"))
    real = changed(record, model="gpt-x", coach="gpt-x", simulated=False)
    path.with_name("real.json").write_text(json.dumps(real))
    assert "Some of these numbers are simulated." in report.html("trial")
    path.unlink()
    html = report.html("trial")
    assert "simulated.</strong>" not in html and 'class="badge"' not in html and "gpt-x" in html


def test_a_contaminated_test_is_said_at_the_top_in_the_tables_and_in_the_figures_data(record):
    assert "A test is contaminated." not in Elements(report.html("trial")).text
    path = next((folder("trial") / "results").glob("*.json"))
    path.write_text(json.dumps(changed(record, overlap=True)))
    text = Elements(report.html("trial")).text
    assert text.index("A test is contaminated.") < text.index("Contents")
    assert (
        "Model simulated; sample data; contaminated test" in text
        and "simulated,simulated,sample,contaminated test,full" in text
    )
    assert "1 run, " in text and "1 runs" not in text


def test_a_notebook_that_failed_stands_at_the_top(record):
    notebook("trial", "bbh_snarks-full-seed0-simulated.failed", "1 / 0", "ZeroDivisionError")
    notebook("trial", "under_way.running")
    notebook("trial", "06_figures")
    text = Elements(report.html("trial")).text
    assert (
        text.index("The notebook bbh_snarks-full-seed0-simulated failed.") < text.index("Contents")
        and "under_way" not in text
    )
    assert "06_figures" not in text  # its figures are this page's


def test_a_batch_without_results_is_one_clear_error():
    with pytest.raises(DataError, match="semback run --name nothing"):
        report.write("nothing")
    assert not folder("nothing").exists()
