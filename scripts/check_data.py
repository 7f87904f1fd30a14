"""Say what is missing or misplaced in a downloaded benchmark, before an evaluation stumbles over it.

python scripts/check_data.py davis data/2017/trainval
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from dataloaders import davis, jhmdb, vip, youtube_vos_val
from dataloaders.layout import LAYOUTS
from utils.errors import UserError, run
from utils.options import ArgumentParser

SHOWN = 20  # problems
WHOLE = {"davis 2016": (20,), "davis 2017": (30,), "youtube-vos": (474, 507), "vip": (50,), "jhmdb": (268,)}  # videos


def main() -> None:
    """Read the command line, check every video, print what is wrong."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=LAYOUTS, help="which")
    parser.add_argument("path", type=Path, help="its folder, the --datapath of its evaluation")
    parser.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="of DAVIS")
    parser.add_argument("--set", default="val", help="of DAVIS")
    parser.add_argument("--subset", default="valid", help="of YouTube-VOS")
    parser.add_argument("--all_frames", action="store_true", help="of YouTube-VOS: also those between the wanted ones")
    arguments = parser.parse_args()
    root = arguments.path
    loaders = {
        "davis": lambda names: davis.load_sequences(root, arguments.year, arguments.set, names),
        "youtube-vos": lambda names: youtube_vos_val.load_videos(
            root, arguments.subset, names, all_frames=arguments.all_frames
        ),
        "vip": lambda names: vip.load_videos(root, names),
        "jhmdb": lambda names: jhmdb.load_jhmdb(root, names),
        "badja": lambda names: jhmdb.load_badja(root, names),
    }
    names = {
        "davis": lambda: davis.list_sequences(root, arguments.year, arguments.set),
        "youtube-vos": lambda: youtube_vos_val.list_videos(root, arguments.subset),
        "vip": lambda: vip.list_videos(root),
        "jhmdb": lambda: jhmdb.list_jhmdb(root),
        "badja": lambda: sorted(jhmdb.read_badja(root)),
    }
    listed = names[arguments.dataset]()
    frames, problems = check(listed, loaders[arguments.dataset])
    for problem in problems[:SHOWN]:
        print(problem)
    if problems:
        raise UserError(f"{root}: {len(problems)} of {len(listed)} videos cannot be used; mend what is named above")
    whole = WHOLE.get(f"davis {arguments.year}" if arguments.dataset == "davis" else arguments.dataset)
    note = f" (the whole set has {' or '.join(map(str, whole))})" if whole and len(listed) not in whole else ""
    print(f"{len(listed)} videos{note}, {frames} frames: all there")


def check(names: list[str], load: Callable[[list[str]], list]) -> tuple[int, list[str]]:
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
    run(main)
