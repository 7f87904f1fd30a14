"""Checkpoint files: which are accepted, how others are refused, and that no code in them is run."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evaluation.features import load_network
from models.liir import LIIR, TRAINING_ONLY
from tests.support.checkpoints import weights, write_checkpoint
from tests.support.commands import Outcome, require_refusal, require_success
from tests.support.davis import evaluate, write_davis
from tests.support.files import files
from tests.support.hostile_checkpoints import HOSTILE, Hostile
from tests.support.threads import one_thread
from training.files import steps_taken
from utils.checkpoint import load_weights, read_state_dict, sha256
from utils.errors import UserError

Command = Callable[..., Outcome]
CPU = torch.device("cpu")
HEAD = "post_convolution.bias"
REGION_HEAD = {"conv_semantic.weight": torch.ones(128, 256, 3, 3), "conv_semantic.bias": torch.ones(128)}
MOVING_AVERAGE = {name.replace("semantic", "semantic_k"): value for name, value in REGION_HEAD.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_davis(tmp_path_factory.mktemp("davis"), ("bear",))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.pt"


@pytest.fixture
def command(data, path, tmp_path) -> Command:
    """The evaluation of the checkpoint `path`, with more arguments."""
    return lambda *more: evaluate("--resume", path, "--datapath", data, "--savepath", tmp_path / "results", *more)


def half(state: dict[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def trained(state: dict[str, Tensor], queue: int) -> dict[str, Tensor]:
    """The reference's state_dict of a stage-2 training whose queue has this length."""
    return {
        **state,
        **REGION_HEAD,
        **MOVING_AVERAGE,
        "colorizer.feats_queue": torch.full((queue, 128, 2, 2), float("nan")),
        "colorizer.refs_queue": torch.zeros(queue, 3, dtype=torch.uint8),
        "colorizer.flag": torch.zeros((), dtype=torch.bool) if queue else torch.zeros(0),
    }


def adam_state() -> dict:
    """What torch.optim.Adam saves after a step."""
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def require_weights(path: Path, expected: dict[str, Tensor], *, usemomen: bool = False) -> None:
    """Assert that the network loaded from a file has these weights, as float32 and frozen."""
    with one_thread():
        model = load_network(path, usemomen=usemomen)
        state = model.state_dict()
        assert state.keys() == weights().keys()
        for name, value in state.items():
            assert value.dtype == (torch.float32 if value.is_floating_point() else torch.int64)
            assert torch.equal(value, expected[name].to(value.dtype)), name
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_precisions(path, dtype, capsys):
    state = half(weights(), dtype)
    write_checkpoint(path, state)
    require_weights(path, state)
    assert capsys.readouterr() == ("", "")


def test_half_precision_is_evaluated_as_its_values_in_single(path, command, tmp_path):
    state = half(weights())
    write_checkpoint(path, state)
    require_success(command())
    write_checkpoint(path, {name: value.float() for name, value in state.items()})
    require_success(command("--savepath", tmp_path / "single"))
    assert files(tmp_path / "single/benchmark") == files(tmp_path / "results/benchmark")


@pytest.mark.parametrize("queue", [0, 1, 100])
def test_training_state_is_left_out(path, queue, capsys):
    write_checkpoint(path, trained(weights(), queue))
    require_weights(path, weights(), usemomen=True)
    assert capsys.readouterr() == ("", "")


def test_region_head_of_another_size_is_left_out(path):
    write_checkpoint(path, {**weights(), "conv_semantic.weight": torch.zeros(1), "conv_semantic.bias": torch.zeros(0)})
    require_weights(path, weights())


def test_stages_of_the_network_load_as_they_are_saved(path):
    for settings in ({}, {"semantic": True}, {"momentum": True}):
        model = LIIR(**settings)
        write_checkpoint(path, model.state_dict())
        require_weights(path, model.state_dict(), usemomen="momentum" in settings)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module."])
