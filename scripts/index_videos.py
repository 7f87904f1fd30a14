"""Print the index of training videos for a folder of frame folders: rows of video,first frame,number of frames.

    python scripts/index_videos.py ROOT > videos.csv
    python scripts/index_videos.py ROOT --without_every 10 > train.csv   all but every tenth video
    python scripts/index_videos.py ROOT --only_every 10 > held.csv       every tenth video, for validation

A video is a folder of numbered frames, ROOT/<video>/00000.jpg …; where numbers are missing, its longest run of
consecutive frames is taken. What is left out is told.
"""

import csv
import io
import os
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders.frames import FRAME_SUFFIXES, OTHER_IMAGES
from dataloaders.names import is_hidden, some
from utils.errors import UserError, run_main, warn
from utils.options import ArgumentParser, at_least

Row = tuple[str, int, int]  # video, first frame, number of frames
IMAGES = FRAME_SUFFIXES + OTHER_IMAGES


def main() -> None:
    """Read the command line and print the index."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder of frame folders")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--without_every", type=at_least(2), metavar="N", help="leave out every N-th video")
    part.add_argument(
        "--only_every", type=at_least(2), metavar="N", help="only the videos that --without_every N leaves out"
    )
    arguments = parser.parse_args()
    rows = list_videos(arguments.root)
    if every := arguments.only_every:
        rows = rows[every - 1 :: every]
    elif every := arguments.without_every:
        del rows[every - 1 :: every]
    if not rows:
        raise UserError(f"--only_every {every}: holds none of the videos")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # as training reads it, wherever this runs
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
    sys.stderr.write(f"{len(rows)} videos, {sum(count for _, _, count in rows)} frames\n")


def list_videos(root: Path) -> list[Row]:
    """Name, first frame and number of frames of each video in a folder; UserError if there is none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    rows, unusable, unused = [], defaultdict(list), 0
    for name in sorted(entry.name for entry in entries(root) if entry.is_dir()):
        found = entries(root / name)
        images = [entry.name for entry in found if entry.name.lower().endswith(IMAGES)]
        first, count = longest_run(images)
        if reason := why_not(name, images, nested=any(entry.is_dir() for entry in found)):
            unusable[reason].append(name)
        else:
            rows.append((name, first, count))
            unused += len(images) - count
    total = len(rows) + sum(map(len, unusable.values()))
    for reason, names in unusable.items():
        warn(f"{root}: {len(names)} of {total} folders are left out ({some(names)}): {reason}")
    if unused:
        warn(f"{root}: {unused} images are left out, as they are outside their folder's longest run of frames")
    if not rows:
        raise UserError(f"{root}: holds no folders of frames named 00000.jpg, 00001.jpg, …")
    return rows


def entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder without hidden ones, in no order; UserError if it is unreadable."""
    try:
        with os.scandir(folder) as found:  # faster than pathlib in hundreds of thousands of folders
            return [entry for entry in found if not is_hidden(entry.name)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror or error}); check its permissions") from error


def why_not(name: str, images: list[str], *, nested: bool) -> str:
    """Why training could not read a folder, and the way out; empty if it can. nested: whether there are folders in it.

    Training reads ROOT/<video>/00000.jpg …, and the index is text in UTF-8 whose fields have no spaces at their ends.
    """
    if name != name.strip() or name.encode(errors="ignore").decode() != name:
        return "an index cannot hold their names; rename them"
    if any(map(is_frame, images)):
        return ""
    if not images:
        return "they contain folders; run this on each of them" if nested else "they contain no images"
    stems, _, suffixes = zip(*(name.rpartition(".") for name in images), strict=True)
    if "jpg" not in suffixes:
        return f"frames are .{', .'.join(sorted(set(suffixes)))}; convert or rename them to .jpg"
    if all(map(str.isdecimal, stems)):
        return f"frames have {' or '.join(map(str, sorted(set(map(len, stems)))))} digits; rename them to 00000.jpg …"
    return "frames have names that are not plain numbers; rename them to 00000.jpg …"


def is_frame(name: str) -> bool:
    """Whether a file is named as training names frames, by %05d.jpg."""
    stem, _, suffix = name.rpartition(".")
    return suffix == "jpg" and stem.isascii() and stem.isdecimal() and f"{int(stem):05d}" == stem


def longest_run(names: list[str]) -> tuple[int, int]:
    """First number and length of the longest run of consecutive frames among these files; (0, 0) if it has none."""
    numbers = sorted(int(name.removesuffix(".jpg")) for name in names if is_frame(name))
    best, start = (0, 0), 0
    for i, number in enumerate(numbers):
        if i and number != numbers[i - 1] + 1:
            start = i
        if i - start + 1 > best[1]:
            best = numbers[start], i - start + 1
    return best


if __name__ == "__main__":
    run_main(main)
