"""What a training writes, and when."""

import json
from dataclasses import asdict, replace

import cv2
import pytest
import torch

from training.batches import Batch
from training.files import TrainingFiles, read_training_state
from training.picture import STRIP
from training.step import Progress, Recipe, Training
from utils.distributed import World

LOSSES = {"total": 3.0, "pixel": 1.0, "channel": 1}
RECONSTRUCTION = torch.zeros(1, 1, 4, 4)


def files_of(tmp_path, progress: Progress, *, stage_2: bool = False) -> TrainingFiles:
    """Of a training that is so far, and began a step before; every 4 steps are logged, every 6 saved."""
    training = Training(Recipe(usemomen=stage_2, bsize=1, factor=1), World(0, 1, torch.device("cpu")))
    training.progress = replace(progress, steps=progress.steps - 1)
    files = TrainingFiles(tmp_path, training, 4, 6)
    training.progress = progress
    return files


@pytest.mark.parametrize(
    ("stage_2", "progress", "written"),
    [
        (False, Progress(1, 3, 7), set()),
        (False, Progress(1, 3, 8), {"log"}),
        (False, Progress(1, 3, 18), {"last.pt"}),
        (False, Progress(2, 0, 13), {"checkpoint_epoch_2.pt", "pictures", "last.pt"}),
        (False, Progress(1, 3, 1000), {"log"}),
        (True, Progress(1, 3, 500), {"log"}),
        (True, Progress(1, 3, 1000), {"log", "checkpoint_iter_1000.pt"}),
    ],
)
def test_what_is_written_after_a_step(stage_2, progress, written, tmp_path):
    files = files_of(tmp_path, progress, stage_2=stage_2)
    grey = torch.zeros(1, 3, 8, 8)
    batch = Batch(grey + 0.5, grey, torch.zeros(1), torch.zeros(1), [], 10)
    losses = {name: torch.tensor(value) for name, value in LOSSES.items()} | {"reconstruction": RECONSTRUCTION}
    files.after_step(batch, losses, steps_left=20)
    files.close()
    assert files.log.bar.disable
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = {path.name for path in tmp_path.iterdir()} - {"log.jsonl", "tensorboard"}
    assert found | ({"log"} if rows else set()) == written
    for row in rows:
        assert (row["step"], row["epoch"], row["total"], row["pixel"]) == (progress.steps, progress.epoch, 3, 1)
    if "pictures" in written:
        picture = cv2.imread(str(tmp_path / "pictures" / "epoch_2.png"))[STRIP:]
        assert picture[:, :8].mean() > picture[:, 8:16].mean()  # the reference is on the left


@pytest.mark.parametrize(
    ("progress", "written"),
    [(Progress(1, 3, 7), {"checkpoint_iter_7.pt", "last.pt"}), (Progress(2, 0, 10), {"last.pt"})],
)
def test_what_is_written_at_the_end(progress, written, tmp_path):
    """Weights with their place in the training; none twice at the end of an epoch."""
    files_of(tmp_path, progress).finish()
    assert {path.name for path in tmp_path.glob("*.pt")} == written
    assert read_training_state(tmp_path / "last.pt")["position"] == asdict(progress)
    for path in tmp_path.glob("checkpoint_*.pt"):
        content = torch.load(path, weights_only=True)
        assert (content["epoch"], content["iter"]) == (progress.epoch, progress.steps)
