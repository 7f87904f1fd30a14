"""What leads to the README's results: measuring on videos held out, tables, figures, and all of it in one command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from torch.nn import functional as F

from functional.color import normalised_lab
from models.liir import LIIR
from scripts import draw_affinity, draw_curves, measure_reconstruction, results_table
from scripts.measure_reconstruction import spread_pairs
from tests.builders import Outcome, evaluate, require_refusal, run_here, write_checkpoint, write_davis
from tests.training_runs import train_here

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(module, *arguments: object) -> Outcome:
    """Run one of the scripts in this process."""
    return run_here(module.main, Path(module.__file__), *arguments)


@pytest.fixture(scope="module")
def training(videos, tmp_path_factory):
    """The savepath of a short training."""
    folder = tmp_path_factory.mktemp("training")
    assert train_here(videos, folder, "--cosine", 3).code == 0
    return folder


@pytest.mark.soak
def test_the_cosine_ends_the_training(training):
    rows = [json.loads(line) for line in (training / "log.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows]
    assert len(rates) == 3
    assert rates[1] > rates[2] > 0


def test_pairs_are_spread_over_the_videos(videos):
    index = measure_reconstruction.read_index(videos / "videos.csv")
    for gap in (2, 5, 8):
        pairs = spread_pairs(index, videos, gap, 3)
        assert len(pairs) == 3 * len(index)
        assert {int(pair.target.stem) - int(pair.reference.stem) for pair in pairs} == {gap}
        assert all(pair.reference.exists() and pair.target.exists() for pair in pairs)
    assert spread_pairs(index, videos, 12, 3) == []


def test_what_cannot_move_colours_has_the_loss_of_their_mean(videos, tmp_path):
    """Features of zero: every query sees the mean colour of its window, outside cells counting as 0."""
    model = LIIR()
    torch.nn.init.zeros_(model.post_convolution.weight)
    torch.nn.init.zeros_(model.post_convolution.bias)
    write_checkpoint(tmp_path / "flat.pt", model.state_dict())
    (tmp_path / "one.csv").write_text("v1,0,12\n")
    arguments = tmp_path / "flat.pt", "--datapath", videos, "--csvpath", tmp_path / "one.csv"
    outcome = script(measure_reconstruction, *arguments, "--pairs", 1, "--json", tmp_path / "loss.json")
    assert outcome.code == 0, outcome.stderr
    expected = []
    for gap in (2, 5, 8):
        reference, target = (
            normalised_lab(
                cv2.resize(cv2.imread(str(videos / "v1" / f"{i:05d}.jpg")) / 255, (256, 256)).astype("float32")
            )
            for i in (0, gap)
        )
        means = F.avg_pool2d(reference[None, 1:, ::4, ::4], 13, 1, 6)
        whole = F.interpolate(means, (256, 256), mode="bilinear", align_corners=False)
        expected.append(F.smooth_l1_loss(20 * whole, 20 * target[None, 1:]))
    (row,) = json.loads((tmp_path / "loss.json").read_text())["checkpoints"]
    assert row["steps"] is None
    assert row["loss"] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)


@pytest.mark.soak
def test_curves(training, videos, tmp_path):
    held_out = training / draw_curves.HELD_OUT
    (tmp_path / "one.csv").write_text("v1,0,12\n")
    where = "--datapath", videos, "--csvpath", tmp_path / "one.csv", "--pairs", 1
    checkpoints = training / "last.pt", *training.glob("checkpoint_*.pt")
    assert script(measure_reconstruction, *checkpoints, *where, "--json", held_out).code == 0
    rows = json.loads(held_out.read_text())["checkpoints"]
    assert [row["steps"] for row in rows] == [3, 3]
    assert rows[0]["loss"] == rows[1]["loss"]
    picture = tmp_path / "curves.png"
    assert script(draw_curves, training, "--smooth", 1, "--output", picture).code == 0
    assert len(set(cv2.imread(str(picture)).reshape(-1, 3)[:, 0].tolist())) > 10  # it shows something
    require_refusal(script(draw_curves, tmp_path), "log.jsonl")
    require_refusal(script(draw_curves, training, "--output", tmp_path / "curves.doc"), "curves.doc")


@pytest.mark.soak
def test_curves_go_on_where_the_run_before_ended(training, videos, tmp_path):
    last = training / "last.pt"
    assert train_here(videos, tmp_path / "next", "--steps", 1, "--pretrain", last).code == 0
    assert train_here(videos, tmp_path / "end", "--steps", 1, "--pretrain", tmp_path / "next" / "last.pt").code == 0
    assert [draw_curves.steps_before(folder) for folder in (training, tmp_path / "next", tmp_path / "end")] == [0, 3, 4]
    (tmp_path / "next" / "last.pt").unlink()
    assert draw_curves.steps_before(tmp_path / "end") == 0


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp("davis"), ("bear",))


def test_affinity(davis, tmp_path):
    picture = tmp_path / "affinity.png"
    arguments = "bear", "--datapath", davis, "--output", picture
    outcome = script(draw_affinity, *arguments, "--pixel", "3,20")
    assert outcome.code == 0, outcome.stderr
    assert cv2.imread(str(picture)).std() > 10
    for more, told in (
        (["--pixel", "32,0"], "--pixel 32,0"),
        (["--pixel", "1"], "--pixel"),
        (["--pixel", "1,1", "--target", "0"], "--target 0"),
        (["--pixel", "1,1", "--output", tmp_path / "x.doc"], "x.doc"),
    ):
        require_refusal(script(draw_affinity, *arguments, *more), told)


def test_table(davis, tmp_path):
    scores = tmp_path / "scores"
    truth = davis / "Annotations" / "480p"
    assert evaluate("--predictions", truth, "--datapath", davis, "--savepath", scores).code == 0
    outcome = script(results_table, scores)
    assert outcome.stdout.splitlines()[2] == "| scores | 100.0 | 100.0 | 100.0 | 0.0 | 100.0 | 100.0 | 0.0 |"
    require_refusal(script(results_table, tmp_path), "results.json")


@pytest.mark.soak
def test_reproduce(videos, davis, tmp_path):
    """From a folder of videos to the table, and again: the second time everything is there."""
    settings = {
        "STEPS": "2",
        "MORE": "1",
        "TAIL": "2",
        "LONG": "1",
        "EVERY": "2",
        "YEAR": "2017",
        "FLAGS": "",
        "TRAINING": "--bsize 2",
    }
    command = ["bash", SCRIPTS / "reproduce.sh", videos, davis, tmp_path / "results", sys.executable]
    first, second = (
        subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=1800)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    table = [line for line in first.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 9
    assert second.returncode == 0, second.stderr
    assert table == [line for line in second.stdout.splitlines() if line.startswith("|")]
    assert "step 1 " not in second.stdout
    assert (tmp_path / "results" / "curves.png").exists()
