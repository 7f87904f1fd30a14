"""A self-contained HTML page about an evaluation: tables of scores, their curves over time, and frames."""

import argparse
import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.savepath import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT = "report.html"
PICTURES = 6  # of a video
PICTURE_WIDTH = 420
JPEG_QUALITY = 80
COLOURS, LEGEND_ROWS = 10, 10  # of a plot
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1340px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .8em; border-bottom: 1px solid #ddd }
th { text-align: left } td + td { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 .8em .8em 0; vertical-align: top } figcaption { font-size: 13px; color: #555 }
img { max-width: 100% } section { margin-top: 2.5em; border-top: 2px solid #eee }
"""


@dataclass(frozen=True)
class Picture:
    """RGB uint8 [H, W, 3], with a caption."""

    caption: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Section:
    """One video: its scores over time, and pictures."""

    title: str
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)  # 0 to 1; None or NaN: no score
    first: int = 0  # the frame of the curves' first values
    pictures: Sequence[Picture] = ()


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --report."""
    parser.add_argument("--report", action="store_true", help="also write report.html: scores over time, worst frames")


def write_report(path: Path, title: str, tables: Iterable[Sequence[Mapping]], sections: Iterable[Section]) -> None:
    """Write the page; a table is a list of rows with the same columns, whose floats are shown in percent."""
    parts = [f"<h1>{html.escape(title)}</h1>", *map(_table, tables), *map(_section, sections)]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    write_text(path, f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n")


def to_show(frames: int, scores: Sequence[float] | np.ndarray = (), first: int = 1) -> list[tuple[int, str]]:
    """Frames of a video to show, with captions: those with the lowest scores, or without scores evenly spaced ones.

    scores: of frames `first`, `first` + 1, …; NaN where a frame has none.
    """
    if len(scores) == 0 or np.isnan(scores).all():
        return [(int(i), f"frame {i}") for i in np.unique(np.linspace(0, frames - 1, PICTURES).round().astype(int))]
    lowest = [i for i in np.argsort(scores, kind="stable") if not np.isnan(scores[i])][:PICTURES]
    return [(int(i) + first, f"frame {i + first}: {100 * scores[i]:.1f}") for i in lowest]


def _table(rows: Sequence[Mapping]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    return f"{100 * value:.1f}" if isinstance(value, float) else html.escape(str(value))


def _section(section: Section) -> str:
    pictures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{_jpeg(picture.pixels)}" alt="{html.escape(picture.caption)}">'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        for picture in section.pictures
    )
    plot = _plot(section.curves, section.first) if any(map(len, section.curves.values())) else ""
    return f"<section><h2>{html.escape(section.title)}</h2>{plot}<div>{pictures}</div></section>"


def _jpeg(pixels: np.ndarray) -> str:
    height, width = pixels.shape[:2]
    size = PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width))
    small = cv2.resize(pixels[..., ::-1], size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def _plot(curves: Mapping[str, Sequence[float | None]], first: int) -> str:
    """Curves over frames as an SVG image, the same bytes for the same curves."""
    import matplotlib  # only reports need it

    svg, undated = io.BytesIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    fonts = ["DejaVu Sans", "Helvetica", "Arial"]
    with (
        matplotlib.rc_context({"font.size": 8, "font.sans-serif": fonts, "text.parse_math": False}),
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": REPORT}),
    ):
        _draw_curves(curves, first).savefig(svg, format="svg", bbox_inches="tight", metadata=undated)
    source = base64.b64encode(svg.getvalue()).decode()
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{html.escape(", ".join(curves))}">'


def _draw_curves(curves: Mapping[str, Sequence[float | None]], first: int) -> "Figure":
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
