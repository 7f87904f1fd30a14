"""The report: one page that needs nothing but itself, worst frames first."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from tests.builders import evaluate, require_success, write_davis, write_predictions
from utils.report import Picture, Section, to_show, write_report

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Which tags are open, and the text and attributes seen."""

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


def test_what_it_shows(tmp_path):
    red = np.zeros((50, 100, 3), np.uint8)
    red[..., 0] = 255
    curves = {"J of <1>": [0.0, None, 1.0], "F of <1>": [0.5, 0.5, 0.5]}
    section = Section("a & b", curves, first=7, pictures=[Picture("frame 9: <3>", red)])
    write_report(tmp_path / "report.html", "Title <x>", [[{"name": "a<b", "J": 0.1234}], []], [section])
    page = read(tmp_path / "report.html")
    for text in ("Title <x>", "a<b", "12.3", "a & b", "frame 9: <3>", "frame 7", "9"):
        assert text in page.text
    points = [value for name, value in page.attributes if name == "points"]
    assert [len(of_line.split()) for of_line in points] == [2, 3]
    (x0, y0), (x2, y2) = (map(float, point.split(",")) for point in points[0].split())
    assert x0 < x2 and y0 > y2  # 1 is above 0
    (source,) = (value for name, value in page.attributes if name == "src")
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (210, 420, 3)
    assert (abs(picture.mean((0, 1)) - [0, 0, 255]) < 5).all()
    assert "http" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.9, 0.1, 0.5], [(2, "frame 2: 10.0"), (3, "frame 3: 50.0"), (1, "frame 1: 90.0")]),
        ([0.9, np.nan, 0.5], [(3, "frame 3: 50.0"), (1, "frame 1: 90.0")]),
        ([], [(i, f"frame {i}") for i in range(4)]),
        ([np.nan] * 3, [(i, f"frame {i}") for i in range(4)]),
    ],
)
def test_the_worst_frames_come_first(scores, expected):
    assert to_show(4, scores) == expected


@pytest.mark.parametrize("predicted", [False, True])
def test_of_davis(predicted, checkpoint, tmp_path):
    """Of what is propagated, or of masks that are there; asked for later, nothing is propagated again."""
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
    assert sum(name == "src" for name, _ in page.attributes) == 2 * 3
    assert sum(name == "points" for name, _ in page.attributes) == 2 * 2 * 2
    assert {"bear", "cow", "bear_1", "all objects"} <= set(page.text)
    if predicted:
        assert re.search("<td>100.0</td>", (savepath / "report.html").read_text())
    else:
        assert (savepath / "sequences" / "bear.json").stat().st_mtime_ns == written
