"""Print the index of training videos for a folder of frame folders: rows of video,first frame,number of frames.

    python scripts/index_videos.py ROOT > videos.csv
    python scripts/index_videos.py ROOT --without_every 10 > train.csv   all but every tenth video
    python scripts/index_videos.py ROOT --only_every 10 > held.csv       every tenth video, for validation

A video is a folder of numbered frames, ROOT/<video>/00000.jpg …; where numbers are missing, its longest run of
consecutive frames is taken.
"""

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from utils.errors import UserError, run_main
from utils.options import ArgumentParser, at_least

FRAME_NAME_DIGITS = 5


def main() -> None:
    """Read the command line and print the index."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of frame folders")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--without_every", type=at_least(2), metavar="N", help="leave out every N-th video")
    part.add_argument(
        "--only_every", type=at_least(2), metavar="N", help="only the videos that --without_every N leaves out"
    )
    arguments = parser.parse_args()
    rows = list_videos(arguments.root)
    every = arguments.without_every or arguments.only_every
    if every:
        held_out = rows[every - 1 :: every]
        rows = held_out if arguments.only_every else [row for row in rows if row not in held_out]
    if not rows:
        raise UserError(f"--only_every {every}: holds none of the videos")
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    sys.stderr.write(f"{len(rows)} videos, {sum(count for _, _, count in rows)} frames\n")


def list_videos(root: Path) -> list[tuple[str, int, int]]:
    """Name, first frame and number of frames of each video in a folder; UserError if there is none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    rows = [(folder.name, *longest_run(folder)) for folder in sorted(root.iterdir()) if folder.is_dir()]
    rows = [row for row in rows if row[2] > 0]
    if not rows:
        raise UserError(f"{root}: holds no folders of frames named 00000.jpg, 00001.jpg, …")
    return rows


def longest_run(folder: Path) -> tuple[int, int]:
    """First number and length of the longest run of consecutive frames in a folder; (0, 0) if it has none."""
    stems = (path.stem for path in folder.glob("*.jpg"))
    numbers = sorted(int(stem) for stem in stems if len(stem) == FRAME_NAME_DIGITS and stem.isdecimal())
    best, start = (0, 0), 0
    for i, number in enumerate(numbers):
        if i and number != numbers[i - 1] + 1:
            start = i
        if i - start + 1 > best[1]:
            best = numbers[start], i - start + 1
    return best


if __name__ == "__main__":
    run_main(main)
