"""A benchmark's plot as SVG: the same points always give the same bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _results import Plot
    from matplotlib.axes import Axes

_SIZE_INCHES = (7.5, 3.8)


def draw(plot: Plot) -> str:
    """One plot as the text of an SVG file."""
    import matplotlib as mpl  # noqa: PLC0415 - a second's import, for those who asked for plots alone
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.use("Agg")
    with mpl.rc_context({"svg.hashsalt": "certcast", "svg.fonttype": "none", "font.size": 9}):
        picture = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = picture.add_subplot()
        (_bars if plot.kind == "bar" else _lines)(axes, plot)
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(plot.series) > 1:
            axes.legend(frameon=False)
        written = io.StringIO()
        picture.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _lines(axes: Axes, plot: Plot) -> None:
    for name, points in plot.series.items():
        xs, ys = [x for x, _ in points], [y for _, y in points]
        if plot.kind == "cdf":
            axes.step(xs, ys, where="post", label=name)
        else:
            axes.plot(xs, ys, marker="o" if len(points) <= 30 else "", markersize=3, label=name)
    if plot.log_x:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0, top=1.02 if plot.kind == "cdf" else None)


def _bars(axes: Axes, plot: Plot) -> None:
    places = list(dict.fromkeys(x for points in plot.series.values() for x, _ in points))
    width = 0.8 / len(plot.series)
    for number, (name, points) in enumerate(plot.series.items()):
        offset = (number - (len(plot.series) - 1) / 2) * width
        axes.bar([places.index(x) + offset for x, _ in points], [y for _, y in points], width, label=name)
    axes.set_xticks(range(len(places)), [f"{x:,g}" for x in places])
