"""The figures of the studies: they show what was measured, say what is simulated, and are the same every time."""

import asyncio

import pandas
import pytest
from test_figures import texts

from semback import DataError, figures
from semback.studies.credit import credit
from semback.studies.growth import grow


@pytest.fixture(scope="module")
def credits():
    return asyncio.run(credit(sizes=[(1, 2), (2, 2), (1, 1)], faults=3))


@pytest.fixture(scope="module")
def growths():
    return asyncio.run(grow(sizes=[3, 5], shapes=["chain", "skips"]))


@pytest.mark.parametrize("name", ["credit", "growth"])
def test_simulated_stands_across_every_panel_and_the_same_data_gives_the_same_bytes(
    name, credits, growths, tmp_path
):
    data, draw = {"credit": credits, "growth": growths}[name], getattr(figures, name)
    assert (
        set(texts(draw(data))) == {"simulated"} and texts(draw(data.assign(simulated=False))) == []
    )
    one, two = (
        figures.save(*draw(data), tmp_path / "one"),
        figures.save(*draw(data), tmp_path / "two"),
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with pytest.raises(DataError):
        draw(data[:0])


def test_the_figure_of_credit_shows_each_share_with_its_interval_by_depth_and_by_width(credits):
    plot = figures.credit(credits)
    assert [ax.get_xlabel() for ax in plot.figure.axes] == 3 * ["depth, with width 2"] + 3 * [
        "width, with depth 1"
    ]
    found, container = credits[credits["width"] == 2], plot.figure.axes[0].containers[0]
    together = found[found["method"] == found["method"].iloc[0]].sort_values("depth")
    assert list(container[0].get_ydata()) == list(together["found"])
    drawn = [segment[:, 1] for segment in container[2][0].get_segments()]
    assert [list(each) for each in drawn] == [
        pytest.approx(pair) for pair in zip(together["found_low"], together["found_high"])
    ]
    assert plot.figure.legends[0].get_title().get_text() == "bars: 95 % Wilson interval over faults"


def test_the_figure_of_credit_shows_one_coach(credits):
    with pytest.raises(DataError, match="2"):
        figures.credit(pandas.concat([credits, credits.assign(coach="another")]))


def test_the_figure_of_growth_shows_measurements_and_adds_the_rounds_of_the_phases(growths):
    plot = figures.growth(growths)
    assert len(plot.data) == 2 * 2 * 2
    chain = plot.data[(plot.data["shape"] == "chain") & (plot.data["nodes"] == 5)].iloc[0]
    assert (chain["calls"], chain["rounds"], chain["rounds_expected"]) == (4, 5 + 4 + 1, 5 + 4 + 1)
    markers = {
        tuple(line.get_ydata())
        for line in plot.figure.axes[0].lines
        if line.get_marker() != "None" and len(line.get_xdata())
    }
    assert markers == {(2, 4), (2, 4), (3, 10)}
