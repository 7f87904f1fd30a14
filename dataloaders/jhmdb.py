"""Videos with joints: JHMDB, as evaluated, and the animals of BADJA (docs/method.md §9)."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.io

from dataloaders.files import read_json, require_plain
from dataloaders.layout import require_layout
from dataloaders.video import choose, list_frames, read_frame, read_list
from utils.errors import UserError

JHMDB_JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
BADJA = "joints_480p.json"
MARKS = ("0", "1", "2")  # of videos in JHMDB's split files: unused, training, test
TEST = MARKS[2]


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
        if any(len(row) != 2 or row[1] not in MARKS for row in rows):
            raise UserError(f"{path}: a line is the name of a video and one of {', '.join(MARKS)}; replace it")
        for name in (name for row in rows for name in (row[0], Path(row[0]).stem)):
            require_plain(path, name)
        listed += [
            f"{path.name.removesuffix('_test_split1.txt')}/{Path(row[0]).stem}" for row in rows if row[1] == TEST
        ]
    if not listed:
        raise UserError(f"{root / 'splits'}: no CLASS_test_split1.txt lists a test video, marked by a {TEST}")
    return sorted(set(listed))


def _load_jhmdb_video(root: Path, name: str) -> Video:
    path = root / "joint_positions" / name / "joint_positions.mat"
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; see scripts/check_data.py jhmdb {root}")
    joints = _read_positions(path)
    frames = list_frames(root / "Rename_Images" / name)
    if len(frames) < len(joints):
        raise UserError(f"{root / 'Rename_Images' / name}: has {len(frames)} frames, its joints {len(joints)}")
    return Video(name, tuple(frames[: len(joints)]), joints, JHMDB_JOINTS)


def _read_positions(path: Path) -> np.ndarray:
    """The joints (x, y) in pixels from 0, [T, 15, 2], NaN where one is not annotated."""
    try:
        positions = scipy.io.loadmat(path, variable_names=["pos_img"])["pos_img"]  # [2, 15, T], MATLAB counts from 1
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise UserError(f"{path}: cannot be read as JHMDB's joints ({error!r})") from error
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JHMDB_JOINTS)) or not positions.size:
        raise UserError(f"{path}: pos_img is {list(positions.shape)} instead of [2, {len(JHMDB_JOINTS)}, frames]")
    if positions.dtype.kind not in "iuf" or np.isinf(positions).any():
        raise UserError(f"{path}: pos_img is not of real, finite numbers, or NaN where a joint is not annotated")
    return positions.transpose(2, 1, 0).astype(np.float64) - 1


def load_badja(root: Path, names: list[str] | None) -> list[Video]:
    """The animals of ROOT/joints_480p.json, each from its first annotated frame on, about every fifth one annotated."""
    content = read_badja(root)
    return [_load_badja_video(root, name, content[name]) for name in choose(sorted(content), names, root / BADJA)]


def read_badja(root: Path) -> dict[str, dict]:
    """Each animal's joints, as ROOT/joints_480p.json has them."""
    require_layout("badja", root)
    content = read_json(root / BADJA)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{root / BADJA}: cannot be read as BADJA's joints; it must hold animals by their names")
    for name in content:
        require_plain(root / BADJA, name)
    return content


def _load_badja_video(root: Path, name: str, content: dict) -> Video:
    try:
        folder = root / "JPEGImages" / "480p" / name
        frames = list_frames(folder if folder.is_dir() else root.parent / content["frame_source"])
        first, joints = _parse_annotations(content["annotations"], len(frames))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{root / BADJA}: {name}'s joints cannot be read ({error!r})") from error
    return Video(name, tuple(frames[first:]), joints, tuple(f"joint {i}" for i in range(joints.shape[1])))


def _parse_annotations(annotations: list[dict], frames: int) -> tuple[int, np.ndarray]:
    """The first annotated frame; the joints (x, y) of the frames from there on [T, J, 2], NaN where unknown."""
    numbers = [annotation["frame"] for annotation in annotations]
    if not all(isinstance(number, int) and 0 <= number < frames for number in numbers):
        raise ValueError(f"annotated frames are {numbers}, but there are {frames}")
    first, count = min(numbers), len(annotations[0]["visibility"])
    joints = np.full((frames - first, count, 2), np.nan)
    for number, annotation in zip(numbers, annotations, strict=True):
        visible = np.array(annotation["visibility"], bool)
        places = np.array(annotation["joints_yx_480p"], np.float64)
        if visible.shape != (count,) or places.shape != (count, 2) or np.isinf(places).any():
            raise ValueError(f"frame {number} needs {count} joints of two finite numbers each")
        joints[number - first, visible] = places[visible, ::-1]
    return first, joints
