"""Check a downloaded benchmark for missing or misplaced files before it is evaluated.

python scripts/check_data.py davis data/2017/trainval
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders import badja, davis, jhmdb, vip, youtube_vos
from dataloaders.layout import LAYOUTS
from utils.errors import UserError, run_main
from utils.options import ArgumentParser

SHOWN = 20  # problems printed
WHOLE = {
    "davis 2016": (20,),
    "davis 2017": (30,),
    "youtube-vos": (474, 507),
    "vip": (50,),
    "jhmdb": (268,),
}  # numbers of videos
Load = Callable[[list[str]], list]


def main() -> None:
    """Read the command line, check every video, print the problems."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=LAYOUTS, help="benchmark")
    parser.add_argument("path", type=Path, help="its folder, as --datapath of the evaluation")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="DAVIS: year of the benchmark")
    parser.add_argument("--set", default="val", help="DAVIS: list of sequences in ImageSets")
    parser.add_argument("--subset", default="valid", help="YouTube-VOS: folder of the split")
    parser.add_argument(
        "--all_frames", action="store_true", help="YouTube-VOS: also the frames between the annotated ones"
    )
    arguments = parser.parse_args()
    root, dataset, subset = arguments.path, arguments.dataset, arguments.subset
    if dataset == "davis":
        dataset, subset = f"davis {arguments.year}", arguments.set
    names, load = open_dataset(dataset, root, subset, all_frames=arguments.all_frames)
    frames, problems = check(names, load)
    for problem in problems[:SHOWN]:
        print(problem)
    if problems:
        raise UserError(f"{root}: {len(problems)} of {len(names)} videos cannot be used; correct what is listed above")
    whole = WHOLE.get(dataset)
    note = f" (the whole set has {' or '.join(map(str, whole))})" if whole and len(names) not in whole else ""
    print(f"{len(names)} videos{note}, {frames} frames: all there")


def open_dataset(dataset: str, root: Path, subset: str, *, all_frames: bool) -> tuple[list[str], Load]:
    """The names of a dataset's videos, and what loads some of them."""
    match dataset.split():
        case ["davis", year]:
            names = davis.list_sequences(root, int(year), subset)
            return names, partial(davis.load_sequences, root, int(year), subset)
        case ["youtube-vos"]:
            load = partial(youtube_vos.load_videos, root, subset, all_frames=all_frames)
            return youtube_vos.list_videos(root, subset), load
        case ["vip"]:
            return vip.list_videos(root), partial(vip.load_videos, root)
        case ["jhmdb"]:
            return jhmdb.list_jhmdb(root), partial(jhmdb.load_jhmdb, root)
        case _:
            return sorted(badja.read_badja(root)), partial(badja.load_badja, root)


def check(names: list[str], load: Load) -> tuple[int, list[str]]:
    """The number of frames, and a problem for each video that cannot be loaded."""
    frames, problems = 0, []
    for name in names:
        try:
            (video,) = load([name])
            frames += len(video.frames)
        except UserError as error:
            problems.append(f"{name}: {error}")
    return frames, problems


if __name__ == "__main__":
    run_main(main)
