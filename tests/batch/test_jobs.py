"""Jobs: the grid of a batch, and what cannot run. tests/notebooks has a notebook of each kind."""

import inspect
import math
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from semback import LLM, models, results
from semback.batch import jobs
from semback.batch.jobs import Job
from semback.errors import ParameterError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def experiments(own_home):
    """The notebooks of a grid. Those of the experiments are the same, with all parameters."""
    (own_home / "notebooks").mkdir()
    for name in ("01_semantic_gradients", "02_bbh", "03_gsm8k", "04_liar_ablation", "05_cost"):
        shutil.copy(NOTEBOOKS / "04_liar_ablation.ipynb", own_home / "notebooks" / f"{name}.ipynb")
    shutil.copy(NOTEBOOKS / "06_figures.ipynb", own_home / "notebooks")


def test_the_demo_is_the_studies_then_all_experiments_then_the_figures(experiments):
    ids = [job.id for job in jobs.grid()]
    assert ids[:2] == ["01_semantic_gradients", "05_cost"] and ids[-1] == "06_figures"
    assert len(ids) == len(set(ids)) == 2 + 3 + 3 * (6 + 4) + 10 + 1
    for known in (
        ("gsm8k", "gsm8k", "no_gradient"),
        ("bbh", "bbh/object_counting", "full"),
        ("liar", "liar", "only_Job title"),
    ):
        assert results.run_id(*known, 0, "simulated", "simulated") in ids


def test_the_full_data_is_every_file_once_and_the_ten_ablations(experiments):
    found = jobs.grid(data="full", name="full")
    assert [sum(job.experiment == name for job in found) for name in ("bbh", "gsm8k", "liar")] == [
        27,
        1,
        10,
    ]
    assert len(found) == 39 and found[-1].id == "06_figures"


def test_a_grid_is_a_product_of_what_is_chosen(experiments):
    found = jobs.grid(
        ["liar"],
        variants=["full", "no_gate"],
        seeds=[0, 1, 2],
        models=[("a", "c"), ("b", "c")],
        name="mine",
    )
    assert len({job.id for job in found}) == 12
    assert found[0].parameters == {
        "name": "mine",
        "data": "sample",
        "variant": "full",
        "seed": 0,
        "model": "a",
        "coach": "c",
    }


def test_a_text_is_read_as_the_type_of_the_default(experiments):
    (job,) = jobs.grid(
        ["gsm8k"],
        variants=["full"],
        extra={"steps": "2", "model_params": '{"temperature": null}', "coach": "007"},
    )
    assert [job.parameters[name] for name in ("steps", "model_params", "coach")] == [
        2,
        {"temperature": None},
        "007",
    ]


def test_a_job_has_the_id_of_its_record(experiments, own_home):
    parameters = {
        "category": "snarks",
        "variant": "only_hint_1",
        "seed": 3,
        "model": "m/1:x",
        "coach": "c",
    }
    job = Job(own_home / "notebooks/02_bbh.ipynb", parameters)
    assert job.id == results.run_id("bbh", "bbh/snarks", "only_hint_1", 3, "m/1:x", "c")


