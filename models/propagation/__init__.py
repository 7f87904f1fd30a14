"""Propagation of given labels through a video (docs/method.md §4)."""

from models.propagation.objects import ObjectPropagator, PreparedFrame, unknown_elsewhere
from models.propagation.propagator import UNKNOWN, NonFiniteFeaturesError, Prediction, Propagator
from models.propagation.protocol import (
    PROTOCOLS,
    LocalProtocol,
    ReferencePolicy,
    ToGrid,
    ToMask,
    TopKProtocol,
    released_protocol,
)

__all__ = [
    "PROTOCOLS",
    "UNKNOWN",
    "LocalProtocol",
    "NonFiniteFeaturesError",
    "ObjectPropagator",
    "Prediction",
    "PreparedFrame",
    "Propagator",
    "ReferencePolicy",
    "ToGrid",
    "ToMask",
    "TopKProtocol",
    "released_protocol",
    "unknown_elsewhere",
]
