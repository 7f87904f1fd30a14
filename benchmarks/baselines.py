"""Write the masks of untrained baselines, to be scored by evaluate_davis.py --predictions.

    python benchmarks/baselines.py copy --datapath data/2016 --year 2016 --savepath results/copy
    python evaluate_davis.py --predictions results/copy --datapath data/2016 --year 2016 --savepath results/copy-scores

copy repeats the first mask; flow warps it from frame to frame by OpenCV's DIS optical flow (medium preset); colour
propagates it by LIIR's protocol, on colours instead of features; untrained on features of the initial weights.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import Sequence, load_sequences
from models.folded_encoder import FoldedEncoder
from models.liir import LIIR
from models.propagation import LocalProtocol, ObjectPropagator, Propagator
from utils.background import read_ahead
from utils.errors import run_main
from utils.options import ArgumentParser
from utils.visualize import write_mask

Method = Callable[[Sequence], Iterator[np.ndarray]]

STRIDE = 4  # of the feature grid
LONGEST_COLOUR = 3.0  # largest squared norm of a normalised Lab colour
COLOUR_LOGITS = 3000.0  # scale of the logits: of 30, 100, 300, … 10000 the best on held-out videos


def copy(sequence: Sequence) -> Iterator[np.ndarray]:
    """The first mask, for every frame."""
    first = sequence.first_mask()
    for _ in sequence.frames:
        yield first


def flow(sequence: Sequence) -> Iterator[np.ndarray]:
    """Each mask is the previous one, warped by the optical flow from the frame to the previous frame."""
    method = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_MEDIUM)
    mask, before = sequence.first_mask(), None
    cells = np.stack(np.meshgrid(np.arange(mask.shape[1]), np.arange(mask.shape[0])), -1).astype(np.float32)
    for frame in sequence.read_frames():
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if before is not None:
            x, y = cv2.split(cells + method.calc(grey, before, np.empty(0)))
            mask = cv2.remap(mask, x, y, cv2.INTER_NEAREST)
        before = grey
        yield mask


def colour(sequence: Sequence) -> Iterator[np.ndarray]:
    """LIIR's protocol on the mean colour of each cell of the feature grid."""
    return propagate(sequence, encode_colours)


def untrained(sequence: Sequence) -> Iterator[np.ndarray]:
    """LIIR's protocol on the features of the network before training."""
    torch.manual_seed(0)
    return propagate(sequence, FoldedEncoder(LIIR().eval()))


def encode_colours(frames: Tensor) -> Tensor:
    """Lab frames [B, 3, H, W] -> [B, 4, H/4, W/4]; the fourth channel gives all vectors the same norm.

    Among vectors of the same norm the dot product is largest for equal ones.
    """
    cells = F.avg_pool2d(frames, STRIDE)
    rest = (LONGEST_COLOUR - cells.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
    return COLOUR_LOGITS**0.5 * torch.cat((cells, rest), 1)


def propagate(sequence: Sequence, encode: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """Masks by LIIR's plain protocol, with any features."""
    objects, first = ObjectPropagator(Propagator(encode, LocalProtocol(), stride=STRIDE)), sequence.first_mask()
    for index, frame in enumerate(read_ahead(map(objects.prepare, sequence.read_frames()))):
        yield objects.step(frame, None if index else first)


METHODS: dict[str, Method] = {"copy": copy, "flow": flow, "colour": colour, "untrained": untrained}


def main() -> None:
    """Read the command line and write SAVEPATH/SEQUENCE/00000.png …"""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS, help="baseline")
    parser.add_argument("--datapath", type=Path, default=Path("data/2017/trainval"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list of sequences in ImageSets")
    parser.add_argument("--savepath", type=Path, required=True, help="folder to write the masks to")
    arguments = parser.parse_args()
    for sequence in tqdm(load_sequences(arguments.datapath, arguments.year, arguments.set), unit="sequence"):
        folder = arguments.savepath / sequence.name
        for frame, mask in zip(sequence.frames, METHODS[arguments.method](sequence), strict=True):
            write_mask(folder / f"{frame.stem}.png", mask)


if __name__ == "__main__":
    run_main(main)
