"""The encoder and the protocol that the command line asks for."""

import pytest
import torch

from evaluation import features
from evaluation.features import Features, add_feature_options, feature_options, load_features, load_network
from functional.color import normalised_lab
from models.propagation import PROTOCOLS, LocalProtocol, ReferencePolicy
from tests.support.images import frame_pixels
from utils.bfloat16 import warn_if_slower
from utils.options import ArgumentParser


def features_of(*options: object, soft: bool = False) -> Features:
    """What a command line with these options loads."""
    parser = ArgumentParser()
    add_feature_options(parser)
    return load_features(feature_options(parser.parse_args([*map(str, options)])), torch.device("cpu"), soft=soft)


@pytest.mark.parametrize("protocol", ["liir", "crw", "dino"])
def test_liir_by_every_protocol(protocol, checkpoint):
    """Without --encoder, LIIR's features are propagated, at their stride of 4."""
    features = features_of("--protocol", protocol, "--resume", checkpoint)
    assert features.stride == 4
    assert features.protocol == PROTOCOLS[protocol][1]


def test_the_options_of_the_released_models(checkpoint):
    options = "--resume", checkpoint, "--usemomen", "--compact", "--ref", 2
    expected = {"search": False, "prior": True, "policy": ReferencePolicy.LAST}
    assert features_of(*options).protocol == LocalProtocol(**expected, foreground_gain=1.05)
    assert features_of(*options, soft=True).protocol == LocalProtocol(**expected, soft=True)


@pytest.mark.parametrize(("options", "dtype"), [([], torch.float32), (["--amp"], torch.bfloat16)])
def test_the_precision_of_the_encoder(options, dtype, checkpoint):
    features = features_of("--resume", checkpoint, *options)
    assert {value.dtype for value in features.encode.buffers()} == {dtype}


def test_amp_is_checked_on_a_cpu(checkpoint, monkeypatch):
    """Between the encoder in bfloat16 and the same in float32, whose features stay the same."""
    checked = []
    monkeypatch.setattr(features, "warn_if_slower", lambda *encoders: checked.extend(encoders))
    features_of("--resume", checkpoint)
    assert not checked
    encode = features_of("--resume", checkpoint, "--amp").encode
    assert checked[0] is encode
    assert [encoder.stem.weight.dtype for encoder in checked] == [torch.bfloat16, torch.float32]
    frame = normalised_lab(frame_pixels(0))[None]
    alone = encode(frame)
    warn_if_slower(*checked)
    torch.testing.assert_close(encode(frame), alone, atol=0, rtol=0)


def test_an_encoder_s_own_stride_goes_before_that_of_the_protocol():
    features = features_of("--encoder", "tests.support.features:kinds", "--protocol", "crw")
    assert (features.stride, features.propagator().stride) == (4, 4)


def test_the_backend_goes_to_the_propagator(checkpoint):
    features = features_of("--resume", checkpoint)
    assert features._replace(backend="sampler").propagator().backend == "sampler"


def test_a_loaded_network_is_in_evaluation_mode(checkpoint):
    assert not any(module.training for module in load_network(checkpoint, usemomen=False).modules())
