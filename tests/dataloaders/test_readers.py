"""Fuzz tests of all file readers: they return a valid value or raise UserError; what is written is read back."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dataloaders.badja import BADJA, load_badja
from dataloaders.files import read_json
from dataloaders.frames import read_frame
from dataloaders.lists import read_list
from dataloaders.masks import read_mask
from dataloaders.training_pairs import MAX_FRAMES, Video, read_index
from dataloaders.youtube_vos import read_meta
from tests.support.images import frame_pixels, mask_pixels
from utils import savepath
from utils.checkpoint import read_state_dict
from utils.errors import UserError
from utils.visualize import write_mask

some = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(some, max_examples=60)
pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow and PyTorch, about damaged files


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A file that every example overwrites."""
    return tmp_path_factory.mktemp("readers") / "file"


def encoded(suffix: str, pixels: np.ndarray, **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=suffix, **settings)
    return file.getvalue()


def checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save(
        {"state_dict": {"a": torch.arange(600.0).reshape(2, 300), "b": torch.zeros((), dtype=torch.int64)}}, file
    )
    return file.getvalue()


RGB = frame_pixels(0)[..., ::-1]
IMAGES = (
    encoded("PNG", RGB),
    encoded("PNG", mask_pixels(0)),
    encoded("JPEG", RGB),
    encoded("JPEG", RGB, progressive=True),
    encoded("WEBP", RGB),
    encoded("GIF", mask_pixels(0)),
    encoded("BMP", mask_pixels(0)),
    encoded("TIFF", mask_pixels(0), compression="tiff_lzw"),
)
CHECKPOINT = checkpoint()


