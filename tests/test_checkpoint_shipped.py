"""The checkpoint in the repository is what its README says."""

import hashlib

import torch

from tests.conftest import golden_weights, load_golden
from utils.checkpoint import read_state_dict
from utils.options import DEFAULT_CHECKPOINT


def test_hash_is_the_readmes():
    digest = hashlib.sha256(DEFAULT_CHECKPOINT.read_bytes()).hexdigest()
    assert digest in (DEFAULT_CHECKPOINT.parent / "README.md").read_text()


def test_size():
    assert DEFAULT_CHECKPOINT.stat().st_size <= 14.5e6


def test_it_is_the_centred_random_network():
    expected = golden_weights(0.35, load_golden("sequence_clip")["post_convolution_bias"])
    state = read_state_dict(DEFAULT_CHECKPOINT)
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value.half() if value.is_floating_point() else value), name
