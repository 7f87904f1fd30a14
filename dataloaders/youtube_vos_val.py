"""YouTube-VOS 2018 and 2019, as evaluated: videos whose objects may appear late (docs/method.md §9)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dataloaders.files import read_json, require_plain
from dataloaders.layout import require_layout
from dataloaders.video import choose, list_frames, read_mask, require_size
from utils.errors import UserError

META = "meta.json"
ALL_FRAMES = "_all_frames"  # of the folder that holds every frame, beside the one that holds every fifth


@dataclass(frozen=True)
class TrackedObject:
    """One object, and the frames in which the server wants it; the first is where its mask is given."""

    number: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Video:
    """One video: its frames from the first mask on, and its objects."""

    name: str
    frames: tuple[Path, ...]
    masks: Path  # folder of the masks that are given, or of all that are true
    objects: tuple[TrackedObject, ...]

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The frames that the server wants."""
        return frozenset(frame for one in self.objects for frame in one.frames)

    @cached_property
    def starts(self) -> dict[str, list[int]]:
        """The objects that first appear in a frame, by its name."""
        starts: dict[str, list[int]] = {}
        for one in self.objects:
            starts.setdefault(one.frames[0], []).append(one.number)
        return starts

    @cached_property
    def scored(self) -> bool:
        """Whether every wanted frame has a true mask."""
        existing = {path.name for path in self.masks.iterdir()}
        return all(f"{frame}.png" in existing for frame in self.wanted)

    def given(self, index: int, frame: np.ndarray) -> np.ndarray | None:
        """The objects that first appear in a frame, BGR [H, W, 3]: uint8 [H, W], 0 elsewhere; None if none does."""
        stem = self.frames[index].stem
        starting = self.starts.get(stem)
        if starting is None:
            return None
        mask = self.truth(stem)
        require_size(self.masks / f"{stem}.png", mask, frame.shape[:2])
        return np.where(np.isin(mask, starting), mask, 0)

    def truth(self, frame: str) -> np.ndarray:
        """All ids in a mask file, uint8 [H, W]."""
        return read_mask(self.masks / f"{frame}.png")


def load_videos(root: Path, subset: str, names: list[str] | None, *, all_frames: bool) -> list[Video]:
    """The videos of ROOT/SUBSET/meta.json, or those of `names`; all_frames: with the frames between the wanted ones."""
    listed, folder = list_videos(root, subset), root / subset
    meta = read_meta(folder / META)
    chosen = choose(listed, names, folder / META)
    frames = root / f"{subset}{ALL_FRAMES}" if all_frames else folder
    if not (frames / "JPEGImages").is_dir():
        raise UserError(f"{frames / 'JPEGImages'}: no such folder; see scripts/check_data.py youtube-vos {root}")
    return [_load_video(name, meta[name], frames / "JPEGImages", folder / "Annotations") for name in chosen]


def list_videos(root: Path, subset: str) -> list[str]:
    """The names in ROOT/SUBSET/meta.json."""
    require_layout("youtube-vos", root, subset=subset)
    return sorted(read_meta(root / subset / META))


def read_meta(path: Path) -> dict[str, tuple[TrackedObject, ...]]:
    """The objects of each video; UserError if the file is not YouTube-VOS's."""
    try:
        videos = read_json(path)["videos"]
        meta = {name: _parse_objects(video["objects"]) for name, video in videos.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as YouTube-VOS's list of videos ({error!r})") from error
    for name, objects in meta.items():
        numbers = {one.number for one in objects if 1 <= one.number <= 255 and one.frames}
        if not objects or len(numbers) < len(objects):
            raise UserError(f"{path}: video {name!r} needs objects 1 … 255, each once and with frames")
        for plain in (name, *(frame for one in objects for frame in one.frames)):
            require_plain(path, plain)
    if not meta:
        raise UserError(f"{path}: lists no videos")
    return meta


def _parse_objects(objects: dict) -> tuple[TrackedObject, ...]:
    return tuple(
        TrackedObject(_number(number), str(one.get("category", "")), tuple(sorted(set(list_of_names(one["frames"])))))
        for number, one in objects.items()
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):  # Python also takes " 1", 1_0, and the digits of other scripts
        raise ValueError(f"object {text!r} is not a number")
    return int(text)


def list_of_names(values: object) -> list[str]:
    """The same, if it is a list of strings."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is not a list of names")
    return values


def _load_video(name: str, objects: tuple[TrackedObject, ...], images: Path, annotations: Path) -> Video:
    first = min(one.frames[0] for one in objects)
    frames = tuple(frame for frame in list_frames(images / name) if frame.stem >= first)
    video = Video(name, frames, annotations / name, objects)
    if missing := sorted(video.wanted - {frame.stem for frame in frames}):
        raise UserError(f"{images / name / missing[0]}.jpg: no such frame, but {META} wants it")
    for frame, starting in video.starts.items():
        if not (video.masks / f"{frame}.png").is_file():
            raise UserError(f"{video.masks / frame}.png: no such mask, but objects {starting} first appear there")
    return video
