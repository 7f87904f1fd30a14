"""Agreement with the tensors and masks of the reference implementation, within the golden files' tolerances."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dataloaders.davis import load_sequences
from dataloaders.frames import read_frame
from functional.attention import attend
from functional.color import normalised_lab
from functional.compactness import PEAK_AT_TEST
from functional.correlation import correlate
from models.folded_encoder import FoldedEncoder
from models.propagation import LocalProtocol, Propagator, released_protocol
from tests.support.golden import golden_model, load_golden

pytestmark = pytest.mark.parity

STEPS = ("near", "mid", "far", "veryfar")
SCALES = {"s08": 0.08, "s20": 0.2}
Encode = Callable[[Tensor], Tensor]
MODELS = {
    "plain": released_protocol(momentum=False, compact=False),
    "plain_compact": released_protocol(momentum=False, compact=True),
    "momentum": released_protocol(momentum=True, compact=False),
    "momentum_compact": released_protocol(momentum=True, compact=True),
}


@pytest.fixture(params=["native", pytest.param("sampler", marks=pytest.mark.soak)])
def backend_of_sequences(request) -> str:
    """The backend for sequences and full-size frames, for which the sampler takes minutes."""
    if request.param == "sampler":
        pytest.importorskip("spatial_correlation_sampler", reason="run scripts/install_sampler.sh")
    return request.param


def encode_all(encode: Encode, frames: np.ndarray) -> list[Tensor]:
    """Features [1, 64, h, w] of each of the BGR frames [T, H, W, 3], padded to a multiple of 4."""
    height, width = frames.shape[1:3]
    padding = (0, -width % 4, 0, -height % 4)
    return [encode(F.pad(normalised_lab(frame), padding)[None]) for frame in frames]


def remembered_step(
    propagation: LocalProtocol,
    features: list[Tensor],
    masks: np.ndarray,
    references: list[int],
    target: int,
    *,
    backend: str = "native",
) -> Tensor:
    """Soft labels [K, h, w] of frame `target`, the last of `features`, given the masks of the references before it."""
    upcoming = iter(features)
    propagator = Propagator(lambda _: next(upcoming), propagation, backend=backend)
    blank = torch.zeros(3, *masks.shape[1:])
    for index, mask in zip(references, masks, strict=True):
        propagator.frame = index
        propagator.step(blank, torch.as_tensor(mask))
    propagator.frame = target
    return propagator.step(blank).soft


def assert_agrees(soft: Tensor, golden: np.ndarray, propagation: LocalProtocol, gaps: list[int]) -> None:
    """Within the golden files' tolerance, wider where a search has fractional offsets and where the prior has peaks."""
    error = np.abs(soft.numpy() - golden[: len(soft)])
    if propagation.search and max(gaps) > 15:
        assert (error <= 1e-4).mean() >= 0.995
        assert (error <= (2e-3 if propagation.prior else 5e-4)).mean() >= (0.999 if propagation.prior else 1)
    else:
        assert error.max() <= 1e-4


@pytest.fixture(scope="module")
def encoded():
    """Features of the frames of each golden step, by its name and head scale."""
    return {
        (name, scale): encode_all(golden_model(SCALES[scale]).encode, load_golden(f"eval_{name}")["frames_bgr"])
        for name in STEPS
        for scale in SCALES
    }


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("layout", ["plain", "inference"])
def test_features(name, layout):
    golden = load_golden(f"eval_{name}")
    model = golden_model(SCALES["s20"])
    encode = model.encode if layout == "plain" else FoldedEncoder(model)
    features = encode_all(encode, golden["frames_bgr"][-1:])[0][0]
    assert np.abs(features.numpy() - golden["target_feature_s20"]).max() <= 1e-4


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.usefixtures("same_rounding")
def test_evaluation_step(name, scale, model, backend, encoded):
    golden, propagation = load_golden(f"eval_{name}"), MODELS[model]
    references, target = golden["ref_index"].tolist(), int(golden["target_index"])
    assert LocalProtocol().references(target) == references
    soft = remembered_step(propagation, encoded[name, scale], golden["ref_masks"], references, target, backend=backend)
    assert_agrees(soft, golden[f"probability_{model}_{scale}"], propagation, [target - r for r in references])


