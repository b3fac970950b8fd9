"""The bundled sample data has right answers and the formats of the real data sets."""

import ast
import json
import operator
import re
from collections import Counter
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "semback" / "tasks" / "sample"
LIAR_LABELS = {"true", "mostly-true", "half-true", "barely-true", "false", "pants-fire"}
OPERATIONS = {
    ast.And: lambda *a: all(a),
    ast.Or: lambda *a: any(a),
    ast.Not: operator.not_,
    ast.USub: operator.neg,
}
OPERATIONS |= {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(node):
    """The value of an expression made of truth values or numbers, and nothing else."""
    if isinstance(node, str):
        return evaluate(ast.parse(node.strip(), mode="eval").body)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, bool) else Fraction(str(node.value))
    operands = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return OPERATIONS[type(node.op)](*map(evaluate, operands))


def bbh(name):
    return json.loads((SAMPLE / "bbh" / f"{name}.json").read_text("utf-8"))["examples"]


def rows(path):
    text = (SAMPLE / path).read_bytes().decode("utf-8")
    assert "\r" not in text and text.endswith("\n")
    return [
        json.loads(line) if path.endswith("jsonl") else line.split("\t")
        for line in text[:-1].split("\n")
    ]


@pytest.mark.parametrize("name", ["boolean_expressions", "date_understanding", "object_counting"])
def test_every_bbh_file_has_enough_different_questions(name):
    questions = [example["input"] for example in bbh(name)]
    assert len(questions) == len(set(questions)) >= 60
    assert max(Counter(example["target"] for example in bbh(name)).values()) <= 32


def test_every_boolean_target_is_the_value_of_its_expression():
    for example in bbh("boolean_expressions"):
        assert example["target"] == str(evaluate(example["input"].removesuffix(" is")))


def test_every_date_target_is_a_letter_among_different_valid_options():
    for example in bbh("date_understanding"):
        options = re.findall(
            r"^\(([A-F])\) (\S+)$", example["input"].split("\nOptions:\n")[1], re.M
        )
        dates = {datetime.strptime(date, "%m/%d/%Y") for _, date in options}
        assert len(dates) == len(options) and [o[0] for o in options] == list(
            "ABCDEF"[: len(dates)]
        )
        assert example["target"] in [f"({letter})" for letter, _ in options]


def test_no_object_count_is_larger_than_the_number_of_things_listed():
    words = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    for example in bbh("object_counting"):
        assert (
            1
            <= int(example["target"])
            <= sum(words.get(word, 0) for word in example["input"].lower().split())
        )


def test_gsm8k_splits_are_large_enough_and_share_no_question():
    train, test = (
        [row["question"] for row in rows(f"gsm8k/{split}.jsonl")] for split in ("train", "test")
    )
    assert (
        len(train) >= 132 and len(test) >= 60 and len(set(train + test)) == len(train) + len(test)
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_calculator_mark_is_right_and_the_last_one_is_the_label(split):
    labels = []
    for row in rows(f"gsm8k/{split}.jsonl"):
        solution, label = row["answer"].rsplit("\n#### ", 1)
        marks = re.findall(r"<<([^<>=]+)=([^<>=]+)>>", solution)
        assert all(evaluate(left) == evaluate(right) for left, right in marks), row
        assert evaluate(marks[-1][1]) == evaluate(label.replace(",", "")), row
        labels.append(label)
    assert any("," in label for label in labels) and any(label[0] == "-" for label in labels)


@pytest.mark.parametrize(
    "split, count, least", [("train", 112, 90), ("valid", 15, 15), ("test", 73, 64)]
)
def test_liar_rows_have_14_columns_and_enough_are_usable(split, count, least):
    table = rows(f"liar/{split}.tsv")
    assert len(table) == count and {len(row) for row in table} == {14}
    assert all(row[1] in LIAR_LABELS and "".join(row[8:13]).isdigit() for row in table)
    labels = Counter(
        row[1]
        for row in table
        if row[1] in ("true", "false") and not {"", "none"} & {*row[5:8], row[13]}
    )
    assert labels.total() == least and abs(labels["true"] - labels["false"]) <= 1


def test_no_liar_statement_or_id_repeats_and_some_hold_a_lone_double_quote():
    table = [row for split in ("train", "valid", "test") for row in rows(f"liar/{split}.tsv")]
    assert len({row[2] for row in table}) == len({row[0] for row in table}) == len(table)
    assert any(row[2].count('"') % 2 for row in table)


def test_the_sample_stays_small():
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 300_000
