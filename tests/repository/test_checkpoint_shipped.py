"""The checkpoints in the repository: their hashes, their size, and that they follow objects."""

import numpy as np
import pytest
import torch

from dataloaders.davis import load_sequences
from evaluation.features import DEFAULT_CHECKPOINT, load_encoder
from functional.color import normalised_lab
from functional.metrics import jaccard
from models.liir import LIIR
from models.propagation import LocalProtocol, Propagator
from scripts import make_sample
from utils.checkpoint import load_weights, read_state_dict, sha256

FRAMES = 10


OTHER = DEFAULT_CHECKPOINT.with_name("liir_ape.pt")
SHIPPED = [DEFAULT_CHECKPOINT, OTHER]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_hash_is_the_readmes(path):
    assert sha256(path) in (path.parent / "README.md").read_text()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_it_is_small_and_whole(path):
    assert path.stat().st_size <= 14.5e6
    state = read_state_dict(path)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float16}
    heads = {"momentum": "conv_semantic_k.weight" in state, "semantic": "conv_semantic.weight" in state}
    load_weights(LIIR(**heads), state, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [DEFAULT_CHECKPOINT, pytest.param(OTHER, marks=pytest.mark.soak)])
def test_it_follows_objects(path, tmp_path):
    """Far better than a copy of the first mask, on the first frames of the sample clip."""
    make_sample.write_sample(make_sample.load_all(), tmp_path)
    (sequence,) = load_sequences(tmp_path, 2017, "val")
    encode = load_encoder(path, torch.device("cpu"), usemomen=False)
    propagator, first = Propagator(encode, LocalProtocol()), sequence.first_mask()
    for index, frame in zip(range(FRAMES), sequence.read_frames(), strict=False):
        labels = None if index else torch.from_numpy(first)
        found = propagator.step(normalised_lab(frame), labels).mask.numpy()
    truth = sequence.read_mask(FRAMES - 1)
    for number in np.unique(first)[1:]:
        ours, copied = (jaccard(mask == number, truth == number) for mask in (found, first))
        assert ours > 0.7
        assert ours > copied + 0.1
