"""Write the masks of methods without training, for evaluate_davis.py --predictions to score.

    python benchmarks/baselines.py copy --datapath data/2016 --year 2016 --savepath results/copy
    python evaluate_davis.py --predictions results/copy --datapath data/2016 --year 2016 --savepath results/copy-scores

copy repeats the first mask; flow moves it from frame to frame by OpenCV's DIS optical flow (medium preset).
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.davis import Sequence, load_sequences
from utils.errors import run
from utils.options import ArgumentParser
from utils.visualize import write_mask

Method = Callable[[Sequence], Iterator[np.ndarray]]


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


METHODS: dict[str, Method] = {"copy": copy, "flow": flow}


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
        folder.mkdir(parents=True, exist_ok=True)
        for frame, mask in zip(sequence.frames, METHODS[arguments.method](sequence), strict=True):
            write_mask(folder / f"{frame.stem}.png", mask)


if __name__ == "__main__":
    run(main)
