"""The studies return what their figures draw."""

import asyncio

import pandas
import pytest

from semback import DataError, figures, gates
from semback.studies.credit import credit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def credits():
    return asyncio.run(credit(sizes=[(1, 2), (2, 2), (1, 1)], faults=3))


def test_the_figure_of_credit_shows_each_share_with_its_interval(credits):
    plot = figures.credit(credits)
    found, container = credits[credits["width"] == 2], plot.figure.axes[0].containers[0]
    together = found[found["method"] == found["method"].iloc[0]].sort_values("depth")
    assert list(container[0].get_ydata()) == list(together["found"])
    drawn = [list(segment[:, 1]) for segment in container[2][0].get_segments()]
    intervals = zip(together["found_low"], together["found_high"])
    assert drawn == [pytest.approx(interval) for interval in intervals]


def test_the_figure_of_credit_shows_one_coach(credits):
    with pytest.raises(DataError, match="2"):
        figures.credit(pandas.concat([credits, credits.assign(coach="another")]))


def test_the_figure_of_gates_shows_what_each_accepts_beside_its_level():
    data = gates.gates(questions=[50, 20], churns=[0.2, 0.5], trials=20)
    plot = figures.gates(data)
    assert set(plot.data["churn"]) == {0.2} and len(plot.data) == 2 * 4 * 3
    few, many = plot.figure.axes
    assert [few.get_title(), many.get_title()] == ["20 questions", "50 questions"]
    assert [text.get_text().replace("\n", " ") for text in few.texts] == [*gates.GATES, "simulated"]
    assert [text.get_text() for text in many.texts] == ["simulated"]
    careful = plot.data[(plot.data["questions"] == 20) & (plot.data["level"] == 0.05)]
    line, points = few.containers[2][0], few.containers[2][2][0].get_segments()
    assert list(line.get_ydata()) == list(careful["accepted"])
    assert list(line.get_xdata()) == pytest.approx([0, 5, 10, 20])
    intervals = list(zip(careful["low"], careful["high"]))
    assert [tuple(segment[:, 1]) for segment in points] == [
        pytest.approx(each) for each in intervals
    ]
    dotted = [line.get_ydata() for line in few.lines if line.get_linestyle() == ":"]
    assert {level for levels in dotted for level in levels if level > 0} == {0.2, 0.05}


def test_the_figure_of_gates_says_for_which_churns_there_are_rows():
    data = gates.gates(questions=[20], churns=[0.5], gains=[0.0], trials=1)
    with pytest.raises(DataError, match=r"churn 0\.2 .* 0\.5"):
        figures.gates(data)
