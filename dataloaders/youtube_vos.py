"""YouTube-VOS 2018 and 2019: videos whose objects may appear after the first frame (docs/method.md §9)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dataloaders.files import read_json, require_plain
from dataloaders.frames import list_frames, require_size
from dataloaders.layout import require_layout
from dataloaders.lists import choose
from dataloaders.masks import read_mask
from dataloaders.names import in_order, natural_key
from utils.errors import UserError, warn

META = "meta.json"
ALL_FRAMES = "_all_frames"  # suffix of the folder with all frames; the other one has every fifth


@dataclass(frozen=True)
class TrackedObject:
    """One object and the frames in which the server expects it; its mask is given in the first one."""

    number: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Video:
    """One video: its frames from the first mask on, and its objects."""

    name: str
    frames: tuple[Path, ...]
    masks: Path  # folder of the given masks, or of all ground-truth masks
    objects: tuple[TrackedObject, ...]

    @cached_property
    def wanted(self) -> frozenset[str]:
        """Names of the frames that the server expects."""
        return frozenset(frame for obj in self.objects for frame in obj.frames)

    @cached_property
    def starts(self) -> dict[str, list[int]]:
        """Numbers of the objects that first appear in a frame, by frame name."""
        starts: dict[str, list[int]] = {}
        for obj in self.objects:
            starts.setdefault(obj.frames[0], []).append(obj.number)
        return starts

    @cached_property
    def scored(self) -> bool:
        """Whether every expected frame has a ground-truth mask."""
        existing = {path.name for path in self.masks.iterdir()}
        return all(f"{frame}.png" in existing for frame in self.wanted)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files from which masks and scores are computed; of the masks, only those that are read."""
        read = sorted(self.wanted if self.scored else self.starts)
        return self.masks.parents[1] / META, *self.frames, *(self.masks / f"{frame}.png" for frame in read)

    def given(self, index: int, frame: np.ndarray) -> np.ndarray | None:
        """Return the mask of objects that first appear in a frame (BGR [H, W, 3]), uint8 [H, W]; None if none does."""
        stem = self.frames[index].stem
        starting = self.starts.get(stem)
        if starting is None:
            return None
        mask = self.truth(stem)
        require_size(self.masks / f"{stem}.png", mask, frame.shape[:2])
        if absent := np.setdiff1d(starting, mask).tolist():
            warn(
                f"{self.masks / stem}.png: lacks objects {absent}, though {META} says that they first appear there; "
                "they are not followed"
            )
        return np.where(np.isin(mask, starting), mask, 0)

    def absent(self) -> dict[str, list[int]]:
        """Read the masks in which objects first appear; return the objects that they lack, by frame name."""
        absent = {frame: np.setdiff1d(starting, self.truth(frame)).tolist() for frame, starting in self.starts.items()}
        return {frame: numbers for frame, numbers in absent.items() if numbers}

    def truth(self, frame: str) -> np.ndarray:
        """Read all ids of a frame's mask file, uint8 [H, W]."""
        return read_mask(self.masks / f"{frame}.png")


def load_videos(root: Path, subset: str, names: list[str] | None, *, all_frames: bool) -> list[Video]:
    """Load the videos of ROOT/SUBSET/meta.json, or those of `names`; all_frames: with every frame of the videos."""
    listed, folder = list_videos(root, subset), root / subset
    meta = read_meta(folder / META)
    chosen = choose(listed, names, folder / META)
    frames = root / f"{subset}{ALL_FRAMES}" if all_frames else folder
    if not (frames / "JPEGImages").is_dir():
        raise UserError(f"{frames / 'JPEGImages'}: no such folder; see scripts/check_data.py youtube-vos {root}")
    return [_load_video(name, meta[name], frames / "JPEGImages", folder / "Annotations") for name in chosen]


def list_videos(root: Path, subset: str) -> list[str]:
    """Read the video names in ROOT/SUBSET/meta.json."""
    require_layout("youtube-vos", root, subset=subset)
    return sorted(read_meta(root / subset / META))


def read_meta(path: Path) -> dict[str, tuple[TrackedObject, ...]]:
    """Read the objects of each video; UserError if the file is not a valid meta.json of YouTube-VOS."""
    try:
        videos = read_json(path)["videos"]
        meta = {name: _parse_objects(video["objects"]) for name, video in videos.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as YouTube-VOS's list of videos ({error!r})") from error
    for name, objects in meta.items():
        numbers = {obj.number for obj in objects if 1 <= obj.number <= 255 and obj.frames}
        if not objects or len(numbers) < len(objects):
            raise UserError(f"{path}: video {name!r} must have objects 1 … 255, each once and with frames")
        for plain in (name, *(frame for obj in objects for frame in obj.frames)):
            require_plain(path, plain)
    if not meta:
        raise UserError(f"{path}: lists no videos")
    return meta


def _parse_objects(objects: dict) -> tuple[TrackedObject, ...]:
    frames = {number: set(list_of_names(obj["frames"])) for number, obj in objects.items()}
    key = natural_key(set().union(*frames.values()))
    return tuple(
        TrackedObject(_number(number), str(obj.get("category", "")), tuple(sorted(frames[number], key=key)))
        for number, obj in objects.items()
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):  # int() also accepts " 1", 1_0 and the digits of other scripts
        raise ValueError(f"object {text!r} is not a number")
    return int(text)


def list_of_names(values: object) -> list[str]:
    """Return the values if they are a list of strings, else raise TypeError."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is not a list of names")
    return values


def _load_video(name: str, objects: tuple[TrackedObject, ...], images: Path, annotations: Path) -> Video:
    frames = list_frames(images / name)
    stems = [frame.stem for frame in frames]
    if missing := in_order({frame for obj in objects for frame in obj.frames} - set(stems)):
        raise UserError(f"{images / name / missing[0]}.jpg: no such frame, but {META} lists it")
    first = min(stems.index(obj.frames[0]) for obj in objects)
    video = Video(name, tuple(frames[first:]), annotations / name, objects)
    for frame, starting in video.starts.items():
        if not (video.masks / f"{frame}.png").is_file():
            raise UserError(f"{video.masks / frame}.png: no such mask, but objects {starting} first appear there")
    return video
