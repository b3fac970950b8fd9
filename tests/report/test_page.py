"""The report of a batch: complete, the same every time, safe, and with hashes one can check."""

import base64
import hashlib
import json
import os
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from test_results import changed, record_of

from semback import DataError, Node, Run, comparisons, figures, results
from semback.paths import write_text
from semback.report import claims
from semback.report import page as report
from semback.report.results import folder
from semback.report.show import CLICK
from semback.report.summary import Summary

EVIL = "<script>alert(1)</script>\"><img src=https://x.example/a onerror='alert(1)'>{{ 7*7 }}"
NAME = """"'><script>1</script>"""
RUN = "liar-sums-full-seed0-simulated"
SIMULATED = "These numbers are simulated."


class Elements(HTMLParser):
    """The elements of a page as (tag, attributes), and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def text_of(name):
    return Elements(report.html(name)).text


def notebook(name, stem, text=""):
    """Put an executed notebook beside the results of a batch."""
    write_text(folder(name) / "notebooks" / f"{stem}.ipynb", text)


def only_record(name="trial"):
    (path,) = (folder(name) / "results").glob("*.json")
    return path


@pytest.fixture
def record(task, cache):
    """The record of a small run in the batch "trial"; its replies are in the cache."""
    return record_of("trial", task, "liar", cache=cache)


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of the time."""
    monkeypatch.setattr("semback.report.figures.drawn", lambda name: iter(()))


@pytest.mark.slow
def test_a_report_holds_results_figures_settings_gradients_and_versions(record):
    notebook("trial", RUN)
    page = Elements(report.html("trial"))
    row = results.table([record]).iloc[0]
    before, after, low, high = (
        f"{100 * row[name]:.1f}" for name in ("before", "after", "low", "high")
    )
    assert f"{before} %{after} %{low} %{high} %" in page.text
    assert f"{before} % → {after} % [{low}, {high}]" in page.text
    assert comparisons.table([record])["words"].iloc[0] in page.text
    sources = [attrs for tag, attrs in page.found if tag == "img"]
    figures = [each for each in sources if each["src"].startswith("data:image/png;base64,iVBOR")]
    assert len(figures) >= 2 and all(each["alt"] for each in figures)
    assert "Intervals are 95 %: Wilson over questions" in page.text
    assert "draw_between" in page.text and "training questions" in page.text
    links = [attrs["href"] for tag, attrs in page.found if tag == "a"]
    assert links.count(f"notebooks/{RUN}.ipynb") == 2, "at the run, and in the list"
    for library in ("Python", "semback", "pandas"):
        assert re.search(rf"{library}\s*\d+\.\d+", page.text)


def test_a_report_names_the_commit(no_figures, record):
    assert not Elements(report.html("trial")).text.count("-dirty")
    git = [
        "git",
        "-C",
        str(folder("trial").parent.parent),
        "-c",
        "user.name=N",
        "-c",
        "user.email=E",
    ]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=M"], check=True)
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    assert f"commit{done.stdout.strip()}" in Elements(report.html("trial")).text


def test_a_report_shows_objects_as_a_notebook_does(no_figures, record):
    html, run = report.html("trial"), Run.load(folder("trial") / "history" / f"{RUN}.json")
    shown = [run, run.diff(), *run.steps[1:], Summary([record])]
    assert len(shown) > 4 and all(thing._repr_html_() in html for thing in shown)
    assert repr(Summary([record])).startswith("Runs: 1; groups of BBH")


def test_a_report_shows_every_test_question_and_opens_into_its_traces(no_figures, record, task):
    page = Elements(report.html("trial"))
    filters = [attrs["value"] for tag, attrs in page.found if tag == "input"]
    assert filters == ["all", "got-better", "got-worse", "still-wrong", "still-right", "unreadable"]
    assert len({attrs["name"] for tag, attrs in page.found if tag == "input"}) == 1
    rows = [attrs["class"] for tag, attrs in page.found if attrs.get("class", "").startswith("q ")]
    assert len(rows) == 1 + len(task.test) and set(rows[1:]) <= {f"q {each}" for each in filters}
    for each in task.test:
        assert f"{each.question}{each.answer}" in page.text
        assert f"{each.id}{each.question}" in page.text
    after = results.questions("trial", record).after
    assert all(after.traces[row.id].answer == row.reply for row in after.rows)
    assert after.rows[0].reply in page.text and after.traces[after.rows[0].id].graph != task.graph


@pytest.mark.parametrize("lost", ["questions.json", "json"])
def test_without_saved_texts_the_questions_have_ids_and_answers(no_figures, record, lost):
    (folder("trial") / f"history/{RUN}.{lost}").unlink()
    questions, text = results.questions("trial", record), text_of("trial")
    assert questions.after.traces == {} and "was given" not in text
    assert [[row.id, row.answer, row.correct] for row in questions.after.rows] == (
        record["test"]["after"]["answers"]
    )
    assert f"all {len(questions.rows)}" in text


