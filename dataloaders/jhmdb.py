"""JHMDB: videos of people with 15 joints, test set of split 1 (docs/method.md §9)."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.io

from dataloaders.files import require_plain
from dataloaders.frames import list_frames, read_frame
from dataloaders.layout import require_layout
from dataloaders.lists import choose, read_list
from dataloaders.names import visible
from utils.errors import UserError

JHMDB_JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
MARKS = ("0", "1", "2")  # labels in JHMDB's split files: unused, training, test
TEST = MARKS[2]


@dataclass(frozen=True)
class Video:
    """One video; joints: (x, y) in pixels of the frames [T, J, 2], NaN where a joint is not annotated."""

    name: str
    frames: tuple[Path, ...]
    joints: np.ndarray
    names: tuple[str, ...]
    annotations: tuple[Path, ...] = ()  # files of the joints

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files from which joints are predicted and scored."""
        return *self.frames, *self.annotations

    @cached_property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames, in pixels."""
        return read_frame(self.frames[0]).shape[:2]


def load_jhmdb(root: Path, names: list[str] | None) -> list[Video]:
    """Load the test videos of split 1, or those of `names`."""
    return [_load_jhmdb_video(root, name) for name in choose(list_jhmdb(root), names, root / "splits")]


def list_jhmdb(root: Path) -> list[str]:
    """List the test videos of split 1, CLASS/VIDEO, from the files ROOT/splits/CLASS_test_split1.txt."""
    require_layout("jhmdb", root)
    lists = sorted(path for path in visible(root / "splits") if path.name.endswith("_test_split1.txt"))
    if not lists:
        raise UserError(f"{root / 'splits'}: contains no CLASS_test_split1.txt; check --datapath")
    listed = []
    for path in lists:
        rows = [line.split() for line in read_list(path, way_out="check --datapath")]
        if any(len(row) != 2 or row[1] not in MARKS for row in rows):
            raise UserError(f"{path}: a line must be a video's name and one of {', '.join(MARKS)}; replace it")
        for name in (name for row in rows for name in (row[0], Path(row[0]).stem)):
            require_plain(path, name)
        listed += [
            f"{path.name.removesuffix('_test_split1.txt')}/{Path(row[0]).stem}" for row in rows if row[1] == TEST
        ]
    if not listed:
        raise UserError(f"{root / 'splits'}: no CLASS_test_split1.txt lists a test video, marked by {TEST}")
    return sorted(set(listed))


def _load_jhmdb_video(root: Path, name: str) -> Video:
    path = root / "joint_positions" / name / "joint_positions.mat"
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; see scripts/check_data.py jhmdb {root}")
    joints = _read_positions(path)
    frames = list_frames(root / "Rename_Images" / name)
    if len(frames) < len(joints):
        raise UserError(f"{root / 'Rename_Images' / name}: has {len(frames)} frames, but {path.name} {len(joints)}")
    return Video(name, tuple(frames[: len(joints)]), joints, JHMDB_JOINTS, (path,))


def _read_positions(path: Path) -> np.ndarray:
    """Read the joints (x, y) in pixels counted from 0, [T, 15, 2], NaN where not annotated."""
    try:
        positions = scipy.io.loadmat(path, variable_names=["pos_img"])["pos_img"]  # [2, 15, T], MATLAB counts from 1
    except Exception as error:  # SciPy raises many types for damaged files
        raise UserError(f"{path}: cannot be read as JHMDB's joints ({error!r})") from error
    if positions.ndim != 3 or positions.shape[:2] != (2, len(JHMDB_JOINTS)) or not positions.size:
        raise UserError(f"{path}: pos_img is {list(positions.shape)} instead of [2, {len(JHMDB_JOINTS)}, frames]")
    if positions.dtype.kind not in "iuf" or np.isinf(positions).any():
        raise UserError(f"{path}: pos_img must be finite real numbers, NaN only where a joint is not annotated")
    return positions.transpose(2, 1, 0).astype(np.float64) - 1
