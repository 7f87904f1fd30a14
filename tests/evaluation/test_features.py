"""The encoder and the protocol that the command line asks for."""

import pytest
import torch

from evaluation.features import add_feature_options, feature_options, load_features
from models.propagation import PROTOCOLS
from utils.options import ArgumentParser


@pytest.mark.parametrize("protocol", ["liir", "crw", "dino"])
def test_liir_by_every_protocol(protocol, checkpoint):
    """Without --encoder, LIIR's features are propagated, at their stride of 4."""
    parser = ArgumentParser()
    add_feature_options(parser)
    arguments = parser.parse_args(["--protocol", protocol, "--resume", str(checkpoint)])
    features = load_features(feature_options(arguments), torch.device("cpu"))
    assert features.stride == 4
    assert features.protocol == PROTOCOLS[protocol][1]