@pytest.mark.parametrize("model", MODELS)
def test_masks_of_a_sequence(model, backend_of_sequences):
    golden = load_golden("sequence_clip")
    encode = FoldedEncoder(golden_model(0.35, golden["post_convolution_bias"]))
    predicted = propagate_sequence(encode, MODELS[model], golden, backend_of_sequences)
    assert (predicted == golden[f"predicted_{model}"]).mean() >= 0.9998


def propagate_sequence(encode: Encode, propagation: LocalProtocol, golden: dict, backend: str) -> np.ndarray:
    """Predicted masks [T, H, W] of a whole golden sequence."""
    propagator = Propagator(encode, propagation, backend=backend)
    first = torch.as_tensor(golden["masks"][0])
    frames = [normalised_lab(frame) for frame in golden["frames_bgr"]]
    return np.stack([propagator.step(f, None if t else first).mask.numpy() for t, f in enumerate(frames)])


@pytest.mark.parametrize("model", MODELS)
def test_masks_of_a_real_sequence(model, shared, backend_of_sequences):
    with np.load(shared / "golden" / "sequence_car-shadow.npz") as arrays:
        golden = dict(arrays)
    encode = FoldedEncoder(golden_model(0.35, golden["post_convolution_bias"]))
    predicted = propagate_sequence(encode, MODELS[model], golden, backend_of_sequences)
    assert (predicted == golden[f"predicted_{model}"]).mean() >= 0.9998


@pytest.fixture(scope="module")
def full_size(shared):
    """The step at 480×854: its golden file, the masks of its references and the features of all its frames."""
    with np.load(shared / "golden" / "eval_full.npz") as arrays:
        golden = dict(arrays)
    sequence = load_sequences(shared / "davis", 2016, "val", [str(golden["sequence"])])[0]
    references = golden["ref_index"].tolist()
    frames = [read_frame(sequence.frames[index]) for index in [*references, int(golden["target_index"])]]
    masks = np.stack([sequence.read_mask(index) for index in references])
    return golden, masks, encode_all(golden_model(0.35, golden["post_convolution_bias"]).encode, np.stack(frames))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("same_rounding")
def test_evaluation_step_at_full_size(model, full_size, backend_of_sequences):
    golden, masks, features = full_size
    references, target = golden["ref_index"].tolist(), int(golden["target_index"])
    soft = remembered_step(MODELS[model], features, masks, references, target, backend=backend_of_sequences)
    expected = golden[f"probability_{model}"]
    if model == "momentum_compact":
        undecided = queries_at_the_threshold(features)
        assert undecided.float().mean() < 1e-3
        soft = torch.where(undecided, torch.as_tensor(expected), soft)
    assert_agrees(soft, expected, MODELS[model], [target - r for r in references])


def queries_at_the_threshold(features: list[Tensor], margin: float = 1e-6) -> Tensor:
    """Queries [h, w] with a window whose largest weight equals the prior's threshold up to rounding.

    features: of the references, then of the target.
    """

    logits = torch.stack([correlate(features[-1], key, 14) for key in features[:-1]])  # [T, 1, P*P, h, w]
    weights = logits.transpose(0, 1).flatten(1, 2).softmax(1).unflatten(1, (len(logits), -1))
    return ((weights.amax(2)[0] - PEAK_AT_TEST).abs() < margin).any(0)


def test_batch_of_several(encoded, backend):
    """Two different steps in one call of `attend` give the results of two calls."""
    queries, keys, values, expected = [], [], [], []
    for name in ("mid", "far"):
        golden, features = load_golden(f"eval_{name}"), encoded[name, "s20"]
        labels = torch.as_tensor(golden["ref_masks"][:, ::4, ::4]).long()
        one_hot = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
        one_hot[:, 1:] *= MODELS["momentum_compact"].foreground_gain
        queries.append(features[-1][0])
        keys.append(torch.cat(features[:-1]))
        values.append(one_hot)
        expected.append(golden["probability_momentum_compact_s20"])
    references = (torch.stack(of_both, 1) for of_both in (keys, values))  # [T, 2, …]
    soft = attend(torch.stack(queries), *references, radius=14, prior=True, backend=backend)
    assert np.abs(soft.numpy() - np.stack(expected)).max() <= 1e-4
