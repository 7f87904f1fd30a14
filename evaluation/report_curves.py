"""Curves of scores over time, as an SVG image."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS, LEGEND_ROWS = 10, 10

Curves = Mapping[str, Sequence[float | None]]  # values from 0 to 1, one per frame; None or NaN: no score


def plot_svg(curves: Curves, first: int) -> bytes:
    """Return curves over the frames `first`, `first` + 1, … as an SVG image, the same bytes for the same curves."""
    import matplotlib  # only reports need it

    svg, undated = io.BytesIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    fonts = ["DejaVu Sans", "Helvetica", "Arial"]
    with (
        matplotlib.rc_context({"font.size": 8, "font.sans-serif": fonts, "text.parse_math": False}),
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}),
    ):
        _draw_curves(curves, first).savefig(svg, format="svg", bbox_inches="tight", metadata=undated)
    return svg.getvalue()


def _draw_curves(curves: Curves, first: int) -> "Figure":
    """Each pair of curves (J and F of an object) has one colour; the second is dashed."""
    from matplotlib.figure import Figure

    figure, last = Figure(figsize=(6.5, 1.8)), first + max(map(len, curves.values())) - 1
    axes = figure.add_axes((0, 0, 1, 1))
    for i, (name, values) in enumerate(curves.items()):
        _draw_curve(axes, name, values, first, colour=f"C{i // 2 % COLOURS}", dashed=i % 2 == 1)
    ticks = np.unique(np.linspace(first, last, 6).round().astype(int))
    axes.set(ylim=(-3, 103), yticks=(0, 50, 100), xticks=ticks, xlabel="frame")
    axes.grid(axis="y", color="#ddd")
    columns = -(-len(curves) // LEGEND_ROWS)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), ncols=columns, frameon=False, borderaxespad=0)
    return figure


def _draw_curve(
    axes: "Axes", name: str, values: Sequence[float | None], first: int, *, colour: str, dashed: bool
) -> None:
    """A curve in percent with gaps where values are missing; a value between two gaps is a dot."""
    frames, scores = np.arange(first, first + len(values)), 100 * np.array(values, np.float64)
    known = np.pad(np.isfinite(scores), 1)
    isolated = known[1:-1] & ~known[:-2] & ~known[2:]
    line = np.where(isolated, np.nan, scores)  # an SVG line would reach over a gap to an isolated last value
    axes.plot(frames, line, "--" if dashed else "-", color=colour, linewidth=1, label=name)
    axes.plot(frames[isolated], scores[isolated], ".", color=colour)