@st.composite
def damaged(draw: Callable, *wholes: bytes) -> bytes:
    """The content of one of these files, with bytes changed, removed or inserted."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 9))
        data[start : start + length] = draw(st.binary(min_size=length, max_size=length) | st.binary(max_size=9))
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


def obeys(read: Callable[[Path], object], path: Path, promise: Callable[[object], bool]) -> None:
    """Assert that a reader returns a valid value, or raises UserError that names the file."""
    try:
        value = read(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert promise(value), value


def is_frame(frame: object) -> bool:
    return isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,) and frame.size > 0


def is_mask(mask: object) -> bool:
    return isinstance(mask, np.ndarray) and mask.dtype == np.uint8 and mask.ndim == 2 and mask.size > 0


@some
@given(st.binary(max_size=200) | damaged(*IMAGES))
def test_any_frame(path, data):
    path.write_bytes(data)
    obeys(read_frame, path, is_frame)


@some
@given(st.binary(max_size=200) | damaged(*IMAGES))
def test_any_mask(path, data):
    path.write_bytes(data)
    obeys(read_mask, path, is_mask)


def is_list(names: object) -> bool:
    plain = all(name == name.strip() and name not in ("", ".", "..") and not set(name) & set("/\\\0") for name in names)
    return plain and len(set(names)) == len(names) > 0


@some
@given(st.binary(max_size=60) | st.text(st.sampled_from("ab./\\ \r\n\t\0\ufeffé\u2028"), max_size=20).map(str.encode))
def test_any_list(path, data):
    path.write_bytes(data)
    obeys(lambda file: read_list(file, way_out=""), path, is_list)


def is_index(videos: object) -> bool:
    inside = all(not Path(video.name).is_absolute() and ".." not in Path(video.name).parts for video in videos)
    counted = all(video.first >= 0 and 1 <= video.count <= MAX_FRAMES for video in videos)
    return inside and counted and len(set(videos)) == len(videos) > 0


FIELD = st.sampled_from(["a", "..", "/a", "a/../b", "", " ", '"', "0", "7", "-1", "1e3", "1_0", "٣", "9" * 30, "\0"])


@some
@given(
    st.binary(max_size=60)
    | st.lists(st.lists(FIELD, max_size=4).map(",".join), max_size=4).map("\n".join).map(str.encode)
)
def test_any_index(path, data):
    path.write_bytes(data)
    obeys(read_index, path, is_index)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["00000", "00005", "..", "a/b", "", "é"])
OBJECTS = st.dictionaries(
    st.sampled_from(["1", "2", "0", "-1", "255", "256", "1_0", "x", "٣"]),
    st.fixed_dictionaries({"frames": st.lists(NAMES, max_size=3) | VALUES}, optional={"category": VALUES}) | VALUES,
    max_size=2,
)
METAS = st.fixed_dictionaries(
    {"videos": st.dictionaries(NAMES, st.fixed_dictionaries({"objects": OBJECTS}), max_size=2) | VALUES}
)


def is_meta(meta: object) -> bool:
    objects = [one for of_video in meta.values() for one in of_video]
    numbers = all(len({one.number for one in of_video}) == len(of_video) > 0 for of_video in meta.values())
    frames = [frame for one in objects for frame in one.frames]
    return (
        numbers
        and all(1 <= one.number <= 255 and one.frames == tuple(sorted(set(one.frames))) != () for one in objects)
        and is_list(list(dict.fromkeys([*meta, *frames])))
    )


@some
@given(METAS | VALUES)
def test_any_meta(path, content):
    path.write_text(json.dumps(content))
    obeys(read_meta, path, is_meta)


WHOLE = json.dumps({"a": [1, 2.5, None, "é"], "b": {"c": True}}).encode()


@some
@given(st.binary(max_size=60) | damaged(WHOLE))
def test_any_json(path, data):
    path.write_bytes(data)
    obeys(read_json, path, lambda _: True)
    obeys(savepath.read_json, path, lambda content: isinstance(content, dict))


@pytest.mark.parametrize("read", [read_json, savepath.read_json])
def test_json_is_not_deeper_than_the_stack(read, path):
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match=str(path)):
        read(path)


ANNOTATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "frame": st.integers(-1, 3) | VALUES,
            "visibility": st.lists(st.integers(0, 1), max_size=3) | VALUES,
            "joints_yx_480p": st.lists(st.lists(st.floats(), min_size=2, max_size=2), max_size=3) | VALUES,
        }
    ),
    max_size=3,
)


@some
@given(st.fixed_dictionaries({"annotations": ANNOTATIONS | VALUES}) | VALUES)
def test_any_animal(path, content):
    frames = path.parent / "JPEGImages" / "480p" / "bear"
    frames.mkdir(parents=True, exist_ok=True)
    for index in range(3):
        (frames / f"{index:05d}.jpg").touch()
    (path.parent / BADJA).write_text(json.dumps({"bear": content}))

    def fits(videos: list) -> bool:
        (video,) = videos
        return video.joints.shape == (len(video.frames), len(video.names), 2) and not np.isinf(video.joints).any()

    with suppress(UserError):
        assert fits(load_badja(path.parent, None))


def is_state(state: object) -> bool:
    tensors = {"a": torch.arange(600.0).reshape(2, 300), "b": torch.zeros((), dtype=torch.int64)}
    return state.keys() == tensors.keys() and all(torch.equal(state[name], tensors[name]) for name in tensors)


@some
@given(damaged(CHECKPOINT))
def test_a_damaged_checkpoint_is_refused_or_has_its_own_values(path, data):
    """Damage may hit bytes that are not read, such as padding; no value is ever wrong."""
    path.write_bytes(data)
    obeys(read_state_dict, path, is_state)


@some
@given(st.binary(max_size=200))
def test_no_bytes_are_a_checkpoint(path, data):
    path.write_bytes(data)
    with pytest.raises(UserError, match=str(path)):
        read_state_dict(path)


@few
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_masks_come_back(path, ids):
    write_mask(path.with_suffix(".png"), ids)
    np.testing.assert_array_equal(read_mask(path.with_suffix(".png")), ids)


@few
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_frames_without_loss_come_back(path, pixels):
    path.write_bytes(encoded("PNG", pixels))
    np.testing.assert_array_equal(read_frame(path), pixels[..., ::-1])


@few
@given(
    st.lists(st.text(st.sampled_from('aé ",;\n'), min_size=1, max_size=4).map(lambda name: f"v{name}v"), unique=True)
)
def test_lists_and_indexes_come_back(path, names):
    """Names that csv must quote are read back unchanged; a list holds one name a line."""
    videos = [Video(name, number, number + 1) for number, name in enumerate(names)]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((one.name, one.first, one.count) for one in videos)
    if videos:
        assert read_index(path) == videos
    lines = [name for name in names if "\n" not in name]
    path.write_text("\n".join(lines))
    if lines:
        assert read_list(path, way_out="") == lines
