"""A self-contained HTML page about an evaluation: how it was run, tables of scores, curves over time, and frames."""

import argparse
import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from evaluation.report_curves import Curves, plot_svg
from evaluation.report_pictures import MISSED, SPILLED, Picture, data_url
from utils.savepath import write_text

REPORT = "report.html"
STYLE = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 1500px; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse }} th, td {{ padding: .2em .8em; border-bottom: 1px solid #ddd }}
th {{ text-align: left }} th + th, td + td {{ text-align: right; font-variant-numeric: tabular-nums }}
.wide {{ margin: 1em 0; overflow-x: auto }} .facts th {{ vertical-align: top }} .facts td {{ overflow-wrap: anywhere }}
section {{ margin-top: 2.5em; border-top: 2px solid #eee }} figcaption {{ font-size: 13px; color: #555 }}
.plot {{ width: 720px }} video {{ max-width: 100% }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 36em), 1fr)); gap: 1em }}
figure {{ margin: 0 }} figure div {{ display: flex; flex-wrap: wrap; gap: 4px }}
figure img {{ flex: 1 1 15em; min-width: 0; max-width: 420px }}
.key span {{ display: inline-block; margin-right: 1em; padding-left: .4em; border-left: 1em solid }}
.key .missed {{ border-color: rgb{MISSED} }} .key .spilled {{ border-color: rgb{SPILLED} }}
"""
KEY = (
    '<p class="key"><span class="missed">missed: an object labelled as anything else</span>'
    '<span class="spilled">spilled: background labelled as an object</span></p>'
)


@dataclass(frozen=True)
class Section:
    """One video: its scores, their curves over time, and pictures."""

    title: str
    curves: Curves = field(default_factory=dict)
    first: int = 0  # the frame of the curves' first values
    pictures: Sequence[Picture] = ()
    scores: Mapping[str, float] = field(default_factory=dict)  # of the whole video, 0 to 1; the first one ranks it
    video: str = ""  # path of a video of all frames, relative to the page


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --report."""
    parser.add_argument("--report", action="store_true", help="also write report.html: scores over time, worst frames")


def write_report(
    path: Path,
    title: str,
    tables: Sequence[Sequence[Mapping]],
    sections: Iterable[Section],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the page: facts about the run, the first table, a ranking of the videos, the other tables, the sections.

    A table is a list of rows with the same columns, whose floats are shown in percent.
    """
    ranking, bodies = [], []
    for number, section in enumerate(sections):  # one at a time: its pictures are large
        anchor = f"video-{number}"
        ranking.append((section.scores, f'<a href="#{anchor}">{html.escape(section.title)}</a>'))
        bodies.append(_section(section, anchor))
    summary, *details = map(_table, tables or [[]])
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(facts or {}), summary, _ranking(ranking), *details, *bodies]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n')


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(text)}</td></tr>" for key, text in facts.items())
    return f'<table class="facts">{rows}</table>' if rows else ""


def _ranking(videos: Sequence[tuple[Mapping[str, float], str]]) -> str:
    """Return the table of the videos' scores, the worst first and those without any last, with links."""
    names = max((list(scores) for scores, _ in videos), key=len, default=[])
    if not names:
        return ""
    ordered = sorted(videos, key=lambda video: video[0].get(names[0], math.inf))
    rows = [[link, *(_cell(scores.get(name)) for name in names)] for scores, link in ordered]
    return _rows(["Worst first", *map(html.escape, names)], rows)


def _table(rows: Sequence[Mapping]) -> str:
    if not rows:
        return ""
    return _rows([html.escape(str(name)) for name in rows[0]], [map(_cell, row.values()) for row in rows])


def _rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells in HTML."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{"".join(f"<th>{name}</th>" for name in head)}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) else html.escape(str(value))


def _section(section: Section, anchor: str) -> str:
    pictures = "".join(map(_figure, section.pictures))
    parts = [
        _plot(section) if any(map(len, section.curves.values())) else "",
        f'<video controls preload="metadata" src="{quote(section.video)}"></video>' if section.video else "",
        KEY if any(picture.errors is not None for picture in section.pictures) else "",
        f'<div class="pictures">{pictures}</div>',
    ]
    return f'<section id="{anchor}"><h2>{html.escape(section.title)}</h2>{"".join(parts)}</section>'


def _figure(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    errors = "" if picture.errors is None else f'<img src="{data_url(picture.errors)}" alt="errors in {caption}">'
    prediction = f'<img src="{data_url(picture.pixels)}" alt="{caption}">'
    return f"<figure><div>{prediction}{errors}</div><figcaption>{caption}</figcaption></figure>"


def _plot(section: Section) -> str:
    source = base64.b64encode(plot_svg(section.curves, section.first)).decode()
    names = html.escape(", ".join(section.curves))
    return f'<div class="wide"><img class="plot" src="data:image/svg+xml;base64,{source}" alt="{names}"></div>'
