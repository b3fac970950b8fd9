"""The figures of the two studies: whom gradients reach (`semback.credit`), and what a graph costs (`semback.growth`)."""

from ...errors import DataError
from ..plot import BLUE, GREEN, GREY, PAGE, PURPLE, VERMILLION, Plot, canvas, finished
from .points import spread

LOOKS = (("o", BLUE), ("^", VERMILLION), ("v", GREEN), ("s", GREY), ("D", PURPLE))
MEASURES = {
    "found": "the faulty node is told\nthe right number",
    "blamed": "innocent nodes are told\na wrong number",
    "only": "the faulty node is told, and\nno innocent node",
}


def credit(data) -> Plot:
    """What `credit.credit` measured of one coach: three shares, by depth and by width, for each method.

    Points are measured, lines are the theory (of a clerk). By depth are shown the sizes of the width that has the most depths, by width
    the other way round. DataError where there are no rows, or several coaches.
    """
    if not len(data) or data["coach"].nunique() > 1:
        raise DataError(
            f"this figure shows one coach; the data has {data['coach'].nunique() if len(data) else 0}"
        )
    methods, scripted = list(dict.fromkeys(data["method"])), data["found_expected"].notna().any()
    with canvas(PAGE, 4.4, 2, 3, sharey=True) as (figure, axes):
        panels = []
        for line, (along, fixed) in enumerate((("depth", "width"), ("width", "depth"))):
            most = data.groupby(fixed)[along].nunique().idxmax()
            mine = data[data[fixed] == most]
            places = {size: place for place, size in enumerate(sorted(set(mine[along])))}
            for ax, (measure, title) in zip(axes[3 * line :], MEASURES.items()):
                ax.plot([], [], "--", color=GREY, label="lines: the theory" if scripted else None)
                for place, method in enumerate(methods):
                    some = mine[(mine["method"] == method) & mine[measure].notna()].sort_values(
                        along
                    )
                    marker, colour = LOOKS[place]
                    at = [
                        places[size] + 0.12 * (place - (len(methods) - 1) / 2)
                        for size in some[along]
                    ]
                    dashes = (
                        4 * place,
                        (4, 4 * len(methods) - 4),
                    )  # in turn, where lines are the same
                    ax.plot(
                        [places[size] for size in some[along]],
                        some[f"{measure}_expected"].astype(float),
                        color=colour,
                        linestyle=dashes,
                        linewidth=1.2,
                    )
                    ax.errorbar(
                        at,
                        some[measure],
                        yerr=spread(some, measure, f"{measure}_low", f"{measure}_high"),
                        fmt=marker,
                        color=colour,
                        elinewidth=0.8,
                        markersize=4,
                        label=method,
                    )
                ax.set_xticks(list(places.values()), list(places))
                ax.set(
                    title=title if line == 0 else None,
                    xlim=(-0.5, len(places) - 0.5),
                    ylim=(-0.04, 1.04),
                    xlabel=f"{along}, with {fixed} {most}",
                )
                ax.grid(axis="x", visible=False)
                panels.append((measure, mine))
        figure.supylabel("share")
        return finished(figure, data, panels, columns=4)


COSTS = {
    "calls": "backward: calls",
    "prompt_tokens": "backward: tokens sent",
    "largest": "backward: longest prompt, tokens",
    "rounds": "forward, backward and update:\nrounds, each as long as a call",
}


def growth(data) -> Plot:
    """What `growth.grow` measured, by the number of nodes, both on logarithmic scales.

    Points are measured: filled with the neighbourhood, open without. Lines join them, and for calls and rounds are the formulas.
    DataError where there are no rows.
    """
    if not len(data):
        raise DataError(
            "there are no measurements to draw; `await semback.growth.grow()` makes some"
        )
    back, keys = data[data["phase"] == "backward"], ["shape", "method", "nodes"]
    costs = back[[*keys, "calls", "calls_expected", "prompt_tokens", "largest", "simulated"]].merge(
        data.groupby(keys, as_index=False)[["rounds", "rounds_expected"]].sum(), on=keys
    )
    with canvas(PAGE, 4.8, 2, 2, sharex=True) as (figure, axes):
        for ax, (cost, title) in zip(axes, COSTS.items()):
            for place, (shape, mine) in enumerate(costs.groupby("shape", sort=False)):
                (marker, colour), size = (
                    LOOKS[place],
                    8 - place,
                )  # smaller on larger, where shapes cost the same
                for (_, some), face, line in zip(
                    mine.groupby("method", sort=False), (colour, "white"), ("-", (0, (3, 2)))
                ):
                    ax.plot(
                        some["nodes"],
                        some.get(f"{cost}_expected", some[cost]),
                        color=colour,
                        linestyle=line,
                        linewidth=0.8,
                    )
                    ax.plot(
                        some["nodes"],
                        some[cost],
                        marker,
                        color=colour,
                        markerfacecolor=face,
                        markersize=size,
                        label=shape if face == colour else None,
                    )
            for method, face in zip(dict.fromkeys(costs["method"]), (GREY, "white")):
                ax.plot([], [], "o", color=GREY, markerfacecolor=face, label=method)
            ax.set(xscale="log", yscale="log", title=title)
            ax.set_xticks(sizes := sorted(set(costs["nodes"])), sizes)
            ax.yaxis.set_major_formatter("{x:,.0f}")
            ax.minorticks_off()
        for ax in axes[2:]:
            ax.set_xlabel("nodes")
        return finished(figure, costs, [(cost, costs) for cost in COSTS], columns=7, percent=False)
