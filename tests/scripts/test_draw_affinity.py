"""Drawing what a pixel attends to."""

import cv2

from scripts import draw_affinity
from tests.support.commands import require_refusal, run_script


def test_affinity(data, tmp_path):
    picture = tmp_path / "affinity.png"
    arguments = "bear", "--datapath", data, "--output", picture
    outcome = run_script(draw_affinity, *arguments, "--pixel", "3,20")
    assert outcome.code == 0, outcome.stderr
    assert cv2.imread(str(picture)).std() > 10
    for more, told in (
        (["--pixel", "32,0"], "--pixel 32,0"),
        (["--pixel", "1"], "--pixel"),
        (["--pixel", "1,1", "--target", "0"], "--target 0"),
        (["--pixel", "1,1", "--output", tmp_path / "x.doc"], "x.doc"),
    ):
        require_refusal(run_script(draw_affinity, *arguments, *more), told)
