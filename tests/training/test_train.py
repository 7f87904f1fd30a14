"""train.py: what it writes, how it is launched, and what it refuses."""

import socket
import sys
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from models.liir import LIIR, TRAINING_ONLY
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import TORCHRUN, require_refusal
from tests.support.files import halve
from tests.support.training_runs import (
    STAGE_1,
    STAGE_2,
    assert_close,
    assert_equal_bits,
    finish,
    read_log,
    read_state,
    start,
    train_here,
)
from tests.support.videos import write_videos
from training.picture import STRIP
from training.pretrained import load_pretrained
from training.step import Recipe
from utils.checkpoint import load_weights, read_state_dict


def test_one_epoch_of_what_it_writes(videos, tmp_path):
    """The weights load for evaluation and for --pretrain; scalars and a picture are logged."""
    index = tmp_path / "videos.csv"
    index.write_text("v0,0,12\n")
    savepath = tmp_path / "results"
    result = finish(start(videos, savepath, "--csvpath", index, "--epochs", 1, "--bsize", 1))
    assert result.code == 0, result.stderr
    assert "total" in result.stdout
    assert "left" in result.stdout
    assert {path.name for path in savepath.iterdir()} >= {"last.pt", "checkpoint_epoch_1.pt", "log.jsonl"}
    scalars = EventAccumulator(str(savepath / "tensorboard")).Reload()
    logged = [row["total"] for row in read_log(savepath)]
    assert [event.value for event in scalars.Scalars("total")] == pytest.approx(logged)
    times = {"seconds_waiting", "pairs_per_second"}
    assert set(scalars.Tags()["scalars"]) == {"epoch", "total", "pixel", "learning_rate", *times}
    picture = cv2.imread(str(savepath / "pictures" / "epoch_1.png"))
    assert picture.shape == (STRIP + 256, 4 * 256, 3)
    (shown,) = scalars.Images("reconstruction")
    assert np.array_equal(cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8), cv2.IMREAD_COLOR), picture)
    last_line = result.stdout.splitlines()[-1]
    assert last_line.endswith(f"saved in {savepath / 'checkpoint_epoch_1.pt'} and {savepath / 'last.pt'}")
    weights = read_state_dict(savepath / "checkpoint_epoch_1.pt")
    load_weights(LIIR(), weights, savepath, unused=TRAINING_ONLY)
    load_pretrained(LIIR(momentum=True), savepath / "checkpoint_epoch_1.pt")
    load_weights(LIIR(), read_state_dict(savepath / "last.pt"), savepath, unused=TRAINING_ONLY)


@pytest.fixture(scope="module")
def pretrained(videos, tmp_path_factory):
    """A checkpoint of stage 1."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert train_here(videos, folder, "--semantic", "--steps", 1).code == 0
    return folder / "checkpoint_iter_1.pt"


@pytest.fixture(scope="module")
def alone(videos, pretrained, tmp_path_factory):
    """Stage 2 in one process: (its options, its savepath).

    The learning rate is small because Adam turns rounding errors of gradients near 0 into steps of its size.
    """
    recipe = *STAGE_2, "--lr", "1e-5", "--freeze_bn", "--steps", 4, "--pretrain", pretrained
    folder = tmp_path_factory.mktemp("alone")
    assert train_here(videos, folder, *recipe).code == 0
    return recipe, folder


@pytest.mark.soak
@pytest.mark.parametrize("module", ["torch.distributed.run", "torch.distributed.launch"])
def test_two_processes_see_what_one_sees(module, videos, alone, tmp_path):
    """As started by torchrun, and by torch.distributed.launch, which passes --local-rank."""
    recipe, folder = alone
    launcher = "-m", module, "--nproc_per_node=2", f"--master_port={free_port()}"
    result = finish(start(videos, tmp_path, *recipe, launcher=launcher))
    assert result.code == 0, result.stderr
    assert_close(folder, tmp_path)


@pytest.mark.soak
def test_two_nodes_see_what_one_process_sees(videos, alone, tmp_path):
    recipe, folder = alone
    port = free_port()
    nodes = []
    for rank in range(2):
        launcher = ["-m", "torch.distributed.run", "--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1"]
        launcher += ["--master_addr=127.0.0.1", f"--master_port={port}"]
        nodes.append(start(videos, tmp_path, *recipe, launcher=tuple(launcher)))
    for result in map(finish, nodes):
        assert result.code == 0, result.stderr
    assert_close(folder, tmp_path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_defaults_are_those_of_the_recipe(monkeypatch):
    """A state of an older version, which lacks an option, is taken to have had its default."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    arguments = vars(train.parse_arguments())
    assert {name: arguments[name] for name in asdict(Recipe())} == asdict(Recipe())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--bsize", "0"], "--bsize"),
        (["--bsize", "1000"], "--bsize 1000"),
        (["--epochs", "x"], "--epochs"),
        (["--pe_shuffle"], "--usemomen"),
        (["--overwrite", "--resume", "{results}/last.pt"], "--overwrite"),
        (["--pretrain", "none.pt"], "none.pt"),
        (["--resume", "none.pt"], "none.pt"),
        (["--csvpath", "none.csv"], "none.csv"),
        (["--savepath", "/proc/x"], "/proc/x"),
        (["--lr", "-1"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--local_rank", "x"], "--local"),
    ],
)
def test_bad_options(videos, tmp_path, options, told):
    options = [option.format(results=tmp_path / "results") for option in options]
    require_refusal(train_here(videos, tmp_path / "results", *options), told)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("v0,0", "2 columns"),
        ("v0,0,12,9", "4 columns"),
        ("v0,0,-12", "-12 frames"),
        ("v0,-3,12", "first frame -3"),
        ("v0,0,999999999999", "999999999999 frames"),
        ("v0,0,1e9", "1e9"),
        ("nowhere,0,12", "nowhere: no such folder"),
        ("v0,0,40", "v0"),  # frames that are not there
    ],
)
def test_bad_index(videos, tmp_path, row, told):
    index = tmp_path / "videos.csv"
    index.write_text(f"{row}\n")
    require_refusal(train_here(videos, tmp_path / "results", "--csvpath", index, "--bsize", 1), told)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_frames(tmp_path, workers):
    videos = write_videos(tmp_path / "videos")
    for path in videos.glob("v*/*.jpg"):
        halve(path)
    outcome = train_here(videos, tmp_path / "results", "--worker", workers, "--steps", 1)
    assert require_refusal(outcome, ".jpg").count(str(videos)) == 1


