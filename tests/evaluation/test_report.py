"""The report: one self-contained page, worst frames first."""

import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from evaluation.report import Section, write_report
from evaluation.report_pictures import Picture
from tests.support.commands import require_success
from tests.support.davis import evaluate, write_davis, write_predictions

VOID = {"meta", "img"}
SVG = "{http://www.w3.org/2000/svg}"
FIRST_COLOUR = "#1f77b4"


class Page(HTMLParser):
    """Parses a page: open tags, and the text and attributes seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path) -> Page:
    page = Page()
    page.feed(path.read_text())
    assert not page.open
    return page


def images(page: Page, kind: str) -> list[bytes]:
    """The files embedded in a page."""
    head = f"data:image/{kind};base64,"
    sources = [value for name, value in page.attributes if name == "src"]
    return [base64.b64decode(source.removeprefix(head)) for source in sources if source.startswith(head)]


def labels(svg: bytes) -> list[str]:
    """The texts of a plot."""
    return [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def lines(svg: bytes) -> list[tuple[bool, list[list[tuple[float, float]]]]]:
    """For each curve in the first colour whether it is dashed, and its points (x, y) between gaps."""
    paths = [path for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if path.get("clip-path")]
    curves = [path for path in paths if FIRST_COLOUR in path.get("style")]
    return [
        (
            "dasharray" in path.get("style"),
            [re.findall(r"([\d.]+) ([\d.]+)", part) for part in path.get("d", "").split("M")[1:]],
        )
        for path in curves
    ]


def test_what_it_shows(tmp_path):
    red = np.zeros((50, 100, 3), np.uint8)
    red[..., 0] = 255
    curves = {"J of <1> $x$": [0.0, 0.25, None, 1.0, 1.0], "F of <1>": [0.5] * 5}
    section = Section("a & b", curves, first=7, pictures=[Picture("frame 9: <3>", red)])
    write_report(tmp_path / "report.html", "Title <x>", [[{"name": "a<b", "J": 0.1234}], []], [section])
    page = read(tmp_path / "report.html")
    for text in ("Title <x>", "a<b", "12.3", "a & b", "frame 9: <3>"):
        assert text in page.text
    assert page.text.index("a<b") < page.text.index("a & b")  # tables, then videos
    (plot,) = images(page, "svg+xml")
    assert {*curves, "frame", "7", "11", "0", "50", "100"} <= set(labels(plot))
    assert ("alt", ", ".join(curves)) in page.attributes
    (picture,) = images(page, "jpeg")
    picture = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (210, 420, 3)
    assert (abs(picture.mean((0, 1)) - [0, 0, 255]) < 5).all()
    assert "http" not in (tmp_path / "report.html").read_text()


def plot_of(tmp_path, curves: dict) -> bytes:
    """The plot of a report of one section."""
    write_report(tmp_path / "report.html", "Title", [], [Section("bear", curves, first=7)])
    (plot,) = images(read(tmp_path / "report.html"), "svg+xml")
    return plot


def test_curves_are_broken_where_values_are_missing(tmp_path):
    nan = float("nan")
    plot = plot_of(tmp_path, {"J": [0.0, 0.25, None, 0.5, nan, 1.0, 1.0], "F": [0.5] * 7})
    (dashed, parts), (other_dashed, other_parts) = lines(plot)
    assert (dashed, other_dashed) == (False, True)
    assert [len(part) for part in parts] == [2, 2]
    assert [len(part) for part in other_parts] == [7]
    (dot,) = (
        use for use in ElementTree.fromstring(plot).iter(f"{SVG}use") if f"fill: {FIRST_COLOUR}" in use.get("style")
    )
    xs, ys = np.array([*parts[0], (dot.get("x"), dot.get("y")), *parts[1]], float).T
    frames, scores = [0, 1, 3, 5, 6], [0.0, 0.25, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(np.diff(xs) / (xs[1] - xs[0]), np.diff(frames), atol=1e-4)
    np.testing.assert_allclose((ys - ys[0]) / (ys[-1] - ys[0]), scores, atol=1e-4)  # 1 is above 0
    assert ys[-1] < ys[0]


@pytest.mark.parametrize("curves", [{}, {"J": [], "F": []}, {"J": [None, float("nan")]}, {"J": [0.5]}])
def test_few_values(tmp_path, curves):
    write_report(tmp_path / "report.html", "Title", [], [Section("bear", curves)])
    assert len(images(read(tmp_path / "report.html"), "svg+xml")) == any(curves.values())


def test_every_curve_of_many_objects_is_in_the_legend(tmp_path):
    curves = {f"{measure} of {number}": [0.5, 0.6] for number in range(20) for measure in "JF"}
    svg = ElementTree.fromstring(plot_of(tmp_path, curves))
    width, height = (float(number) for number in svg.get("viewBox").split()[2:])
    legend = {text.text: text for text in svg.iter(f"{SVG}text") if text.text in curves}
    assert legend.keys() == curves.keys()
    places = {(float(text.get("x")), float(text.get("y"))) for text in legend.values()}
    assert len(places) == len(curves)
    assert all(x < width and 0 < y < height for x, y in places)


def test_same_report_is_the_same_bytes(tmp_path):
    curves = {"J": [0.5, 0.25], "F": [0.5, None]}
    assert plot_of(tmp_path, curves) == plot_of(tmp_path, curves)


def test_facts_ranking_links_and_videos(tmp_path):
    """The worst video comes first in the ranking, one without a score last; sections keep their order."""
    sections = [
        Section("good & old", scores={"J&F": 0.9, "J": 0.8}, video="overlay/good & old.mp4"),
        Section("unscored"),
        Section("bad", scores={"J&F": 0.1, "J": 0.2}),
    ]
    facts = {"Model": "a<b.pt", "Date": "today"}
    write_report(tmp_path / "report.html", "Title", [[{"G": 0.5}], [{"joint": "neck"}]], sections, facts)
    page = read(tmp_path / "report.html")
    ranking = ["Worst first", "J&F", "J", "bad", "10.0", "20.0", "good & old", "90.0", "80.0", "unscored", "–", "–"]
    body = page.text[page.text.index("Title", 1 + page.text.index("Title")) :]
    shown = ["Title", "Model", "a<b.pt", "Date", "today", "G", "50.0", *ranking, "joint", "neck"]
    assert body == [*shown, *(section.title for section in sections), "\n"]
    targets = [value.removeprefix("#") for name, value in page.attributes if name == "href"]
    titles = dict(zip([value for name, value in page.attributes if name == "id"], sections, strict=True))
    assert [titles[target].title for target in targets] == ["bad", "good & old", "unscored"]
    assert ("src", "overlay/good%20%26%20old.mp4") in page.attributes
    assert ("name", "viewport") in page.attributes


def test_errors_are_beside_the_prediction_and_explained(tmp_path):
    grey = np.full((4, 6, 3), 128, np.uint8)
    pictures = Picture("frame 1", grey, errors=grey), Picture("frame 2", grey)
    write_report(tmp_path / "report.html", "Title", [], [Section("bear", pictures=pictures)])
    page = read(tmp_path / "report.html")
    assert [value for name, value in page.attributes if name == "alt"] == ["frame 1", "errors in frame 1", "frame 2"]
    assert len([text for text in page.text if text.startswith(("missed: ", "spilled: "))]) == 2
    write_report(tmp_path / "report.html", "Title", [], [Section("bear", pictures=pictures[1:])])
    assert not [text for text in read(tmp_path / "report.html").text if text.startswith("missed: ")]


@pytest.mark.parametrize("predicted", [False, True])
def test_of_davis(predicted, checkpoint, tmp_path):
    """Of propagated masks or of given predictions; --report added later propagates nothing again."""
    data, savepath = write_davis(tmp_path / "davis", ("bear", "cow"), 4, objects=(1, 2)), tmp_path / "results"
    arguments = ["--datapath", data, "--savepath", savepath, "--device", "cpu"]
    if predicted:
        for name in ("bear", "cow"):
            write_predictions(tmp_path / "masks", name, 4, objects=(1, 2))
        arguments += ["--predictions", tmp_path / "masks"]
    else:
        arguments += ["--resume", checkpoint]
        require_success(evaluate(*arguments))
        written = (savepath / "sequences" / "bear.json").stat().st_mtime_ns
    require_success(evaluate(*arguments, "--report"))
    page = read(savepath / "report.html")
    assert len(images(page, "jpeg")) == 2 * 3 * 2  # each mask and its errors
    plots = images(page, "svg+xml")
    assert len(plots) == 2
    assert all({"J of 1", "F of 1", "J of 2", "F of 2"} <= set(labels(plot)) for plot in plots)
    assert {"bear", "cow", "bear_1", "all objects", "Date", "Masks" if predicted else "Checkpoint"} <= set(page.text)
    scores = json.loads((savepath / "results.json").read_text())["official"]
    headline = page.text.index("all objects") + 1
    assert page.text[headline : headline + len(scores)] == [f"{100 * value:.1f}" for value in scores.values()]
    if predicted:
        assert re.search("<td>100.0</td>", (savepath / "report.html").read_text())
    else:
        assert (savepath / "sequences" / "bear.json").stat().st_mtime_ns == written
