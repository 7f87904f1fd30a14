"""Write the masks of methods without training, for evaluate_davis.py --predictions to score.

    python benchmarks/baselines.py copy --datapath data/2016 --year 2016 --savepath results/copy
    python evaluate_davis.py --predictions results/copy --datapath data/2016 --year 2016 --savepath results/copy-scores

copy repeats the first mask; flow moves it from frame to frame by OpenCV's DIS optical flow (medium preset); colour
propagates it by LIIR's protocol, on colours instead of features; untrained by a network with its first weights.
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
from evaluation import masks_of
from models.inference import InferenceEncoder
from models.liir import LIIR
from models.objects import ObjectPropagator
from models.propagation import Propagator
from models.protocol import Propagation
from utils.errors import run
from utils.options import ArgumentParser
from utils.visualize import write_mask

Method = Callable[[Sequence], Iterator[np.ndarray]]

STRIDE = 4  # of the feature grid
LONGEST_COLOUR = 3.0  # largest squared length of a normalised Lab colour
COLOUR_LOGITS = 3000.0  # their scale: of 30, 100, 300, … 10000 the best on videos held out of training


def copy(sequence: Sequence) -> Iterator[np.ndarray]:
    """The first mask, for every frame."""
    first = sequence.first_mask()
    for _ in sequence.frames:
        yield first


def flow(sequence: Sequence) -> Iterator[np.ndarray]:
    """Each mask is the one before, read where the flow says that each pixel came from."""
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    mask, before = sequence.first_mask(), None
    cells = np.stack(np.meshgrid(np.arange(mask.shape[1]), np.arange(mask.shape[0])), -1).astype(np.float32)
    for frame in sequence.read_frames():
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if before is not None:
            mask = cv2.remap(mask, cells + method.calc(grey, before, None), None, cv2.INTER_NEAREST)
        before = grey
        yield mask


def colour(sequence: Sequence) -> Iterator[np.ndarray]:
    """LIIR's protocol on the mean colours of the feature grid's cells."""
    return propagate(sequence, encode_colours)


def untrained(sequence: Sequence) -> Iterator[np.ndarray]:
    """LIIR's protocol on the features of the network that training starts with."""
    torch.manual_seed(0)
    return propagate(sequence, InferenceEncoder(LIIR().eval()))


def encode_colours(frames: Tensor) -> Tensor:
    """Lab frames [B, 3, H, W] -> [B, 4, H/4, W/4]; a fourth number makes colours as long as each other.

    Among vectors of one length the dot product is largest for equal ones.
    """
    cells = F.avg_pool2d(frames, STRIDE)
    rest = (LONGEST_COLOUR - cells.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
    return COLOUR_LOGITS**0.5 * torch.cat((cells, rest), 1)


def propagate(sequence: Sequence, encode: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """Masks by LIIR's plain protocol, with any features."""
    objects, first = ObjectPropagator(Propagator(encode, Propagation(), stride=STRIDE)), sequence.first_mask()
    for _, mask in masks_of(objects, sequence.read_frames(), lambda index, _: None if index else first):
        yield mask


METHODS: dict[str, Method] = {"copy": copy, "flow": flow, "colour": colour, "untrained": untrained}


def main() -> None:
    """Read the command line and write SAVEPATH/SEQUENCE/00000.png …"""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS, help="which")
    parser.add_argument("--datapath", type=Path, default=Path("data/2017/trainval"), help="DAVIS folder")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="the benchmark's year")
    parser.add_argument("--set", default="val", help="list of sequences")
    parser.add_argument("--savepath", type=Path, required=True, help="folder for the masks")
    arguments = parser.parse_args()
    for sequence in tqdm(load_sequences(arguments.datapath, arguments.year, arguments.set), unit="sequence"):
        folder = arguments.savepath / sequence.name
        for frame, mask in zip(sequence.frames, METHODS[arguments.method](sequence), strict=True):
            write_mask(folder / f"{frame.stem}.png", mask)


if __name__ == "__main__":
    run(main)
