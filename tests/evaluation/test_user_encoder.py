"""User-supplied encoders, --encoder module:function."""

import importlib
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import evaluate_davis
import evaluate_jhmdb
import evaluate_vip
import evaluate_youtube_vos
import propagate
from evaluation.user_encoder import CheckedEncoder, load_user_encoder
from functional.color import normalised_lab
from tests.support import jhmdb, user_video, vip, youtube_vos
from tests.support.commands import Outcome, require_refusal, require_success, run_script
from tests.support.davis import evaluate, write_davis
from utils.errors import UserError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--encoder", "nowhere:function"], "--encoder nowhere:function"),
        (["--encoder", "tests.support.features:nothing"], "--encoder tests.support.features:nothing"),
        (["--encoder", "tests.features"], "module:function"),
        (["--encoder", "tests.support.features:nothing_to_call"], "None"),
        (["--encoder", "tests.support.features:other_stride"], "stride 8"),
        (["--encoder", "tests.support.features:other_columns"], "(1, 3, 8, 18)"),
        (["--encoder", "tests.support.features:stride_of_nothing"], "`stride` is 0"),
        (["--encoder", "tests.support.features:pair_of_strides"], "(8, 8)"),
        (["--encoder", "tests.support.features:not_finite"], "frame 0: its features are not finite"),
        (["--encoder", "tests.support.features:tokens"], "(1, 288, 17)"),
        (["--encoder", "tests.support.features:of_no_size"], "AssertionError at features.py:"),
        (["--encoder", "tests.support.features:of_one_size"], "on frames (1, 1, 24, 32)"),
        (["--encoder", "tests.support.features:failing"], "IndexError at features.py:"),
        (["--encoder", "tests.support.features:kinds", "--amp"], "--amp"),
        (["--encoder", "tests.support.features:kinds", "--compact"], "--protocol crw"),
        (["--encoder", "tests.support.features:kinds", "--protocol", "other"], "--protocol"),
    ],
)
def test_encoders_that_cannot_be_used(options, told, tmp_path):
    data = write_davis(tmp_path / "davis")
    require_refusal(evaluate(*options, "--datapath", data, "--savepath", tmp_path / "results"), told)


@pytest.mark.parametrize("protocol", ["liir", "crw"])
@pytest.mark.parametrize(
    ("script", "write", "where"),
    [
        (evaluate_davis, write_davis, ["--datapath"]),
        (evaluate_youtube_vos, youtube_vos.write_set, ["--datapath"]),
        (evaluate_vip, vip.write_set, ["--size", 64, "--datapath"]),
        (evaluate_jhmdb, jhmdb.write_set, ["--size", 64, "--datapath"]),
        (propagate, user_video.write_set, ["frames", "--mask", "first.png"]),
    ],
    ids=["davis", "youtube_vos", "vip", "jhmdb", "propagate"],
)
def test_frames_must_not_be_resized_by_prepare(script, write, where, protocol, tmp_path, monkeypatch):
    """Masks and joints would be in other places."""
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = "--encoder", "tests.support.features:resizing", "--protocol", protocol, "--device", "cpu"
    place = [] if script is propagate else [tmp_path]
    outcome = run_script(script, *options, "--savepath", tmp_path / "results", *where, *place)
    require_refusal(outcome, "`prepare` maps a frame", "--max_side")


def test_an_import_of_a_module_of_ours_by_a_running_encoder_is_explained(source):
    (source / "utils.py").write_text("def theirs(frames): return frames[..., ::8, ::8]")
    (source / "lazy_net.py").write_text(
        "def encode(frames):\n    from utils import theirs\n    return theirs(frames)\ndef make(_): return encode\n"
    )
    encoder, _ = load_user_encoder("lazy_net:make", torch.device("cpu"))
    with pytest.raises(UserError, match="import utils at the top of its module") as refusal:
        CheckedEncoder("lazy_net:make", encoder, 8, normalised_lab)(torch.zeros(1, 3, 64, 72))
    assert isinstance(refusal.value.__cause__, ImportError)


