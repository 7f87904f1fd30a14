"""Training pairs: the index of videos, the pairs of an epoch, and batches."""

from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dataloaders.training_pairs import (
    GAPS,
    Pair,
    Video,
    draw_pairs,
    load_batches,
    read_index,
    require_folders,
    require_pairs,
)
from functional.color import normalised_lab
from tests.support.videos import write_odd_videos
from training.seed import PAIRS, generator
from utils.errors import UserError

VIDEOS = [Video("a", 0, 40), Video("b", 7, 33), Video("c", 0, 2), Video("d", 0, 3)]


def number(path: Path) -> int:
    return int(path.stem)


@pytest.mark.parametrize("epoch", range(20))
def test_pairs(epoch):
    pairs = draw_pairs(VIDEOS, Path("root"), generator(0, PAIRS, epoch))
    frames = [frame for pair in pairs for frame in (pair.reference, pair.target)]
    assert len(set(frames)) == len(frames)
    for row, video in enumerate(VIDEOS):
        mine = sorted((pair for pair in pairs if pair.video == row), key=lambda pair: pair.reference)
        gaps = {number(pair.target) - number(pair.reference) for pair in mine}
        assert len(gaps) <= 1
        for pair in mine:
            assert pair.reference.parent == Path("root") / video.name
            assert video.first <= number(pair.reference) < number(pair.target) < video.first + video.count
        if gaps:
            (gap,) = gaps
            assert gap in GAPS
            firsts = [number(pair.reference) for pair in mine]
            assert firsts == [video.first + 2 * gap * i for i in range(len(mine))]
            assert len(mine) == len(range(0, video.count, gap)) // 2


def test_pairs_are_a_function_of_seed_and_epoch():
    drawn = [draw_pairs(VIDEOS, Path("root"), generator(*place)) for place in ((0, PAIRS, 3),) * 2]
    assert drawn[0] == drawn[1]
    assert drawn[0] != draw_pairs(VIDEOS, Path("root"), generator(0, PAIRS, 4))
    assert drawn[0] != draw_pairs(VIDEOS, Path("root"), generator(1, PAIRS, 3))


def test_an_epoch_is_cut(monkeypatch):
    monkeypatch.setattr("dataloaders.training_pairs.PAIRS_PER_EPOCH", 5)
    assert len(draw_pairs(VIDEOS, Path("root"), generator(0, PAIRS, 0))) == 5


@pytest.mark.parametrize(
    ("videos", "bsize", "told"),
    [
        ([Video("a", 0, 2), Video("b", 5, 1)], 1, "--csvpath: no video has 3 frames"),
        ([Video("a", 0, 3), Video("b", 0, 2), Video("c", 0, 5)], 3, "--bsize 3: .* at most 2 pairs"),
        ([Video("a", 0, 3), Video("b", 0, 2), Video("c", 0, 5)], 2, None),
        ([Video("a", 0, 1_000_000)], 69_600, None),
        ([Video("a", 0, 1_000_000)], 69_601, "--bsize 69601: .* at most 69600 pairs"),
    ],
)
def test_videos_too_short_for_a_batch(videos, bsize, told):
    """What no draw can have is refused; what a lucky draw has is not."""
    with nullcontext() if told is None else pytest.raises(UserError, match=told):
        require_pairs(videos, bsize)


def test_videos_and_their_pairs_are_in_random_order(monkeypatch):
    pairs = draw_pairs([Video("a", 0, 400)], Path("root"), generator(0, PAIRS, 0))
    assert pairs != sorted(pairs, key=lambda pair: pair.reference)
    monkeypatch.setattr("dataloaders.training_pairs.PAIRS_PER_EPOCH", 1)
    drawn = {draw_pairs(VIDEOS, Path("root"), generator(0, PAIRS, epoch))[0].video for epoch in range(40)}
    assert drawn == {0, 1, 3}  # video 2 has no two frames 2 apart


def test_gaps_have_their_probabilities():
    videos = [Video(str(i), 0, 17) for i in range(3000)]
    pairs = draw_pairs(videos, Path("root"), generator(0, PAIRS, 0))
    gap_of = {pair.video: number(pair.target) - number(pair.reference) for pair in pairs}
    shares = [list(gap_of.values()).count(gap) / len(gap_of) for gap in GAPS]
    np.testing.assert_allclose(shares, [0.4, 0.4, 0.2], atol=0.03)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "lists no videos"),
        ("\n\n", "lists no videos"),
        ("a,0\n", "2 columns"),
        ("a,0,3\nb,1,2,3\n", ":2: has 4 columns"),
        ("a,x,3\n", "not whole numbers"),
        ("a,-1,3\n", "first frame -1"),
        ("a,0,0\n", "0 frames"),
        ("a,0,-5\n", "-5 frames"),
        ("a,0,99999999999999999999\n", "frames"),
        ("../a,0,3\n", "not a folder below"),
        ("/etc,0,3\n", "not a folder below"),
        (",0,3\n", "not a folder below"),
    ],
)
def test_bad_index(tmp_path, text, told):
    path = tmp_path / "videos.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        read_index(path)


def test_index_with_windows_lines(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_bytes(b"\xef\xbb\xbfa,0,3\r\n\r\nb,4,2\r\na,0,3\r\n")
    assert read_index(path) == [Video("a", 0, 3), Video("b", 4, 2)]


def test_every_video_needs_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    require_folders([Video("a", 0, 3)], tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path / 'b'}: no such folder"):
        require_folders([Video("a", 0, 3), Video("b", 0, 3)], tmp_path)


@pytest.fixture
def videos(tmp_path) -> Path:
    return write_odd_videos(tmp_path / "frames")


def two_pairs(root: Path) -> list[Pair]:
    return [Pair(root / "a" / f"{i:05d}.jpg", root / "a" / f"{i + 2:05d}.jpg", video=i) for i in (0, 4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_frames_in_order(videos, workers):
    pairs = two_pairs(videos)
    batches = list(load_batches(pairs, [range(1), range(1, 2)], normalised_lab, workers))
    assert len(batches) == 2
    for pair, (reference, target, video) in zip(pairs, batches, strict=True):
        for path, tensor in ((pair.reference, reference), (pair.target, target)):
            frame = cv2.resize(cv2.imread(str(path)).astype(np.float32) / 255, (256, 256))
            assert torch.equal(tensor[0], normalised_lab(frame))
        assert video.tolist() == [pair.video]


def test_a_worker_reads_two_batches_ahead(videos):
    pairs, taken = two_pairs(videos), []

    def batches():
        for index in (0, 1, 1, 0, 1):
            taken.append(index)
            yield range(index, index + 1)

    loaded = load_batches(pairs, batches(), normalised_lab, workers=1)
    first = next(loaded)
    assert len(taken) == 3
    assert [video.item() for _, _, video in (first, *loaded)] == [0, 4, 4, 0, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_frame_names_itself(videos, workers):
    pairs = two_pairs(videos)
    pairs[0].target.write_bytes(b"")
    with pytest.raises(UserError, match=str(pairs[0].target)):
        list(load_batches(pairs, [range(1)], normalised_lab, workers))
