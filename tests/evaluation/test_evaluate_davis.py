"""evaluate_davis.py in its own process: from a DAVIS folder and a checkpoint to masks and scores."""

import csv
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dataloaders.davis import load_sequences
from functional.metrics import jaccard
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import TORCHRUN, require_same_when_sharded
from tests.support.davis import SCRIPT, write_davis
from tests.support.davis_scores import GLOBAL_COLUMNS
from tests.support.golden import golden_weights, load_golden
from tests.support.repository import ROOT
from utils.visualize import davis_palette, write_mask

FLAGS = {
    "plain": [],
    "plain_compact": ["--compact"],
    "momentum": ["--usemomen"],
    "momentum_compact": ["--usemomen", "--compact"],
}


def write_clip(root: Path, frames: int | None = None) -> Path:
    """The golden clip, two objects, in the DAVIS-2017 layout (frames as lossless PNG)."""
    golden = load_golden("sequence_clip")
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / "clip").mkdir(parents=True)
    for index, (frame, mask) in enumerate(zip(golden["frames_bgr"][:frames], golden["masks"][:frames], strict=True)):
        cv2.imwrite(str(root / "JPEGImages" / "480p" / "clip" / f"{index:05d}.png"), frame)
        write_mask(root / "Annotations" / "480p" / "clip" / f"{index:05d}.png", mask)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("clip\n")
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("davis"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[bool, Path]:
    """The golden weights as the reference saves them, by whether they are of stage 2."""
    bias = load_golden("sequence_clip")["post_convolution_bias"]
    paths = {}
    for momentum in (False, True):
        state = golden_weights(0.35, bias, momentum=momentum)
        if momentum:
            state |= {"colorizer.feats_queue": torch.zeros(6, 128, 32, 32), "colorizer.refs_queue": torch.zeros(6)}
        paths[momentum] = tmp_path_factory.mktemp("weights") / "weights.pt"
        torch.save({"state_dict": state}, paths[momentum])
    return paths


def evaluate(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def read_masks(folder: Path) -> np.ndarray:
    """All masks of a sequence [T, H, W]."""
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])


@pytest.mark.parity
@pytest.mark.parametrize("model", FLAGS)
def test_masks_are_the_references(model, clip, checkpoints, tmp_path):
    momentum = model.startswith("momentum")
    result = evaluate("--datapath", clip, "--resume", checkpoints[momentum], "--savepath", tmp_path, *FLAGS[model])
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    predicted = read_masks(tmp_path / "benchmark" / "clip")
    assert (predicted == load_golden("sequence_clip")[f"predicted_{model}"]).mean() >= 0.9995


