"""Figures: each shows what its data says, the same every time, and what is simulated is tagged."""

import asyncio
import itertools
import os
import subprocess
import sys
from dataclasses import replace

import pandas
import pytest
from test_results import changed, record_of

from semback import (
    LLM,
    DataError,
    Graph,
    Language,
    Node,
    ParameterError,
    Run,
    Scores,
    descend,
    figures,
    results,
)
from semback.report.figures import NothingToDraw
from semback.run import Score, Step, wilson

ENDINGS = (".png", ".pdf", ".csv", ".tex", ".runs.txt")
DRAWN = ["learning_curves", "methods", "bbh_files", "liar_ablation", "costs"]


@pytest.fixture
def batch(task):
    """Records of all three experiments, made of one small run."""
    record = record_of("seed", task)
    variants = [
        "full",
        "no_gradient",
        "no_neighbourhood",
        "no_gate",
        *(f"only_{node.name}" for node in task.graph.nodes),
    ]
    bbh = [
        changed(
            record, correct, 12, experiment="bbh", task=f"bbh/{name}", group=group, variant=variant
        )
        for variant, correct in (("full", 9), ("no_gradient", 5))
        for name, group in (
            ("snarks", "nlp"),
            ("navigate", "algorithmic"),
            ("word_sorting", "algorithmic"),
        )
    ]
    gsm8k = [
        changed(record, 6 + seed, 12, experiment="gsm8k", task="gsm8k", seed=seed)
        for seed in range(2)
    ]
    liar = [
        changed(record, i + 4, 12, experiment="liar", task="liar", variant=variant)
        for i, variant in enumerate(variants)
    ]
    return [*bbh, *gsm8k, *liar]


def texts(plot) -> list[str]:
    return [text.get_text() for ax in plot.figure.axes for text in ax.texts]


def titled(*results) -> list[str]:
    return [f"{name}, n\xa0=\xa0{questions}" for name, questions in results]


def real(records):
    return [changed(record, model="gpt-x", coach="gpt-x", simulated=False) for record in records]


@pytest.mark.parametrize("name", DRAWN)
def test_every_simulated_panel_and_no_other_is_tagged(batch, name):
    axes = getattr(figures, name)([*real(batch), *batch]).figure.axes
    tagged = [ax for ax in axes if "simulated" in [text.get_text() for text in ax.texts]]
    assert len(tagged) == len(axes) / 2
    assert not any("gpt-x" in ax.get_title() for ax in tagged)


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_the_same_results_give_the_same_bytes(batch, name, tmp_path):
    draw = getattr(figures, name)
    one, two = (
        figures.save(draw(batch), tmp_path / "one" / name),
        figures.save(draw(batch[::-1]), tmp_path / "two" / name),
    )
    assert [path.name for path in one] == [f"{name}{ending}" for ending in ENDINGS]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.parametrize("name", DRAWN)
def test_no_fitting_results_are_one_clear_error(batch, name):
    with pytest.raises(DataError, match="there are no results"):
        getattr(figures, name)([])
    with pytest.raises(ParameterError, match=r"type str; it takes a record; sb.results.load"):
        getattr(figures, name)("mine")


def test_a_batch_without_results_is_one_clear_error():
    with pytest.raises(DataError, match="there are no results in"):
        figures.all_figures("nothing")


def test_all_figures_draws_what_there_are_results_for(task):
    record_of("batch", task)
    paths = figures.all_figures("batch")
    assert [path.name for path in paths] == [
        f"{name}{ending}"
        for name in ("learning_curves", "costs", "gradients")
        for ending in ENDINGS
    ]
    assert all(
        path.parent == results.folder("batch") / "figures" and path.stat().st_size for path in paths
    )
    for path in paths[4::5]:
        (run,) = path.read_text().split()
        assert (results.folder("batch") / "responses" / f"{run}.txt").read_text()


def test_a_figure_names_the_runs_that_it_rests_on(batch, task):
    assert figures.bbh_files(batch).runs == tuple(
        f"bbh_{name}-full-seed0-simulated" for name in ("navigate", "snarks", "word_sorting")
    )
    assert figures.learning_curves(batch).runs == (
        *figures.bbh_files(batch).runs,
        *(f"gsm8k-full-seed{seed}-simulated" for seed in (0, 1)),
        "liar-full-seed0-simulated",
    )
    some = [
        record
        for record in batch
        if (record["task"], record["variant"]) != ("bbh/word_sorting", "no_gradient")
    ]
    assert not any("word_sorting" in run for run in figures.methods(some).runs), (
        "it is in no point of the figure"
    )


