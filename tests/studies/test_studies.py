"""The studies return what their figures draw."""

import asyncio

import pandas
import pytest

from semback import DataError, figures
from semback.studies.credit import credit
from semback.studies.growth import grow

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


def test_the_figure_of_growth_adds_the_rounds_of_the_phases():
    plot = figures.growth(asyncio.run(grow(sizes=[3, 5], shapes=["chain", "skips"])))
    assert len(plot.data) == 2 * 2 * 2
    chain = plot.data[(plot.data["shape"] == "chain") & (plot.data["nodes"] == 5)].iloc[0]
    assert (chain["calls"], chain["rounds"]) == (4, 5 + 4 + 1)
