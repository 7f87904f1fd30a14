"""One page about an evaluation that needs nothing but itself: a table, curves over time, pictures."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from utils.savepath import write_text

REPORT = "report.html"
PICTURES = 6  # of a video
PICTURE_WIDTH = 420
JPEG_QUALITY = 80
WIDTH, HEIGHT, MARGIN = 640, 150, 28  # of a plot, in pixels
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1340px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .8em; border-bottom: 1px solid #ddd }
th { text-align: left } td + td { text-align: right; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 0 .8em .8em 0; vertical-align: top } figcaption { font-size: 13px; color: #555 }
svg text { font-size: 11px; fill: #555 } section { margin-top: 2.5em; border-top: 2px solid #eee }
"""


@dataclass(frozen=True)
class Picture:
    """Something to look at, RGB uint8 [H, W, 3]."""

    caption: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Section:
    """One video: values over its frames, between 0 and 1, and pictures."""

    title: str
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    first: int = 0  # the frame of the curves' first values
    pictures: Sequence[Picture] = ()


def write_report(path: Path, title: str, tables: Iterable[Sequence[Mapping]], sections: Iterable[Section]) -> None:
    """Write the page; a table is rows with the same names, shares of 1 among them shown in percent."""
    parts = [f"<h1>{html.escape(title)}</h1>", *map(_table, tables), *map(_section, sections)]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    write_text(path, f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n")


def to_show(frames: int, scores: Sequence[float] = (), first: int = 1) -> list[tuple[int, str]]:
    """Which frames of a video to show, and captions: those with the lowest scores, or some spread evenly.

    scores: of frames `first`, `first` + 1, …; NaN for one that has none.
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
    plot = _plot(section.curves, section.first) if section.curves else ""
    return f"<section><h2>{html.escape(section.title)}</h2>{plot}<div>{pictures}</div></section>"


def _jpeg(pixels: np.ndarray) -> str:
    height, width = pixels.shape[:2]
    size = PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width))
    small = cv2.resize(pixels[..., ::-1], size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def _plot(curves: Mapping[str, Sequence[float | None]], first: int) -> str:
    """Lines between 0 and 1 over frames, as SVG."""
    count = max(len(values) for values in curves.values())
    across = (WIDTH - 2 * MARGIN) / max(1, count - 1)
    lines, names = [], []
    for i, (name, values) in enumerate(curves.items()):
        colour, dash = COLOURS[i // 2 % len(COLOURS)], "" if i % 2 == 0 else ' stroke-dasharray="4 3"'
        points = " ".join(
            f"{MARGIN + k * across:.1f},{MARGIN + (1 - value) * (HEIGHT - 2 * MARGIN):.1f}"
            for k, value in enumerate(values)
            if value is not None
        )
        label = html.escape(name)
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}"{dash}><title>{label}</title></polyline>'
        )
        names.append(f'<tspan fill="{colour}" dx="8">{label}{" (dashed)" if dash else ""}</tspan>')
    line = f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" stroke="#ddd"'
    scale = "".join(
        f'{line} y1="{y}" y2="{y}"/><text x="2" y="{y + 4}">{text}</text>'
        for text, y in (("100", MARGIN), ("50", HEIGHT / 2), ("0", HEIGHT - MARGIN))
    )
    ends = (
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">frame {first}</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">{first + count - 1}</text>'
    )
    key = f'<text x="{MARGIN}" y="14">{"".join(names)}</text>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}">{scale}{"".join(lines)}{ends}{key}</svg>'