def test_the_csv_holds_what_is_plotted(batch, tmp_path):
    plot = figures.liar_ablation(batch)
    csv = pandas.read_csv(figures.save(plot, tmp_path / "liar")[2])
    ax = plot.figure.axes[0]
    (reference,) = (line for line in ax.lines if line.get_linestyle() == "--")
    points = ax.containers[0]
    start = csv[csv["variant"] == "start"].iloc[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    csv = csv[csv["variant"] != "start"]
    low_high = [[*segment[:, 0]] for segment in points[2][0].get_segments()]
    assert reference.get_xdata()[0] == start["accuracy"]
    assert list(points[0].get_xdata()) == list(csv["accuracy"])
    assert low_high == [pytest.approx(pair) for pair in zip(csv["low"], csv["high"])]
    assert [names[int(place)] for place in points[0].get_ydata()] == list(csv["method"])


def test_liar_is_sorted_by_accuracy(batch):
    data = figures.liar_ablation(batch).data
    assert list(data["accuracy"]) == sorted(data["accuracy"], reverse=True)
    assert set(data["variant"]) >= {"start", "full", "no_gate", "only_answer"}


def test_methods_shows_reported_numbers_beside_real_models_on_the_full_data_only(batch):
    on_full = [changed(record, data="full") for record in real(batch)]
    plot = figures.methods([*real(batch), *on_full])
    reported = plot.data[plot.data["source"].str.startswith("reported")]
    assert sorted(reported["accuracy"]) == [0.487, 0.669, 0.782, 0.825, 0.856, 0.932]
    assert reported["low"].isna().all() and set(reported["data"]) == {"full"}
    unverified = reported[reported["source"] == "reported, not verified"]
    assert sorted(unverified["accuracy"]) == [0.487, 0.669]
    assert set(unverified["variant"]) == {"textgrad"}
    assert "Open markers are accuracies that the paper reports" in plot.caption
    drawn = {ax.get_title(): ax.get_legend_handles_labels()[1] for ax in plot.figure.axes}
    with_reported = [
        title for title, labels in drawn.items() if any("reported" in each for each in labels)
    ]
    assert with_reported == [
        f"{result}\ngpt-x, full data"
        for result in titled(("BBH NLP", 12), ("BBH algorithmic", 24), ("GSM8K", 12))
    ]
    assert "reported" not in figures.methods([*batch, *on_full]).data.to_csv()


def test_methods_says_what_is_simulated_and_draws_what_was_run(batch):
    data = figures.methods(batch).data
    assert set(data["source"]) == {"simulated"}
    assert set(figures.methods(real(batch)).data["source"]) == {"real model"}
    groups = ("BBH NLP", "BBH algorithmic")
    assert set(zip(data["result"], data["variant"])) == {
        ("GSM8K", "start"),
        ("GSM8K", "full"),
        *((group, variant) for group in groups for variant in ("start", "full", "no_gradient")),
    }


def test_methods_shows_what_is_reported_only_beside_what_was_run(batch):
    some = [record for record in batch if record["group"] == "algorithmic"]
    plot = figures.methods([changed(record, data="full") for record in real(some)])
    assert set(plot.data["result"]) == {"BBH algorithmic"}
    (ax,) = plot.figure.axes
    assert [ax.get_title()] == titled(("BBH algorithmic", 24))


def test_a_start_graph_on_several_seeds_is_the_mean_of_them(batch):
    seeds = [changed(batch[0], 6, 12, seed=seed) for seed in range(2)]
    seeds[1]["test"]["before"] = {
        **seeds[1]["test"]["before"],
        "correct": 0,
        "answers": [
            [f"other/{id}", None, False] for id, *_ in seeds[1]["test"]["before"]["answers"]
        ],
    }
    start = figures.methods(seeds).data.iloc[0]
    assert start["variant"] == "start" and start["accuracy"] == pytest.approx(
        seeds[0]["test"]["before"]["correct"] / 12 / 2
    )
    assert start["interval"] == "t over 2 seeds"


def test_a_contaminated_test_has_a_panel_of_its_own(batch):
    plot = figures.methods([*batch, *(changed(record, overlap=True) for record in batch)])
    assert set(plot.data["settings"]) == {"", "contaminated test"}
    titles = [ax.get_title() for ax in plot.figure.axes]
    assert {title.replace("\n", " ") for title in titles} == {
        f"{result} simulated, sample data{more}"
        for result in titled(("BBH NLP", 12), ("BBH algorithmic", 24), ("GSM8K", 12))
        for more in ("", ", contaminated test")
    }


def test_methods_are_compared_on_the_files_that_all_of_them_ran(batch):
    some = [
        record
        for record in batch
        if (record["task"], record["variant"]) != ("bbh/word_sorting", "no_gradient")
    ]
    data = figures.methods(some).data
    assert set(data[data["result"] == "BBH algorithmic"]["files"].dropna()) == {1}


def test_methods_that_share_no_file_are_not_compared(batch):
    wanted = (("bbh/navigate", "full"), ("bbh/word_sorting", "no_gradient"))
    apart = [record for record in batch if (record["task"], record["variant"]) in wanted]
    with pytest.raises(DataError, match="no results of all variants on the same files"):
        figures.methods(apart)


def test_captions_say_what_is_drawn_from_what_and_with_which_intervals(batch):
    caption = figures.bbh_files(batch).caption
    assert caption.startswith("Test accuracy before training (square) and after it (circle, ")
    end = "Intervals are 95 %: Wilson over questions. Model: simulated, sample data."
    assert caption.endswith(f"{end} The results are simulated.")
    assert " or " not in end and "t over 2 seeds" in figures.methods(batch).caption
    mixed = figures.methods([*batch, *real(batch)]).caption
    assert (
        mixed.endswith("The results in panels with the tag are simulated.") and "gpt-x" not in mixed
    )
    assert "simulated" not in figures.methods(real(batch)).caption


def test_a_paper_sets_width_font_and_title_of_its_figures(batch):
    with figures.paper(3.25, "STIXGeneral", "Ours"):
        plot = figures.liar_ablation(batch)
    assert plot.figure.get_figwidth() == 3.25 and plot.figure.get_suptitle() == "Ours"
    family = plot.figure.axes[0].get_yticklabels()[0].get_fontfamily()
    assert family == ["STIXGeneral", "DejaVu Sans"]
    after = figures.liar_ablation(batch).figure
    assert (after.get_figwidth(), after.get_suptitle()) == (figures.COLUMN, "")
    with pytest.raises(ValueError, match="No Such Font"), figures.paper(font="No Such Font"):
        pass


@pytest.mark.parametrize("width", [3.25, 5.5])
def test_nothing_in_a_figure_of_a_paper_overlaps_its_labels(batch, width):
    with figures.paper(width):
        figure = figures.costs(batch).figure
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    boxes += [figure.legends[0].get_window_extent()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_figure_and_a_table_are_written_in_latex(batch, task, tmp_path):
    record_of("one_batch", task)
    named = [changed(record, model="a_b", coach="c&d") for record in batch]
    tex = figures.save(figures.methods(named), tmp_path / "methods")[3].read_text()
    assert tex.startswith("\\begin{figure*}") and r"\includegraphics{methods.pdf}" in tex
    assert r"95 \%: " in tex and r"a\_b, coach c\&d" in tex and r"\label{fig:methods}" in tex
    table = results.latex("one_batch")
    assert table.count(r"\toprule") == 1 and "The results are simulated." in table
    assert "semantic gradient descent & " in table and results.latex("one_batch") == table


def test_bbh_files_pools_each_group_and_draws_each_file(batch):
    data = figures.bbh_files(batch).data
    assert list(dict.fromkeys(data["result"])) == [
        "BBH algorithmic",
        "BBH navigate",
        "BBH word_sorting",
        "BBH snarks",
    ]
    pooled = data[(data["result"] == "BBH algorithmic") & (data["variant"] == "full")].iloc[0]
    assert pooled["accuracy"] == 18 / 24 and (pooled["low"], pooled["high"]) == wilson(18, 24)


def test_every_task_has_a_learning_curve(batch):
    tasks = ["BBH snarks", "BBH navigate", "BBH word_sorting", "GSM8K", "LIAR"]
    questions = batch[0]["train"][0]["questions"]
    titles = [
        ax.get_title().replace("\n", " ") for ax in figures.learning_curves(batch).figure.axes
    ]
    assert titles == titled(*((name, questions) for name in tasks))


def test_models_have_panels_of_their_own(batch):
    plot = figures.methods([*batch, *real(batch)])
    assert {ax.get_title() for ax in plot.figure.axes} == {
        f"{result}\n{model}, sample data"
        for result in titled(("BBH NLP", 12), ("BBH algorithmic", 24), ("GSM8K", 12))
        for model in ("gpt-x", "simulated")
    }


def test_learning_curves_have_an_interval_on_every_number(batch):
    plot = figures.learning_curves(batch)
    liar = plot.data[plot.data["result"] == "LIAR"]
    ax = next(ax for ax in plot.figure.axes if ax.get_title().startswith("LIAR"))
    bars = sorted(
        (*segment[:, 1],)
        for container in ax.containers
        for segment in container[2][0].get_segments()
    )
    assert bars == [
        pytest.approx(pair) for pair in sorted(zip(liar["low"].dropna(), liar["high"].dropna()))
    ]


def test_each_seed_has_its_line_in_the_learning_curve(batch):
    seeds = [changed(batch[0], seed=seed) for seed in range(3)]
    (ax,) = figures.learning_curves(seeds).figure.axes
    assert len([patch for patch in ax.patches if patch.get_label() == "the graph"]) == 3


def test_costs_are_what_training_and_test_asked_for(batch):
    data = figures.costs(batch).data
    record = next(
        record for record in batch if record["experiment"] == "liar" and record["variant"] == "full"
    )

    def tokens(stages):
        return sum(
            row["prompt_tokens"] + row["completion_tokens"]
            for row in record["usage"]
            if row["stage"] in stages
        )

    liar = data[data["result"] == "LIAR"].set_index("variant")["cost"]
    assert liar["start"] == tokens({"test before"}) and liar["full"] == tokens(
        {"train", "test after"}
    )
    assert set(data["unit"]) == {"tokens"} and list(dict.fromkeys(data["result"])) == [
        "BBH NLP",
        "BBH algorithmic",
        "GSM8K",
        "LIAR",
    ]


def test_a_batch_whose_methods_ran_different_files_has_the_figures_of_the_rest(batch):
    apart = [record for record in batch if record["experiment"] != "bbh"]
    apart += [
        changed(batch[0], experiment="bbh", task=f"bbh/{name}", group="nlp", variant=variant)
        for name, variant in (("snarks", "full"), ("ruin_names", "no_gradient"))
    ]
    assert list(dict.fromkeys(figures.costs(apart).data["result"])) == ["GSM8K", "LIAR"]
    with pytest.raises(NothingToDraw, match="no results of all variants on"):
        figures.costs([record for record in apart if record["experiment"] == "bbh"])


def test_one_file_with_several_seeds_has_room_for_its_panel(batch):
    plot = figures.bbh_files(
        [
            changed(batch[0], 5 + seed, 12, experiment="bbh", task="bbh/snarks", seed=seed)
            for seed in range(2)
        ]
    )
    (ax,), figure = plot.figure.axes, plot.figure
    assert ax.get_window_extent().height > 0.2 * figure.dpi
    assert ax.get_tightbbox().y1 <= figure.bbox.y1


def test_costs_are_in_dollars_where_every_price_is_known(batch):
    priced = [
        changed(record, usage=[{**row, "cost": 0.5} for row in record["usage"]])
        for record in real(batch)
    ]
    data = figures.costs(priced).data
    assert (
        set(data["unit"]) == {"dollars"} and data[data["variant"] == "full"]["cost"].min() == 2
    )  # 3 phases of training and one of test
    unknown = [
        changed(record, usage=[{**row, "cost": None} for row in record["usage"]])
        for record in real(batch)
    ]
    assert set(figures.costs(unknown).data["unit"]) == {"tokens"}


def test_a_graph_with_its_gradients_shows_the_first_accepted_step(task):
    llm = LLM.simulated(task)
    run = asyncio.run(descend(task, Language(llm, llm), steps=3))
    number = next(n for n, step in enumerate(run.steps) if step.accepted and n)
    plot, step = figures.backward_pass(run), run.steps[number]
    example = step.examples[0]
    assert set(plot.data["step"]) == {number} and set(plot.data["example"]) == {example}
    assert [*map(list, zip(plot.data["from"], plot.data["to"], plot.data["gradient"]))] == [
        ["score", "answer", step.gradients[example]["answer"]],
        *map(list, step.messages[example]),
    ]
    shown = texts(plot)
    assert {"hint_1", "hint_2", "answer", "score", "simulated"} <= set(shown)
    arrows = [text.arrow_patch for text in plot.figure.axes[0].texts if not text.get_text()]
    styles = [arrow.get_linestyle() for arrow in arrows]
    assert sorted(styles) == ["-"] * 3 + ["--"] * 3  # two hints and the answer, there and back


def test_a_run_without_gradients_has_none_to_draw(task):
    llm = LLM.simulated(task)
    run = asyncio.run(descend(task, Language(llm, llm), steps=0))
    with pytest.raises(NothingToDraw, match="no step of the run on sums has gradients"):
        figures.backward_pass(run)


def test_a_gradient_is_shown_to_a_full_stop(task):
    llm = LLM.simulated(task)
    run = asyncio.run(descend(task, Language(llm, llm), steps=1))
    first = "The hint says, e.g. in its second line, " + "what is known, " * 12 + "twice."
    said = [["answer", "hint_1", f"{first} It should be short."], ["answer", "hint_2", "Stay."]]
    step = replace(run.steps[1], messages={run.steps[1].examples[0]: said})
    shown = " ".join(texts(figures.backward_pass(replace(run, steps=(run.steps[0], step)))))
    assert f"answer: {first} …" in shown and "It should be short." not in shown
    assert "answer: Stay. answer" in shown, "what is whole has no dots"


def test_long_strange_and_missing_gradients_are_drawn_without_a_warning(task):
    nodes = (
        Node("first", "Look."),
        Node("second", "Think.", ("first",)),
        Node("third", "Doubt.", ("first", "second"), trainable=False),
        Node("answer", "Say it.", ("second", "third")),
    )
    graph = Graph(nodes)
    said = {
        "first": "\U0001f642 \u4f60\u597d $x_1$ " * 400,
        "second": "w" * 3000,
        "third": None,
        "answer": "No.",
    }
    messages = [[user, name, said[name]] for name in graph.order for user in graph.successors(name)]
    start = Step(graph, Scores((Score("one", "So.", None, False),)), True)
    step = Step(
        graph.with_instructions({"first": "See."}),
        start.scores,
        False,
        ("one",),
        {"one": said},
        {"one": messages},
    )
    plot = figures.backward_pass(
        Run("strange", "gpt-x", "gpt-y", {"seed": 0}, (start, step), "all steps done")
    )
    plot._repr_png_()
    shown = texts(plot)
    assert "answer: unreadable" in shown and "simulated" not in shown
    assert any(text.endswith(": (nothing)") for text in shown) and len(shown) < 90


def test_a_batch_shows_the_largest_graph_of_the_full_method(task):
    record_of("batch", task, variant="no_gate")
    record_of("batch", task)
    plot = figures.gradients("batch")
    assert plot.runs == ("sums-full-seed0-simulated",)
    for path in (results.folder("batch") / "history").glob("*-full-*"):
        path.unlink()
    assert figures.gradients("batch").runs == ("sums-no_gate-seed0-simulated",)
    for path in (results.folder("batch") / "history").glob("*"):
        path.unlink()
    with pytest.raises(DataError, match="no run of batch has a step"):
        figures.gradients("batch")


def test_a_learning_curve_of_one_run(task):
    llm = LLM.simulated(task)
    run = asyncio.run(descend(task, Language(llm, llm), steps=3))
    plot = figures.learning_curve(run)
    assert list(plot.data["accuracy"]) == pytest.approx(
        list(run.to_frame()["accuracy"].astype(float)), nan_ok=True
    )
    assert texts(plot) == ["simulated"]


def test_a_notebook_shows_the_figure_without_pyplot(batch):
    image, size = figures.liar_ablation(batch)._repr_png_()
    assert image.startswith(b"\x89PNG") and size["width"] > size["height"] / 2


@pytest.mark.slow
@pytest.mark.process
def test_bytes_do_not_depend_on_the_process(task, tmp_path):
    record_of("batch", task)
    code = (
        "import sys; from semback import figures; figures.all_figures('batch'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    written = []
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        written.append(
            [path.read_bytes() for path in sorted((results.folder("batch") / "figures").iterdir())]
        )
    assert written[0] == written[1]
