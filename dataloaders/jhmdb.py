"""Videos with joints: JHMDB, as evaluated, and the animals of BADJA (docs/method.md §9)."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.io

from dataloaders.layout import require_layout
from dataloaders.video import choose, list_frames, read_frame, read_list
from utils.errors import UserError

JHMDB_JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
BADJA = "joints_480p.json"
TEST = "2"  # what marks a test video in JHMDB's split files


@dataclass(frozen=True)
class Video:
    """One video; joints: (x, y) in pixels of the frames [T, J, 2], NaN where a joint is not annotated."""

    name: str
    frames: tuple[Path, ...]
    joints: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return read_frame(self.frames[0]).shape[:2]


def load_jhmdb(root: Path, names: list[str] | None) -> list[Video]:
    """The test videos of split 1, or those of `names`."""
    return [_load_jhmdb_video(root, name) for name in choose(list_jhmdb(root), names, root / "splits")]


def list_jhmdb(root: Path) -> list[str]:
    """The test videos of split 1, CLASS/VIDEO, as ROOT/splits/CLASS_test_split1.txt list them."""
    require_layout("jhmdb", root)
    lists = sorted((root / "splits").glob("*_test_split1.txt"))
    if not lists:
        raise UserError(f"{root / 'splits'}: holds no CLASS_test_split1.txt; check --datapath")
    listed = []
    for path in lists:
        rows = [line.split() for line in read_list(path, way_out="check --datapath", plain=False)]
        if any(len(row) != 2 for row in rows):
            raise UserError(f"{path}: a line is the name of a video and 1 or 2")
        listed += [
            f"{path.name.removesuffix('_test_split1.txt')}/{Path(row[0]).stem}" for row in rows if row[1] == TEST
        ]
    return sorted(listed)


def _load_jhmdb_video(root: Path, name: str) -> Video:
    path = root / "joint_positions" / name / "joint_positions.mat"
    if not path.is_file():
        raise UserError(f"{path}: no such file; see scripts/check_data.py jhmdb {root}")
    try:
        positions = scipy.io.loadmat(path)["pos_img"]  # [2, 15, T], MATLAB counts from 1
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise UserError(f"{path}: cannot be read as JHMDB's joints ({error})") from error
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JHMDB_JOINTS)):
        raise UserError(f"{path}: pos_img is {list(positions.shape)} instead of [2, {len(JHMDB_JOINTS)}, frames]")
    joints = positions.transpose(2, 1, 0).astype(np.float64) - 1
    frames = list_frames(root / "Rename_Images" / name)
    if len(frames) < len(joints):
        raise UserError(f"{root / 'Rename_Images' / name}: has {len(frames)} frames, its joints {len(joints)}")
    return Video(name, tuple(frames[: len(joints)]), joints, JHMDB_JOINTS)


def load_badja(root: Path, names: list[str] | None) -> list[Video]:
    """The animals of ROOT/joints_480p.json, each from its first annotated frame on, about every fifth one annotated."""
    content = read_badja(root)
    try:
        chosen = choose(sorted(content), names, root / BADJA)
        return [_load_badja_video(root, name, content[name]) for name in chosen]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{root / BADJA}: cannot be read as BADJA's joints ({error!r})") from error


def read_badja(root: Path) -> dict[str, dict]:
    """Each animal's joints, as ROOT/joints_480p.json has them."""
    require_layout("badja", root)
    try:
        return dict(json.loads((root / BADJA).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{root / BADJA}: cannot be read as BADJA's joints ({error!r})") from error


def _load_badja_video(root: Path, name: str, content: dict) -> Video:
    folder = root / "JPEGImages" / "480p" / name
    frames = list_frames(folder if folder.is_dir() else root.parent / content["frame_source"])
    annotations = content["annotations"]
    first = min(annotation["frame"] for annotation in annotations)
    count = len(annotations[0]["visibility"])
    joints = np.full((len(frames) - first, count, 2), np.nan)
    for annotation in annotations:
        visible = np.array(annotation["visibility"], bool)
        places = np.array(annotation["joints_yx_480p"], np.float64)[:, ::-1]
        joints[annotation["frame"] - first, visible] = places[visible]
    return Video(name, tuple(frames[first:]), joints, tuple(f"joint {i}" for i in range(count)))
