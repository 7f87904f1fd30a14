"""BADJA: joints of animals in videos of DAVIS, annotated in about every fifth frame (docs/method.md §9)."""

from pathlib import Path

import numpy as np

from dataloaders.files import read_json, require_plain
from dataloaders.frames import list_frames
from dataloaders.jhmdb import Video
from dataloaders.layout import require_layout
from dataloaders.lists import choose
from utils.errors import UserError

BADJA = "joints_480p.json"


def load_badja(root: Path, names: list[str] | None) -> list[Video]:
    """Load the animals of ROOT/joints_480p.json, or those of `names`; videos start at the first annotated frame."""
    content = read_badja(root)
    return [_load_badja_video(root, name, content[name]) for name in choose(sorted(content), names, root / BADJA)]


def read_badja(root: Path) -> dict[str, dict]:
    """Read the joints of each animal from ROOT/joints_480p.json, not yet validated."""
    require_layout("badja", root)
    content = read_json(root / BADJA)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{root / BADJA}: cannot be read as BADJA's joints; it must map animals' names to joints")
    for name in content:
        require_plain(root / BADJA, name)
    return content


def _load_badja_video(root: Path, name: str, content: dict) -> Video:
    try:
        folder = root / "JPEGImages" / "480p" / name
        frames = list_frames(folder if folder.is_dir() else root.parent / content["frame_source"])
        first, joints = _parse_annotations(content["annotations"], len(frames))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{root / BADJA}: the joints of {name} cannot be read ({error!r})") from error
    joint_names = tuple(f"joint {i}" for i in range(joints.shape[1]))
    return Video(name, tuple(frames[first:]), joints, joint_names, (root / BADJA,))


def _parse_annotations(annotations: list[dict], frames: int) -> tuple[int, np.ndarray]:
    """Return the first annotated frame, and the joints (x, y) from there on [T, J, 2], NaN where not annotated."""
    numbers = [annotation["frame"] for annotation in annotations]
    if not all(isinstance(number, int) and 0 <= number < frames for number in numbers):
        raise ValueError(f"annotated frames are {numbers}, but the video has {frames}")
    first, count = min(numbers), len(annotations[0]["visibility"])
    joints = np.full((frames - first, count, 2), np.nan)
    for number, annotation in zip(numbers, annotations, strict=True):
        visible = np.array(annotation["visibility"], bool)
        places = np.array(annotation["joints_yx_480p"], np.float64)
        if visible.shape != (count,) or places.shape != (count, 2) or np.isinf(places).any():
            raise ValueError(f"frame {number} must have {count} joints of two finite numbers each")
        joints[number - first, visible] = places[visible, ::-1]
    return first, joints
