"""YouTube-VOS 2018 and 2019: propagate objects as they appear, write the server's zip, score where truth is at hand."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloaders.video import read_frame, read_frames, read_mask, require_size
from dataloaders.youtube_vos_val import META, Video, load_videos, read_meta
from encoders import Features
from evaluation import Record, add_evaluation_options, evaluate, masks_of
from functional.metrics import MEASURES, frame_scores
from submission import pack, validate
from utils.beside import in_background
from utils.errors import UserError, run, warn
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.report import REPORT, Picture, Section, to_show, write_report
from utils.savepath import write_json
from utils.visualize import overlay, write_mask

GROUPS = 4  # J and F of seen and unseen categories
OUTPUTS = ("Annotations", "sequences", "submission.zip", "results.json", REPORT)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    add_evaluation_options(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/youtube-vos"), help="folder with SUBSET/meta.json")
    parser.add_argument("--subset", default="valid", help="folder of the set")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="only these videos")
    parser.add_argument("--all_frames", action="store_true", help="propagate through SUBSET_all_frames' frames as well")
    parser.add_argument("--max_side", type=at_least(16), help="propagate frames no larger than this; native without")
    parser.add_argument(
        "--seen", type=Path, help="meta.json whose categories are seen in training; else train/meta.json"
    )
    add_savepath_options(parser, default="results/youtube-vos")
    return parser.parse_args()


def main() -> None:
    """Propagate, pack what the server wants, check it, score it if it can be."""
    arguments = parse_arguments()
    videos = load_videos(arguments.datapath, arguments.subset, arguments.videos, all_frames=arguments.all_frames)
    one = partial(propagate_one, savepath=arguments.savepath, max_side=arguments.max_side)
    finish = partial(write_results, videos, arguments)
    evaluate(videos, one, finish, arguments, outputs=OUTPUTS, holds=("objects",), unlike={"seen", "report"})


def propagate_one(video: Video, bar: tqdm, *, features: Features, savepath: Path, max_side: int | None) -> Record:
    """Propagate one video; its masks go to SAVEPATH/Annotations."""
    objects, folder = features.objects(max_side), savepath / "Annotations" / video.name
    scores = {one.number: {measure: [] for measure in MEASURES} for one in video.objects}
    with in_background() as beside:
        for path, (_, mask) in zip(
            video.frames, masks_of(objects, read_frames(video.frames), video.given), strict=True
        ):
            if path.stem in video.wanted:
                beside(put_away, video, path.stem, mask, folder, scores)
            bar.update()
    return {"frames": len(video.frames), "seconds": objects.seconds, "objects": scores if video.scored else {}}


def put_away(video: Video, frame: str, mask: np.ndarray, folder: Path, scores: dict) -> None:
    """Write a wanted frame's mask, and score the objects that are wanted there and were not given."""
    write_mask(folder / f"{frame}.png", mask)
    if video.scored:
        truth = video.truth(frame)
        require_size(video.masks / f"{frame}.png", truth, mask.shape)
        numbers = [one.number for one in video.objects if frame in one.frames[1:]]
        for number, values in frame_scores(mask, truth, numbers).items():
            for measure, value in values.items():
                scores[number][measure].append(value)


def write_results(
    videos: list[Video], arguments: argparse.Namespace, description: dict, records: dict[str, Record]
) -> None:
    """The zip for the server, checked; results.json; and the scores, where there is truth."""
    archive = pack(arguments.savepath, videos)
    validate(archive, videos)
    print(f"{archive}: complete; upload it to the evaluation server")
    results = {"arguments": description, "sequences": records}
    if all(video.scored for video in videos):
        if not all(records[video.name]["objects"] for video in videos):
            raise UserError(f"{arguments.savepath}: was propagated without these true masks; pass --overwrite")
        results["scores"] = youtube_vos_measure(videos, records, seen_categories(arguments))
        for name, value in results["scores"].items():
            print(f"{name:<9} {100 * value:.1f}")
    write_json(arguments.savepath / "results.json", results)
    if arguments.report:
        sections = (section(video, arguments.savepath, records[video.name]) for video in videos)
        table = [results["scores"]] if results.get("scores") else []
        write_report(arguments.savepath / REPORT, "YouTube-VOS: objects propagated", [table], sections)


def section(video: Video, savepath: Path, record: Record) -> Section:
    """One video's scores over the frames that are wanted, and those with the lowest; some frames without scores."""
    wanted = [frame for frame in video.frames if frame.stem in video.wanted]
    curves = over_wanted(video, record, [frame.stem for frame in wanted])
    masks = savepath / "Annotations" / video.name
    means = np.ma.masked_invalid(np.array(list(curves.values()), np.float64)).mean(0).filled(np.nan) if curves else ()
    pictures = [
        Picture(caption, overlay(read_frame(wanted[i]), read_mask(masks / f"{wanted[i].stem}.png")))
        for i, caption in to_show(len(wanted), means, first=0)
    ]
    return Section(video.name, curves, pictures=pictures)


def over_wanted(video: Video, record: Record, wanted: list[str]) -> dict[str, list[float | None]]:
    """J and F of each object over the wanted frames, None where it has none."""
    curves = {}
    for one in video.objects:
        for measure, values in record["objects"].get(str(one.number), {}).items():
            scores = dict(zip(one.frames[1:], values, strict=True))
            if scores:
                curves[f"{measure} of {one.number}"] = [scores.get(frame) for frame in wanted]
    return curves


def seen_categories(arguments: argparse.Namespace) -> set[str] | None:
    """The categories of the training set; None if it is not at hand."""
    path = arguments.seen or arguments.datapath / "train" / META
    if arguments.seen is None and not path.exists():
        warn(f"{path}: no such file: objects are not told apart as seen and unseen; name one with --seen")
        return None
    return {one.category for objects in read_meta(path).values() for one in objects}


def youtube_vos_measure(videos: list[Video], records: dict[str, Record], seen: set[str] | None) -> dict[str, float]:
    """J and F, means over objects of means over frames, of seen and unseen categories; G of all four."""
    means: dict[str, list[float]] = {}
    for video in videos:
        for one in video.objects:
            kind = "" if seen is None else " seen" if one.category in seen else " unseen"
            for measure, values in records[video.name]["objects"][str(one.number)].items():
                if values:
                    means.setdefault(measure + kind, []).append(float(np.mean(values)))
    scores = {name: float(np.mean(values)) for name, values in sorted(means.items())}
    return {"G": float(np.mean(list(scores.values()))), **scores} if len(scores) == GROUPS else scores


if __name__ == "__main__":
    run(main)
