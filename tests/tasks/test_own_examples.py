"""Questions of one's own: read as spreadsheets write them, or refused with the line at fault."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semback import DataError, Example, tasks


@pytest.fixture
def write(tmp_path):
    """A function that writes text or bytes to questions.csv and returns the path."""

    def written(content):
        path = tmp_path / "questions.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def test_columns_are_found_by_name_and_ids_are_made_where_there_are_none(write):
    path = write(
        'answer,source,question\n4,me,"What is 2 + 2, then?"\n\n,,\n'
        "5,you, How many\u2028fingers? \n"
    )
    first, second = (
        Example("questions/0", "What is 2 + 2, then?", "4"),
        Example("questions/1", "How many\u2028fingers?", "5"),
    )
    assert tasks.examples(path) == (first, second)
    assert tasks.examples(write("id,question,answer\na,Why?,So\n")) == (Example("a", "Why?", "So"),)


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbfquestion;answer\r\n"Gr\xc3\xbc\xc3\x9fe; an wen?";alle\r\n',
        'Question\tAnswer\n"Grüße; an wen?"\talle',
        'question,answer\n"Grüße; an wen?",alle\n',
    ],
)
def test_what_spreadsheets_write_is_read(write, content):
    assert tasks.examples(write(content)) == (Example("questions/0", "Grüße; an wen?", "alle"),)


@given(
    st.lists(
        st.tuples(
            *[
                st.text(
                    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
                )
            ]
            * 2
        ),
        min_size=1,
    )
)
def test_whatever_python_writes_as_csv_is_read_back(tmp_path_factory, rows):
    rows = [row for row in rows if all(cell.strip() for cell in row)] or [("a", "b")]
    text = io.StringIO()
    csv.writer(text).writerows([("question", "answer"), *rows])
    path = tmp_path_factory.mktemp("own") / "questions.csv"
    path.write_bytes(text.getvalue().encode())
    assert [(each.question, each.answer) for each in tasks.examples(path)] == [
        (one.strip(), other.strip()) for one, other in rows
    ]


@pytest.mark.parametrize(
    "content, said",
    [
        (
            "question,answr\nWhy?,So\n",
            "questions.csv, line 1: there is no column called answer; "
            "the first line has question, answr",
        ),
        ("", "line 1: there is no column called answer or question; the file is empty"),
        (
            " \n\nquestion;answr\nWhy?;So\n",
            "line 3: there is no column called answer; the first line has question, answr",
        ),
        (
            "question,Answer,answer\nWhy?,So,No\n",
            "line 1: there is more than one column called answer",
        ),
        ("question,answer\n\n", "questions.csv has no rows"),
        (
            "question,answer\nWhy?,So\nWhat, then?,So\n",
            "line 3: 3 cells, and the first line has 2; a text with a comma in it needs quotes",
        ),
        ("question,answer\nWhy?\n", "line 2: 1 cells"),
        ("question,answer\nWhy?,\n", "line 2: the answer is empty"),
        (
            'id,question,answer\na,"Why\nnot?",So\n\na,How?,So\n',
            "line 5: the id 'a' was used before",
        ),
        ("question,answer\nWhy?,So\nGrüße?,alle\n".encode("latin-1"), "line 3: it is not UTF-8"),
        ('question,answer\n"Why?,So\n', "line 2: unexpected end of data"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_names_the_line(write, content, said):
    path = write(content)
    with pytest.raises(DataError, match=said) as caught:
        tasks.examples(path)
    line = re.search(r"line (\d+)", said)
    assert caught.value.file == path
    assert caught.value.line == (int(line[1]) if line else None)


def test_a_file_that_is_not_there_is_one_error(tmp_path):
    for wrong in (None, 5, "a\0b", tmp_path):
        with pytest.raises(DataError, match="cannot be read: .*Give the path of a CSV file"):
            tasks.examples(wrong)
    with pytest.raises(DataError, match="nothing.csv cannot be read: No such file"):
        tasks.examples(tmp_path / "nothing.csv")