def test_prefixes_of_wrappers_are_taken_off(path, prefix, capsys):
    """Those of DataParallel, Lightning and torch.compile, and of one inside the other."""
    write_checkpoint(path, {prefix + name: value for name, value in weights().items()})
    require_weights(path, weights())
    out, err = capsys.readouterr()
    assert out == ""
    (warning,) = err.splitlines()
    assert f"{path}: all names begin with {prefix}," in warning


def test_a_prefix_of_some_names_only_is_none(path):
    write_checkpoint(path, {**weights(), "module.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"unknown module\.weight"):
        load_network(path, usemomen=False)


def test_weights_without_a_dict_around_them(path, capsys):
    torch.save(weights(), path)
    require_weights(path, weights())
    assert "has no 'state_dict'" in capsys.readouterr().err


def test_progress_of_the_training_beside_the_weights(path, command):
    write_checkpoint(path, epoch=3, iter=12000, optimizer=adam_state(), lr=[0.1, None], name="stage 1")
    require_weights(path, weights())
    require_success(command())


@pytest.mark.parametrize("state", [weights(), half(trained(weights(), 2))], ids=["float32", "half with training state"])
def test_legacy_format(path, state):
    content = {"state_dict": state, "epoch": 3, "optimizer": adam_state()}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    require_weights(path, state, usemomen="conv_semantic_k.weight" in state)


def test_momentum_without_its_weights_is_warned_of(path, command):
    write_checkpoint(path)
    outcome = command("--usemomen")
    assert outcome.code == 0, outcome
    (warning,) = outcome.starting("warning: ")
    assert "--usemomen" in warning
    assert str(path) in warning
    assert "conv_semantic_k" in warning


def test_weights_of_momentum_without_it_are_warned_of(path, command):
    write_checkpoint(path, trained(weights(), 1))
    outcome = command()
    assert outcome.code == 0, outcome
    (warning,) = outcome.starting("warning: ")
    assert "--usemomen" in warning
    assert str(path) in warning


def test_weights_of_momentum_with_it_are_not(path, command):
    write_checkpoint(path, trained(weights(), 1))
    require_success(command("--usemomen", "--compact"))


def test_region_head_alone_is_no_momentum(path, command):
    """The prefix `conv_semantic.` is not taken for `conv_semantic_k.`."""
    write_checkpoint(path, {**weights(), **REGION_HEAD})
    require_success(command())


def test_many_wrong_names_are_told_in_few(path):
    write_checkpoint(path, {f"layer{index:03d}": torch.zeros(1) for index in range(500)})
    with pytest.raises(UserError, match="and 494 more") as error:
        load_weights(LIIR(), read_state_dict(path), path, unused=TRAINING_ONLY)
    assert len(str(error.value)) < 1000


def test_refused_weights_leave_the_network_as_it_was(path):
    model = nn.Linear(2, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for state in ({"weight": torch.ones(1, 2)}, {"weight": torch.ones(1, 2), "bias": torch.tensor([float("nan")])}):
        with pytest.raises(UserError):
            load_weights(model, state, path)
        torch.testing.assert_close(dict(model.state_dict()), before)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("label", ["bare pickle", "instead of weights", "legacy"])
def test_refusal_of_code_does_not_advise_to_run_it(command, path, label, tmp_path):
    """PyTorch's message explains how to load the file without protection."""
    HOSTILE[label](path, Hostile(tmp_path / "sentinel"))
    line = require_refusal(command())
    assert "weights_only" not in line
    assert "trust" not in line
    assert "\x1b" not in line


def test_protection_cannot_be_switched_off_by_the_environment(command, path, tmp_path, monkeypatch):
    """PyTorch obeys TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD where weights_only is not given."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": Hostile(tmp_path / "sentinel")}, path)
    require_refusal(command(), f"checkpoint {path}: ")
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        ({"position": {"epoch": 0, "steps": 7}, "iter": 3}, 7),
        ({"iter": 3}, 3),
        ({"position": 7}, None),
        ({"iter": "3"}, None),
        ({}, None),
        (torch.zeros(2), None),
    ],
)
def test_steps_taken_of_any_file(path, content, steps):
    torch.save(content, path)
    assert steps_taken(path) == steps


def test_sha256(path):
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