def test_a_large_report_stays_light(no_figures, record, monkeypatch):
    path = folder("trial") / f"history/{RUN}.questions.json"
    values = {name: f"{name} " * 100 for name in record["instructions"]}
    text = {"question": "What is it? " * 40, "answer": "1", "before": values, "after": values}
    path.write_text(json.dumps({f"q/{number}": text for number in range(6000)}))
    answers = [[f"q/{number}", "1", True] for number in range(6000)]
    scores = {"questions": 6000, "correct": 6000, "unreadable": 0, "answers": answers}
    only_record().write_text(json.dumps(record | {"test": {"before": scores, "after": scores}}))
    html = report.html("trial")
    assert html.count('class="q still-right"') == 6000 and len(html.encode()) < 5_000_000
    assert html.count("<caption>before</caption>") == report.TRACES // 5
    assert f"The first {report.TRACES // 5} of each outcome open" in Elements(html).text


def test_every_result_has_a_sentence_and_real_models_come_first(no_figures, record):
    row = results.table([record]).iloc[0]
    before, after = (100 * row[name] for name in ("before", "after"))
    (sentence,) = report.sentences([record])
    assert sentence.startswith(
        f"LIAR sums: semantic gradient descent {before:.1f} → {after:.1f} % [{100 * row['low']:.1f}"
    )
    assert f"], {after - before:+.1f} points, p = " in sentence and sentence.endswith(", simulated")
    real = changed(record, model="z-real", coach="z-real", simulated=False)
    only_record().with_name("real.json").write_text(json.dumps(real))
    text = text_of("trial")
    first = sentence.replace(", simulated", " (z-real)")
    assert text.index(first) < text.index(sentence)
    for part in ("model {}, sample data", "semantic gradient descent, seed 0, {}"):
        assert text.index(part.format("z-real")) < text.index(part.format("simulated"))


def test_a_report_says_when_its_replies_were_recorded_and_in_how_many_hours(
    no_figures, record, cache, monkeypatch
):
    assert "replies recorded" not in text_of("trial")
    entries = list(cache.entries())
    monkeypatch.setattr(cache, "mode", "refresh")
    for (key, entry), time in zip(entries, ("24T02:56", "22T23:56", "23T00:02", "23T00:14")):
        source = {"host": "example.org", "time": f"2026-11-{time}:00Z"}
        cache.add(key, entry | {"source": source})
    assert "; replies recorded 2026-11-22 to 2026-11-24 in 0.1 hours." in text_of("trial")
    head = (
        f"{len(entries)} replies that were recorded in 0.1 hours\n(pauses of more than 10 minutes"
    )
    assert head in claims.markdown("trial")


@pytest.mark.slow
def test_the_same_files_give_the_same_bytes(record):
    notebook("trial", "first")
    one = report.write("trial").read_bytes()
    notebook("trial", "first", "executed at another time")
    assert report.write("trial").read_bytes() == one


@pytest.mark.slow
def test_a_report_loads_nothing(record):
    notebook("trial", "01_first")
    html = report.html("trial")
    page = Elements(html)
    forbidden = {"script", "link", "iframe", "object", "embed", "audio", "video", "form"}
    assert not forbidden & {tag for tag, _ in page.found}
    for tag, attrs in page.found:
        assert "srcset" not in attrs and attrs.get("src", "data:").startswith("data:"), (tag, attrs)
    assert "url(http" not in html and "@import" not in html