def write_junk(path):
    path.write_bytes(b"junk" * 100)


def write_other_network(path):
    write_checkpoint(path, {"layer.weight": torch.zeros(3)})


def write_lost_weights(path):
    state = LIIR().state_dict()
    state["post_convolution.bias"][0] = float("nan")
    write_checkpoint(path, state)


@pytest.mark.parametrize("write", [write_junk, write_other_network, write_lost_weights])
@pytest.mark.parametrize("option", ["--pretrain", "--resume"])
def test_bad_checkpoints(option, write, videos, tmp_path):
    path = tmp_path / "junk.pt"
    write(path)
    require_refusal(train_here(videos, tmp_path / "results", option, path), path)


def test_resuming_under_another_recipe(videos, pretrained, tmp_path):
    last = pretrained.with_name("last.pt")
    require_refusal(train_here(videos, tmp_path / "results", "--resume", last), last, "semantic was True, is False")


def test_resuming_on_too_few_videos(videos, pretrained, tmp_path):
    """So few that no epoch can have a batch."""
    index = tmp_path / "videos.csv"
    index.write_text("v0,0,3\n")
    arguments = "--csvpath", index, "--resume", pretrained.with_name("last.pt"), "--semantic"
    require_refusal(train_here(videos, tmp_path / "results", *arguments), "--bsize 2")


def test_a_training_goes_on_without_a_video(videos, tmp_path):
    """Its folder refuses it and names how it goes on in another; the queue names videos by their new rows."""
    index, first, second = tmp_path / "videos.csv", tmp_path / "first", tmp_path / "second"
    index.write_text((videos / "videos.csv").read_text())
    recipe = *STAGE_2, "--csvpath", index
    assert train_here(videos, first, *recipe, "--steps", 2).code == 0
    names = [row[0] for row in torch.load(first / "last.pt", weights_only=True)["videos"]]
    earlier = [names[row] for row in read_state(first)["/queue/videos"].tolist()]
    index.write_text("".join(f"{name},0,12\n" for name in names if name != earlier[0]))
    way_out = f"--resume {first / 'last.pt'} --savepath NEW"
    require_refusal(train_here(videos, first, *recipe, "--steps", 3), "csvpath", way_out)
    outcome = train_here(videos, second, *recipe, "--steps", 2, "--resume", first / "last.pt")
    assert outcome.code == 0, outcome.stderr
    state = torch.load(second / "last.pt", weights_only=True)
    rows = state["queue"]["videos"].tolist()
    assert [state["videos"][row][0] if row >= 0 else earlier[0] for row in rows] == earlier
    outcome = train_here(videos, second, *recipe, "--steps", 4)
    assert outcome.code == 0, outcome.stderr
    assert read_state(second)["/position/steps"] == 4


