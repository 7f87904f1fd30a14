"""Drawing the curves of training and held-out losses."""

import json

import cv2
import pytest

from scripts import draw_curves, measure_reconstruction
from tests.support.commands import require_refusal, run_script
from tests.support.training_runs import train_here


@pytest.fixture(scope="module")
def training(videos, tmp_path_factory):
    """The savepath of a short training."""
    folder = tmp_path_factory.mktemp("training")
    assert train_here(videos, folder, "--cosine", 3).code == 0
    return folder


@pytest.mark.soak
def test_curves(training, videos, tmp_path):
    held_out = training / draw_curves.HELD_OUT
    (tmp_path / "one.csv").write_text("v1,0,12\n")
    where = "--datapath", videos, "--csvpath", tmp_path / "one.csv", "--pairs", 1
    checkpoints = training / "last.pt", *training.glob("checkpoint_*.pt")
    assert run_script(measure_reconstruction, *checkpoints, *where, "--json", held_out).code == 0
    rows = json.loads(held_out.read_text())["checkpoints"]
    assert [row["steps"] for row in rows] == [3, 3]
    assert rows[0]["loss"] == rows[1]["loss"]
    picture = tmp_path / "curves.png"
    assert run_script(draw_curves, training, "--smooth", 1, "--output", picture).code == 0
    assert len(set(cv2.imread(str(picture)).reshape(-1, 3)[:, 0].tolist())) > 10  # it shows something
    require_refusal(run_script(draw_curves, tmp_path), "log.jsonl")
    require_refusal(run_script(draw_curves, training, "--output", tmp_path / "curves.doc"), "curves.doc")


@pytest.mark.soak
def test_curves_go_on_where_the_run_before_ended(training, videos, tmp_path):
    last = training / "last.pt"
    assert train_here(videos, tmp_path / "next", "--steps", 1, "--pretrain", last).code == 0
    assert train_here(videos, tmp_path / "end", "--steps", 1, "--pretrain", tmp_path / "next" / "last.pt").code == 0
    assert [draw_curves.steps_before(folder) for folder in (training, tmp_path / "next", tmp_path / "end")] == [0, 3, 4]
    (tmp_path / "next" / "last.pt").unlink()
    assert draw_curves.steps_before(tmp_path / "end") == 0