@pytest.mark.parametrize(
    "chosen, message",
    [
        ({"experiments": ["nope"]}, "nope"),
        ({"experiments": ["gsm8k"], "categories": ["snarks"]}, "only bbh"),
        ({"data": "fool"}, "fool"),
    ],
)
def test_a_grid_of_what_does_not_exist_is_refused(chosen, message, experiments):
    with pytest.raises(ParameterError, match=message):
        jobs.grid(**chosen)


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        (
            "greets",
            {"greting": "x"},
            "greets.ipynb: parameter='greting' does not exist; did you mean greeting?",
        ),
        ("greets", {"times": "2"}, "greets.ipynb: times is '2'; it takes a value such as 1"),
        ("greets", {"times": True}, "times is True"),
        ("greets", {"times": 1.5}, "times is 1.5"),
        ("greets", {"loud": 1}, "loud is 1"),
        ("greets", {"greeting": None}, "greeting is None"),
        ("greets", {"more": []}, "more is []"),
        ("greets", {"more": {"top_p": math.nan}}, "more is {'top_p': nan}; it takes JSON"),
        (
            "greets",
            {"share": math.inf},
            "share is inf; it takes JSON (no NaN",
        ),
        ("greets", {"anything": Path()}, "anything is PosixPath('.'); it takes JSON"),
        ("greets", {"x = __import__('os').abort()\n": 1}, 'parameter="x = __import__'),
        ("plain", {"x": 1}, "plain.ipynb: no cell is tagged 'parameters'"),
        (
            "04_liar_ablation",
            {"name": "test", "variant": "no_gradients"},
            "04_liar_ablation.ipynb: there is no variant 'no_gradients'; there",
        ),
        ("04_liar_ablation", {"name": "test", "data": "ful"}, "04_liar_ablation.ipynb: data='ful'"),
        ("04_liar_ablation", {"name": "test", "train": 10**5}, "train is 100000"),
        ("04_liar_ablation", {"name": "other"}, "name is 'other'"),
        ("04_liar_ablation", {"steps": -1}, "steps is -1; it takes a whole number from 0"),
        ("04_liar_ablation", {"train": 0}, "train is 0"),
        ("04_liar_ablation", {"seed": -1}, "seed is -1"),
        ("04_liar_ablation", {"dollars": -1}, "dollars is -1"),
        (
            "04_liar_ablation",
            {"test": 10**5},
            "04_liar_ablation.ipynb: task 'liar': only is 100000",
        ),
        ("04_liar_ablation", {"in_flight": -5}, "in_flight is -5; it takes a number above 0"),
        (
            "04_liar_ablation",
            {"in_flight": 1.5},
            "in_flight is of type float; it takes a whole",
        ),
        (
            "04_liar_ablation",
            {"requests_per_minute": "9"},
            "requests_per_minute is of type str; it",
        ),
        ("04_liar_ablation", {"retries": -1}, "retries is -1"),
        ("04_liar_ablation", {"timeout": 0}, "timeout is 0"),
        ("04_liar_ablation", {"system": "assistant"}, "system='assistant'"),
        ("04_liar_ablation", {"coach_params": {"n": 2}}, "params cannot contain {'n'}"),
        ("04_liar_ablation", {"base_url": ""}, "base_url takes an address such as 'http://"),
        ("04_liar_ablation", {"base_url": "localhost:8000/v1"}, "base_url takes an address"),
        ("04_liar_ablation", {"base_url": 8000}, "base_url takes an address"),
        ("04_liar_ablation", {"coach_url": "http://me:secret@x/v1"}, "coach_url takes an address"),
        ("04_liar_ablation", {"coach_url": "http://x/v1?key=secret"}, "coach_url takes an address"),
    ],
)
def test_what_cannot_run_is_refused(name, parameters, message):
    with pytest.raises(ParameterError, match=re.escape(message)) as error:
        jobs.check([Job(NOTEBOOKS / f"{name}.ipynb", parameters)], "test")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a\\b", "a\0b", "x" * 201, None, 5])
def test_what_is_no_name_of_a_folder_is_no_name_of_a_batch(name):
    with pytest.raises(ParameterError, match=re.escape(f"a batch cannot be called {name!r}")):
        jobs.check([], name)


def test_a_whole_number_is_a_float_and_a_default_of_none_takes_anything():
    jobs.check([Job(NOTEBOOKS / "greets.ipynb", {"share": 1, "anything": [1]})], "test")


def test_a_notebook_without_metadata_has_its_parameters(tmp_path):
    book = nbformat.read(NOTEBOOKS / "greets.ipynb", as_version=4)
    book.metadata.clear()  # as tools that strip notebooks leave it
    nbformat.write(book, tmp_path / "greets.ipynb")
    bare, whole = Job(tmp_path / "greets.ipynb", {}), Job(NOTEBOOKS / "greets.ipynb", {})
    assert bare.defaults == whole.defaults and len(bare.defaults) == 6


@pytest.mark.parametrize("stem", jobs.EXPERIMENTS.values())
def test_an_experiment_s_notebook_has_the_parameters_of_its_models_with_their_defaults(stem):
    defaults = Job(NOTEBOOKS.parents[1] / "notebooks" / f"{stem}.ipynb", {}).defaults
    of_llm = inspect.signature(LLM).parameters
    for name, parameter in inspect.signature(models).parameters.items():
        assert name in defaults or name in ("task", "cache", "budget")
        if name in of_llm and parameter.default is not parameter.empty and name in defaults:
            assert defaults[name] == parameter.default
            assert parameter.default in (None, of_llm[name].default)


@pytest.mark.parametrize("name", ["broken", "absent"])
def test_a_notebook_that_cannot_be_read_is_named(name):
    with pytest.raises(ParameterError, match=rf"{name}.ipynb \(see SEMBACK_HOME\): "):
        jobs.check([Job(NOTEBOOKS / f"{name}.ipynb", {})], "test")


def test_two_jobs_that_would_overwrite_each_other_are_refused():
    twice = [Job(NOTEBOOKS / "greets.ipynb", {"times": times}) for times in (1, 2)]
    with pytest.raises(ParameterError, match="two jobs would be called greets"):
        jobs.check(twice, "test")


def test_without_a_coach_the_model_is_its_own(task):
    both = models("some-model", None, task)
    assert [each.model for each in both] == ["some-model"] * 2
    job = Job(NOTEBOOKS / "04_liar_ablation.ipynb", {"model": "some-model", "coach": None})
    assert job.settings["coach"] == "some-model"


@pytest.mark.parametrize("name", ["simulatd", "Simulated", "simluated-2"])
def test_a_name_that_is_almost_simulated_is_asked_about(task, name):
    with pytest.raises(ParameterError, match="did you mean 'simulated'"):
        models(name, None, task)
