"""JHMDB: propagate the joints of the first frame as heat maps, and score them by PCK; also the animals of BADJA."""

import argparse
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from dataloaders.jhmdb import Video, load_badja, load_jhmdb
from dataloaders.video import read_frame, read_squeezed
from encoders import Features
from evaluation import Record, add_evaluation_options, evaluate
from functional.keypoints import correct_share, heat_maps, joint_positions, normalised_distances
from utils.beside import read_ahead
from utils.errors import UserError, run
from utils.options import ArgumentParser, add_savepath_options, at_least, comma_separated
from utils.report import REPORT, Picture, Section, to_show, write_report
from utils.savepath import write_csv, write_json
from utils.visualize import davis_palette

OUTPUTS = ("sequences", "joints.csv", "results.json", REPORT)
THRESHOLDS = (0.1, 0.2)
LOADERS = {"jhmdb": load_jhmdb, "badja": load_badja}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    add_evaluation_options(parser)
    parser.add_argument("--datapath", type=Path, default=Path("data/jhmdb"), help="folder with joint_positions")
    parser.add_argument("--layout", choices=LOADERS, default="jhmdb", help="whose joints they are")
    parser.add_argument("--videos", type=comma_separated, metavar="A,B", help="only these videos")
    parser.add_argument("--size", type=at_least(16), default=320, help="side of the square that frames are squeezed to")
    parser.add_argument("--with_first", action="store_true", help="count the frame whose joints are given")
    parser.add_argument("--all_joints", action="store_true", help="count joints that are lost, as wrong")
    add_savepath_options(parser, default="results/jhmdb")
    return parser.parse_args()


def main() -> None:
    """Propagate and score."""
    arguments = parse_arguments()
    videos = LOADERS[arguments.layout](arguments.datapath, arguments.videos)
    finish = partial(write_results, videos, arguments)
    one = partial(propagate_one, size=arguments.size)
    evaluate(
        videos,
        one,
        finish,
        arguments,
        outputs=OUTPUTS,
        holds=("joints",),
        unlike={"with_first", "all_joints", "report"},
        soft=True,
    )


def propagate_one(video: Video, bar: tqdm, *, features: Features, size: int) -> Record:
    """Propagate the heat maps of one video; where its joints are found, in pixels of its frames [T, J, 2]."""
    propagator, grid = features.propagator(), -(-size // features.stride)
    height, width = video.frame_size
    pixels = np.array([width, height]) / size * features.stride  # of a cell
    first = heat_maps(torch.from_numpy((video.joints[0] / pixels).astype(np.float32)), grid, grid)
    frames = map(features.prepare, read_squeezed(video.frames, size))
    found = []
    for index, frame in enumerate(read_ahead(frames)):
        soft = propagator.step(frame.to(features.device), None if index else first).soft
        found.append(joint_positions(soft[1:].float().cpu()).numpy() * pixels)
        bar.update()
    places = np.array(found)
    return {"frames": len(video.frames), "joints": np.where(np.isnan(places), None, places).tolist()}


def write_results(
    videos: list[Video], arguments: argparse.Namespace, description: dict, records: dict[str, Record]
) -> None:
    """PCK of every joint that counts anywhere, over all frames of all videos, and the mean over joints."""
    parts = [distances_of(video, np.array(records[video.name]["joints"], np.float64), arguments) for video in videos]
    distances = np.concatenate(parts)
    shares = {f"PCK@{threshold}": correct_share(distances, threshold) for threshold in THRESHOLDS}
    rows = [
        {"Joint": name} | {measure: float(share[j]) for measure, share in shares.items()}
        for j, name in enumerate(videos[0].names)
        if not np.isnan(distances[:, j]).all()
    ]
    if not rows:
        raise UserError(f"--datapath {arguments.datapath}: no joint counts; see --with_first and --all_joints")
    means = {measure: float(np.nanmean(share)) for measure, share in shares.items()}
    for row in [*rows, {"Joint": "mean", **means}]:
        print(f"{row['Joint']:<15} " + "  ".join(f"{measure} {100 * row[measure]:5.1f}" for measure in shares))
    first = "counted" if arguments.with_first else "not counted"
    lost = "count as wrong" if arguments.all_joints else "do not count"
    box = "the box of a frame's true joints"
    print(f"first frames {first}; joints that are lost {lost}; distances by 0.6 of the diagonal of {box}")
    write_csv(arguments.savepath / "joints.csv", rows)
    counted = {"with_first": arguments.with_first, "all_joints": arguments.all_joints}
    write_json(
        arguments.savepath / "results.json",
        {"arguments": description, "counted": counted, "scores": means, "joints": rows, "sequences": records},
    )
    if arguments.report:
        sections = (section(video, records[video.name], part) for video, part in zip(videos, parts, strict=True))
        title = "Joints propagated from the first frame"
        write_report(arguments.savepath / REPORT, title, [[means], rows], sections)


def section(video: Video, record: Record, distances: np.ndarray) -> Section:
    """One video's share of correct joints over time, and its worst frames: joints found (o) and true (+)."""
    shares, first = correct_share(distances.T, THRESHOLDS[-1]), len(video.frames) - len(distances)
    found = np.array(record["joints"], np.float64)
    pictures = [
        Picture(caption, draw_joints(read_frame(video.frames[i]), found[i], video.joints[i]))
        for i, caption in to_show(len(video.frames), shares, first)
    ]
    values = [None if np.isnan(share) else float(share) for share in shares]
    return Section(video.name, {f"PCK@{THRESHOLDS[-1]}": values}, first=first, pictures=pictures)


def draw_joints(frame: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """A frame, BGR [H, W, 3], with a circle where each joint is found and a cross where it is -> RGB uint8."""
    picture = np.ascontiguousarray(frame[..., ::-1])
    for joint, (of_found, of_true) in enumerate(zip(found, true, strict=True)):
        colour = davis_palette()[joint + 1].tolist()
        if not np.isnan(of_true).any():
            cv2.drawMarker(picture, of_true.round().astype(int).tolist(), colour, cv2.MARKER_CROSS, 11, 2)
        if not np.isnan(of_found).any():
            cv2.circle(picture, of_found.round().astype(int).tolist(), 5, colour, 2)
    return picture


def distances_of(video: Video, found: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """Distances of the joints of one video that count, [T, J], NaN elsewhere.

    Joints count where they are annotated, and were in the first frame; and, unless all do, where they are not lost.
    """
    counted = ~np.isnan(video.joints).any(2) & ~np.isnan(video.joints[0]).any(1)
    if not arguments.all_joints:
        counted &= ~np.isnan(found).any(2)
    distances = np.where(counted, normalised_distances(found, video.joints), np.nan)
    return distances[0 if arguments.with_first else 1 :]


if __name__ == "__main__":
    run(main)