@pytest.fixture(scope="module")
def finished(clip, checkpoints, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A run with all outputs, started from another folder."""
    savepath = tmp_path_factory.mktemp("results") / "new" / "folder"
    options = ["--datapath", clip, "--resume", checkpoints[False], "--savepath", savepath, "--ref", 1, "--overlay"]
    return savepath, evaluate(*options, cwd=savepath.parents[1])


def test_what_a_run_writes(finished):
    savepath, process = finished
    assert process.returncode == 0, process.stderr
    with Image.open(savepath / "benchmark" / "clip" / "00007.png") as mask:
        assert (mask.mode, mask.size) == ("P", (200, 100))
        assert mask.getpalette() == davis_palette().flatten().tolist()
    results = json.loads((savepath / "results.json").read_text())
    assert results["arguments"]["ref"] == 1
    assert len(results["arguments"]["checkpoint_sha256"]) == 64
    assert results["versions"]["torch"] == importlib.metadata.version("torch")
    assert results["seconds_per_frame"] > 0
    assert results["peak_memory"] > 1e8
    assert {len(scores["J"]) for scores in results["sequences"]["clip"]["objects"].values()} == {19}
    for name in ("official", "legacy"):
        assert 0 < results[name]["J&F-Mean"] < 1
        assert f"{100 * results[name]['J&F-Mean']:.1f}" in process.stdout
    assert f"J&F {100 * results['official']['J&F-Mean']:.1f}" in process.stderr  # the progress bar


@pytest.fixture(scope="module")
def short(checkpoints, tmp_path_factory) -> tuple[list[object], Path]:
    """A run on the first frames of the clip: its options and its savepath."""
    folder = tmp_path_factory.mktemp("short")
    options = ["--datapath", write_clip(folder / "davis", 7), "--resume", checkpoints[True], "--savepath"]
    assert evaluate(*options, folder / "results").returncode == 0
    return options, folder / "results"


def test_in_bfloat16(short, tmp_path):
    """Masks are nearly the same; a folder with results of another precision is refused."""
    options, savepath = short
    assert evaluate("--amp", *options, tmp_path / "amp").returncode == 0
    scores = [
        json.loads((path / "results.json").read_text())["official"]["J&F-Mean"] for path in (savepath, tmp_path / "amp")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
    assert evaluate("--amp", *options, savepath).returncode == 2


def test_tables_are_the_official_tools(finished):
    savepath, _ = finished
    results = json.loads((savepath / "results.json").read_text())
    with (savepath / "global_results-val.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == GLOBAL_COLUMNS
    assert {name: float(value) for name, value in row.items()} == results["official"]
    with (savepath / "per-sequence_results-val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Sequence", "J-Mean", "F-Mean"]
    assert [row["Sequence"] for row in rows] == ["clip_1", "clip_2"]


def test_overlay_is_a_video_of_all_frames(finished):
    savepath, _ = finished
    with av.open(str(savepath / "overlay" / "clip.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in video.decode(video=0)) == 20


def test_its_masks_score_the_same_as_predictions(finished, clip, tmp_path):
    savepath, _ = finished
    result = evaluate("--datapath", clip, "--predictions", savepath / "benchmark", "--savepath", tmp_path)
    assert result.returncode == 0, result.stderr
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (savepath, tmp_path))
    assert ours["official"] == theirs["official"]
    assert ours["legacy"] == theirs["legacy"]


def test_the_same_command_twice_gives_the_same_bits(short, tmp_path):
    options, savepath = short
    assert evaluate(*options, tmp_path).returncode == 0
    first, second = (read_masks(folder / "benchmark" / "clip") for folder in (savepath, tmp_path))
    assert np.array_equal(first, second)


def some_frames(source: Path, target: Path, year: int, name: str, which: slice) -> list[np.ndarray]:
    """A DAVIS folder with some frames of one real sequence, as links; their true masks."""
    for kind in ("JPEGImages", "Annotations"):
        (target / kind / "480p" / name).mkdir(parents=True)
        for path in sorted((source / kind / "480p" / name).iterdir())[which]:
            (target / kind / "480p" / name / path.name).symlink_to(path)
    (target / "ImageSets" / str(year)).mkdir(parents=True)
    (target / "ImageSets" / str(year) / "val.txt").write_text(name)
    (sequence,) = load_sequences(target, year, "val")
    return [sequence.read_mask(index) for index in range(len(sequence.masks))]


def copied_mask_score(masks: list[np.ndarray]) -> float:
    """The mean J, over objects and scored frames, of copying the first mask."""
    first, *scored, _ = masks
    numbers = np.setdiff1d(first, 0)
    return float(np.mean([jaccard(first == number, mask == number) for number in numbers for mask in scored]))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("folder", "year", "name", "which", "objects", "margin"),
    [
        ("davis", 2016, "drift-straight", slice(5), 1, 0.25),
        ("eval/multi-object", 2017, "schoolgirls", slice(0, 36, 6), 7, 0.05),
    ],
)
def test_real_video(folder, year, name, which, objects, margin, shared, tmp_path):
    """The default checkpoint follows real moving objects better than a copy of the first mask."""
    masks = some_frames(shared / folder, tmp_path / "data", year, name, which)
    options = ["--datapath", tmp_path / "data", "--year", year, "--usemomen", "--compact"]
    result = evaluate(*options, "--savepath", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert len(results["sequences"][name]["objects"]) == objects
    assert results["official"]["J-Mean"] > copied_mask_score(masks) + margin


def test_two_processes_write_what_one_writes(tmp_path):
    """Masks, tables and scores are the same; a user's mistake is reported once."""
    data = write_davis(tmp_path / "davis", ("bear", "cow", "dog"))
    checkpoint = write_checkpoint(tmp_path / "liir.pt")
    options = "--resume", checkpoint, "--datapath", data, "--device", "cpu"
    require_same_when_sharded(SCRIPT, tmp_path, *options)
    (data / "JPEGImages/480p/dog/00001.jpg").write_bytes(b"")
    command = [sys.executable, *TORCHRUN, SCRIPT, *options, "--savepath", tmp_path / "refused"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(list(map(str, command)), env=settings, capture_output=True, text=True)
    assert result.returncode
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert len(list((tmp_path / "refused" / "sequences").iterdir())) == 2  # the other sequences were completed