def test_no_script_runs_in_a_report_but_the_click_on_a_graph(no_figures, record):
    notebook("trial", "01_first")
    page = Elements(report.html("trial"))
    (policy,) = [attrs["content"] for _, attrs in page.found if "http-equiv" in attrs]
    click = base64.b64encode(hashlib.sha256(CLICK.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src-attr 'unsafe-hashes' 'sha256-{click}'"
    )
    handlers = {
        value for _, attrs in page.found for key, value in attrs.items() if key.startswith("on")
    }
    assert handlers == {CLICK}


def test_the_hash_is_that_of_the_recording_which_export_writes(
    no_figures, record, task, cache, own_home
):
    record_of("trial", replace(task, name="others"), "bbh", cache=cache, seed=1)
    runs, text = results.responses("trial"), text_of("trial")
    keys = {key for keys in runs.values() for key in keys}
    cache.export(own_home / "some.jsonl", keys)
    exported = (own_home / "some.jsonl").read_bytes()
    assert len(runs) == 2 and exported.count(b"\n") == len(keys)
    sha256 = hashlib.sha256(exported).hexdigest()
    assert f"{len(keys)} recorded replies; SHA-256 of their recording: {sha256}" in text
    for some in runs.values():
        assert f"{len(some)} recorded replies" in text


def test_without_all_replies_there_is_no_hash(no_figures, record, cache):
    (keys,) = results.responses("trial").values()
    cache.drop(keys[0])
    text = text_of("trial")
    left = f"{len(keys)} recorded replies, of which the cache holds {len(keys) - 1}: "
    assert left + "without all of them there is no hash" in text
    assert "SHA-256 of their" not in text
    (folder("trial") / "responses" / f"{RUN}.txt").unlink()
    assert "It is not known which recorded replies this rests on." in text_of("trial")


@pytest.mark.slow
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
    stems = ["<i>x", EVIL.split("/")[0] + ".failed"]
    for stem in stems:
        notebook(name, stem)
    page = Elements(report.html(name))
    for tag, attrs in page.found:
        assert tag != "script" and "onerror" not in attrs
        assert tag != "img" or "x.example" not in attrs["src"]
    links = {unquote(attrs["href"]) for tag, attrs in page.found if tag == "a"}
    assert {f"notebooks/{stem}.ipynb" for stem in stems} <= links
    assert EVIL in page.text and NAME in page.text and name in page.text


def test_simulated_numbers_are_labelled_and_real_ones_are_not(no_figures, record):
    assert SIMULATED in text_of("trial") and "claims of the paper" not in text_of("trial")
    path = only_record()
    real = changed(record, model="gpt-x", coach="gpt-x", simulated=False)
    path.with_name("real.json").write_text(json.dumps(real))
    text = text_of("trial")
    assert "Some of these numbers are simulated." in text
    assert "It improves an agentic system for GSM8K.cannot be told: not run with a real" in text
    path.unlink()
    text = text_of("trial")
    assert "numbers are simulated." not in text and "gpt-x" in text


@pytest.mark.slow
def test_a_contaminated_test_is_named_at_the_top_and_in_the_tables(record):
    assert "A test is contaminated." not in text_of("trial")
    only_record().write_text(json.dumps(changed(record, overlap=True)))
    text = text_of("trial")
    assert text.index("A test is contaminated.") < text.index("Results")
    assert "model simulated, sample data, contaminated test" in text
    assert "simulated,simulated,sample,contaminated test" in text, "in the figures' data"


def test_a_notebook_that_failed_is_named_at_the_top(no_figures, record):
    notebook("trial", "bbh_snarks-full-seed0-simulated.failed")
    text = text_of("trial")
    failed = text.index("The notebook bbh_snarks-full-seed0-simulated failed.")
    assert failed < text.index("Results")


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "no utf-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "text": lambda path: path.write_text("\x1b]52;no"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "list": lambda path: path.write_text("[]"),
    "object": lambda path: path.write_text('{"version": 4}'),
    "folder": as_folder,
    "pipe": as_pipe,
}
FILES = [f"results/{RUN}.json", f"history/{RUN}.json", f"responses/{RUN}.txt"]
FILES += [f"history/{RUN}.questions.json"]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_of_a_batch_is_one_error_that_names_it(no_figures, record, file):
    path = folder("trial") / file
    whole = path.read_bytes()
    for kind, damage in DAMAGE.items():
        damage(path)
        with pytest.raises(DataError, match=re.escape(f"{path} ")) as error:
            report.write("trial")
        assert Path(error.value.file) == path and "\n" not in str(error.value), kind
        assert not (folder("trial") / "index.html").exists()
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(whole)
    assert report.write("trial").is_file()


def test_figures_name_the_damaged_file_of_a_run(record):
    path = folder("trial") / f"history/{RUN}.json"
    as_folder(path)
    with pytest.raises(DataError, match=re.escape(f"{path} ")) as error:
        figures.gradients("trial")
    assert Path(error.value.file) == path


def test_what_cannot_be_written_is_one_error_that_names_it(no_figures, record, monkeypatch):
    (folder("trial") / "index.html").mkdir()
    with pytest.raises(DataError, match="index.html cannot be written"):
        report.write("trial")
    (folder("trial") / "figures").write_text("")
    monkeypatch.setattr(figures, "drawn", lambda name: [("costs", None)])
    with pytest.raises(DataError, match="figures cannot be written"):
        figures.all_figures("trial")


def test_half_a_surrogate_pair_in_a_reply_is_shown_as_a_question_mark(no_figures, record):
    path = folder("trial") / "history" / f"{RUN}.json"
    data = json.loads(path.read_text())
    data["stopped"] = "before \ud83d after"
    path.write_text(json.dumps(data))
    assert "before ? after" in report.write("trial").read_text(encoding="utf-8")


def test_a_batch_without_results_is_one_clear_error():
    with pytest.raises(DataError, match="semback run --name nothing"):
        report.write("nothing")
    assert not folder("nothing").exists()
