"""The batches of a training: which pairs, in which order, for which process, until when."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from dataloaders.training_pairs import Pair, draw_pairs, load_batch, read_index
from functional.color import normalised_lab
from training.batches import Batch, End, batches_until
from training.seed import PAIRS, generator
from training.step import Progress, Recipe
from utils.distributed import World

SEED = 3


class Process(World):
    """One process of several, which need not agree with the others."""

    def agreed(self):
        return nullcontext()


def follow(videos: Path, end: End, progress: Progress, *, bsize: int = 2, rank: int = 0, size: int = 1) -> list[Batch]:
    """The batches of a training that is so far, as its process of that rank gets them."""
    world = Process(rank, size, torch.device("cpu"))
    training = SimpleNamespace(progress=progress, recipe=Recipe(bsize=bsize, seed=SEED), world=world)
    found = []
    for batch in batches_until(end, training, read_index(videos / "videos.csv"), videos, workers=0):
        found.append(batch)
        progress.step, progress.steps = progress.step + 1, progress.steps + 1
        progress.end_epoch_if_complete(batch.steps)
    return found


def epoch(videos: Path, number: int, bsize: int = 2) -> list[list[Pair]]:
    """The batches of an epoch: whole ones only."""
    pairs = draw_pairs(read_index(videos / "videos.csv"), videos, generator(SEED, PAIRS, number))
    return [pairs[bsize * i : bsize * (i + 1)] for i in range(len(pairs) // bsize)]


def test_batches_are_the_pairs_of_each_epoch(videos):
    """From the middle of an epoch to the end of the last; of the epochs, some have an odd number of pairs."""
    found = follow(videos, End(4, None), Progress(epoch=0, step=1, steps=1))
    expected = [epoch(videos, number) for number in range(4)]
    assert [batch.pairs for batch in found] == [pairs for batches in expected for pairs in batches][1:]
    assert [batch.steps for batch in found] == [len(batches) for batches in expected for _ in batches][1:]


def test_batches_end_with_the_steps(videos):
    assert len(follow(videos, End(9, 3), Progress(epoch=0, step=1, steps=1))) == 2


def test_an_epoch_without_a_full_batch_is_drawn_on(tmp_path):
    """Six videos of five frames: a gap of 5 or 8 gives no pair. Epochs that have batches are as they were drawn."""
    rows = []
    for video in range(6):
        (tmp_path / f"v{video}").mkdir()
        rows.append(f"v{video},0,5\n")
        for i in range(5):
            cv2.imwrite(str(tmp_path / f"v{video}" / f"{i:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "videos.csv").write_text("".join(rows))
    drawn = [epoch(tmp_path, number, bsize=3) for number in range(8)]
    assert [] in drawn
    assert sum(map(len, drawn)) > 0
    for number, expected in enumerate(drawn):
        found = follow(tmp_path, End(number + 1, None), Progress(epoch=number), bsize=3)
        assert found
        assert [batch.pairs for batch in found] == (expected or [batch.pairs for batch in found])
        rest = follow(tmp_path, End(number + 1, None), Progress(epoch=number, step=1), bsize=3)
        assert [batch.pairs for batch in rest] == [batch.pairs for batch in found[1:]]


def test_an_epoch_that_is_over_with_fewer_videos_is_followed_by_the_next(videos):
    """Resumed at a step that the epoch no longer has."""
    found = follow(videos, End(2, None), Progress(epoch=0, step=500, steps=500))
    assert [batch.pairs for batch in found] == epoch(videos, 1)


def test_each_process_has_its_part_of_every_batch(videos):
    (batch,) = follow(videos, End(9, 1), Progress(), bsize=4, rank=1, size=2)
    pairs = epoch(videos, 0, bsize=4)[0]
    assert batch.all_videos.tolist() == [pair.video for pair in pairs]
    torch.testing.assert_close(batch[:3], load_batch(pairs[2:], normalised_lab), atol=0, rtol=0)


@pytest.mark.parametrize("slow", [True, False])
def test_waiting_for_frames_is_timed(videos, monkeypatch, slow):
    """One second a frame, on a planted clock."""
    clock = SimpleNamespace(now=0.0)

    def load(_: Path) -> np.ndarray:
        clock.now += slow
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("dataloaders.training_pairs.read_frame", load)
    monkeypatch.setattr("training.batches.time", SimpleNamespace(perf_counter=lambda: clock.now))
    assert [batch.waited for batch in follow(videos, End(9, 2), Progress(), bsize=2)] == [4.0 * slow] * 2


def test_a_batch_names_its_frames():
    pairs = [Pair(Path("a/1.jpg"), Path("a/3.jpg"), 0), Pair(Path("b/2.jpg"), Path("b/7.jpg"), 1)]
    assert Batch(*[torch.zeros(0)] * 4, pairs, 1).names() == "a/1.jpg and 3.jpg, b/2.jpg and 7.jpg"


@pytest.mark.parametrize(
    ("end", "progress", "reached", "left"),
    [
        (End(3, None), Progress(1, 4, 14), False, 16),
        (End(3, None), Progress(2, 9, 29), False, 1),
        (End(3, None), Progress(3, 0, 30), True, 0),
        (End(3, 20), Progress(1, 4, 14), False, 6),
        (End(3, 20), Progress(2, 0, 20), True, 0),
        (End(3, 100), Progress(1, 4, 14), False, 16),
    ],
)
def test_the_end(end, progress, reached, left):
    """Epochs of 10 steps."""
    assert end.reached(progress) is reached
    assert end.steps_left(progress, 10) == left