def test_modules_that_cannot_be_compiled(source):
    (source / "broken_net.py").write_text("def make(:")
    with pytest.raises(UserError, match="cannot be imported"):
        load_user_encoder("broken_net:make", torch.device("cpu"))


def test_a_changed_encoder_is_another_run(tmp_path, monkeypatch):
    """A change of its source or weights is refused; modules that it imports when called are found."""
    data = write_davis(tmp_path / "davis")
    monkeypatch.chdir(tmp_path)
    source = """
import torch
def make(device):
    import helper_of_mine
    torch.manual_seed(SEED)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8))
"""
    (tmp_path / "helper_of_mine.py").write_text("")
    command = "--encoder", "net_of_mine:make", "--datapath", data, "--savepath", tmp_path / "results"

    def run(seed: int, more: str = "") -> Outcome:
        (tmp_path / "net_of_mine.py").write_text(source.replace("SEED", str(seed)) + more)
        for name in ("net_of_mine", "helper_of_mine"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        with torch.random.fork_rng(devices=[]), patch.object(sys, "dont_write_bytecode", True):
            return evaluate(*command)

    require_success(run(0))
    require_success(run(0))
    require_refusal(run(1), "encoder_sha256")
    require_refusal(run(0, "# changed"), "encoder_sha256")


VISION_TRANSFORMER = """
import torch
from models.layers import PATCH
from utils import trunc_normal_


class VisionTransformer(torch.nn.Module):
    stride = PATCH

    def __init__(self):
        super().__init__()
        self.projection = torch.nn.Conv2d(3, 8, PATCH, PATCH)
        trunc_normal_(self.projection.weight)

    def forward(self, frames):
        return self.projection(frames)


def vit(device):
    from utils import trunc_normal_ as the_same_function

    assert the_same_function is trunc_normal_
    return VisionTransformer().to(device)
"""


def test_an_encoder_s_own_modules_named_like_packages_of_ours(tmp_path, monkeypatch):
    """As in DINO's repository, whose vision_transformer.py says `from utils import trunc_normal_`."""
    folder = tmp_path / "dino"
    (folder / "models").mkdir(parents=True)
    (folder / "vision_transformer.py").write_text(VISION_TRANSFORMER)
    (folder / "utils.py").write_text("from torch.nn.init import trunc_normal_\n")
    (folder / "models" / "__init__.py").write_text("")
    (folder / "models" / "layers.py").write_text("PATCH = 16\n")
    data = write_davis(tmp_path / "davis")
    monkeypatch.chdir(folder)
    ours = {name: sys.modules[name] for name in ("utils", "utils.errors", "models", "models.liir")}
    options = "--encoder", "vision_transformer:vit", "--protocol", "dino", "--datapath", data
    require_success(evaluate(*options, "--savepath", tmp_path / "results"))
    assert {name: sys.modules[name] for name in ours} == ours
    assert "models.layers" not in sys.modules


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder behind all others in which Python finds modules."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_modules_of_an_encoder_may_be_named_like_ours(source):
    """It finds its own, in the function and after it; ours are back afterwards, and theirs gone."""
    (source / "utils").mkdir()
    (source / "utils" / "__init__.py").write_text("")
    (source / "utils" / "theirs.py").write_text("NAME = 'theirs'")
    (source / "shadowing_net.py").write_text(
        "from utils import theirs\n"
        "def make(device):\n"
        "    from utils.theirs import NAME\n"
        "    return lambda: (NAME, theirs.NAME, device)\n"
    )
    ours, path, device = sys.modules["utils"], sys.path.copy(), torch.device("cpu")
    encoder, _ = load_user_encoder("shadowing_net:make", device)
    assert encoder() == ("theirs", "theirs", device)
    assert sys.modules["utils"] is ours
    assert "utils.theirs" not in sys.modules
    assert [entry for entry in sys.path if entry not in path] in ([], [str(Path.cwd())])


def test_the_hash_is_that_of_the_weights_too(source):
    (source / "random_net.py").write_text("import torch\ndef make(device):\n    return torch.nn.Linear(2, 2)\n")
    hashes = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            hashes.append(load_user_encoder("random_net:make", torch.device("cpu"))[1])
    assert hashes[0] == hashes[1] != hashes[2]