def test_a_loss_that_is_not_finite(videos, tmp_path):
    """It stops before the weights change, and names the step and the frames."""
    outcome = train_here(videos, tmp_path, "--lr", 1e30, "--steps", 5, "--save_every", 1, "--bsize", 1)
    steps = len(read_log(tmp_path))
    assert steps >= 1
    last_good = f"the last good checkpoint is {tmp_path / 'last.pt'} of step {steps}"
    require_refusal(outcome, f"step {steps + 1}", "not finite", videos, last_good, "--lr")
    state = read_state(tmp_path)
    assert state["/position/steps"] == steps
    assert all(value.isfinite().all() for value in state.values() if isinstance(value, torch.Tensor))


@pytest.mark.soak
def test_any_number_of_workers_gives_the_same_bits(videos, tmp_path):
    recipe = *STAGE_1, "--steps", 3
    for workers in (0, 1, 4):
        assert train_here(videos, tmp_path / f"{workers}", *recipe, "--worker", workers).code == 0
    assert_equal_bits(tmp_path / "0", tmp_path / "1")
    assert_equal_bits(tmp_path / "0", tmp_path / "4")


@pytest.mark.soak
def test_the_same_command_again_gives_the_same_bits(videos, tmp_path):
    """On two threads."""
    for name in ("once", "again"):
        assert finish(start(videos, tmp_path / name, *STAGE_1, "--steps", 3, "--worker", 4, threads=2)).code == 0
    assert_equal_bits(tmp_path / "once", tmp_path / "again")


@pytest.mark.soak
def test_the_cosine_ends_the_training(videos, tmp_path):
    assert train_here(videos, tmp_path, "--cosine", 3).code == 0
    rates = [row["learning_rate"] for row in read_log(tmp_path)]
    assert len(rates) == 3
    assert rates[1] > rates[2] > 0


def test_another_index_is_another_training(videos, tmp_path):
    index = tmp_path / "videos.csv"
    index.write_text((videos / "videos.csv").read_text())
    assert train_here(videos, tmp_path / "results", "--csvpath", index, "--steps", 1).code == 0
    index.write_text("v0,0,12\n")
    require_refusal(train_here(videos, tmp_path / "results", "--csvpath", index), "--overwrite", "csvpath")


@pytest.mark.soak
def test_several_processes_tell_a_mistake_once(tmp_path):
    """A mistake that all processes find, or only one."""
    videos = write_videos(tmp_path / "videos")
    for more, told in ((["--bsize", 3], "--bsize 3"), (["--steps", 1], ".jpg")):
        if told == ".jpg":
            for path in videos.glob("v*/*.jpg"):
                path.write_bytes(b"")
        result = finish(start(videos, tmp_path / "results", *STAGE_1, *more, launcher=TORCHRUN))
        assert result.code
        (error,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
        assert told in error


def test_every_step_is_in_one_entry_of_the_log(videos, tmp_path):
    """An entry of two steps, and one of the step that is left at the end."""
    for every in (1, 2):
        assert train_here(videos, tmp_path / f"{every}", *STAGE_1, "--steps", 3, "--log_every", every).code == 0
    single, double = (read_log(tmp_path / f"{every}") for every in (1, 2))
    assert [row["step"] for row in double] == [2, 3]
    assert double[1] == single[2]
    for name in ("total", "pixel", "region", "compactness"):
        assert double[0][name] == pytest.approx((single[0][name] + single[1][name]) / 2, rel=1e-5)


def test_a_training_stopped_before_its_last_weights_saves_them(videos, tmp_path, monkeypatch):
    """Killed between the last state and the last weights: the same command writes them. It always tells where."""
    checks = []
    monkeypatch.setattr(train, "warn_if_amp_is_slower", lambda training: checks.append(training.progress.steps))
    outcome = train_here(videos, tmp_path, "--steps", 1)
    saved = f"ended at step 1; saved in {tmp_path / 'checkpoint_iter_1.pt'} and {tmp_path / 'last.pt'}"
    assert outcome.stdout.splitlines()[-1] == f"the training {saved}"
    weights, last = tmp_path / "checkpoint_iter_1.pt", tmp_path / "last.pt"
    weights.unlink()
    assert train_here(videos, tmp_path, "--steps", 1).code == 0
    before = weights.stat().st_mtime_ns, last.stat().st_mtime_ns
    outcome = train_here(videos, tmp_path, "--steps", 1)
    assert outcome.stdout == f"the training had {saved}\n"
    assert before == (weights.stat().st_mtime_ns, last.stat().st_mtime_ns)
    assert checks == [0]  # only where there are steps left
