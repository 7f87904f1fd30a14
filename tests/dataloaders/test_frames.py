"""Reading frames: their pixels, their order, and what is refused or left out."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.frames import list_frames, read_frame, read_squeezed, require_size
from tests.support.images import SIZE, frame_pixels, write_frame
from utils.errors import UserError

RGB = frame_pixels(0)[..., ::-1]


def save_sideways(path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6  # EXIF: to be turned by a quarter
    Image.fromarray(RGB).save(path, exif=orientation)


FRAMES: dict[str, Callable[[Path], object]] = {
    "colour.jpg": lambda path: write_frame(path, frame_pixels(0)),
    "grey.jpg": lambda path: Image.fromarray(RGB).convert("L").save(path),
    "progressive.jpg": lambda path: Image.fromarray(RGB).save(path, progressive=True),
    "full_colour.jpg": lambda path: Image.fromarray(RGB).save(path, quality=95, subsampling=0),
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
    "sideways.jpg": save_sideways,
    "colour.png": lambda path: write_frame(path, frame_pixels(0)),
    "grey.png": lambda path: Image.fromarray(RGB).convert("L").save(path),
    "indexed.png": lambda path: Image.fromarray(RGB).quantize(16).save(path),
    "transparent.png": lambda path: Image.fromarray(RGB).convert("RGBA").save(path),
    "deep.png": lambda path: write_frame(path, frame_pixels(0).astype(np.uint16) * 257),
    "colour.webp": lambda path: Image.fromarray(RGB).save(path, lossless=True),
    "colour.bmp": lambda path: write_frame(path, frame_pixels(0)),
    "colour.tif": lambda path: write_frame(path, frame_pixels(0)),
    "packed.tiff": lambda path: Image.fromarray(RGB).save(path, compression="tiff_lzw"),
    "really_a_png.jpg": lambda path: Image.fromarray(RGB).save(path, format="PNG"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frame_is_what_opencv_reads(tmp_path, name):
    path = tmp_path / name
    FRAMES[name](path)
    frame = read_frame(path)
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    np.testing.assert_array_equal(frame, cv2.imread(str(path)))


def test_grey_frame_has_three_equal_channels(tmp_path):
    FRAMES["grey.jpg"](tmp_path / "grey.jpg")
    frame = read_frame(tmp_path / "grey.jpg")
    assert frame.shape == (*SIZE, 3)
    assert (frame == frame[..., :1]).all()


@pytest.mark.parametrize("name", ["colour.jpg", "progressive.jpg", "colour.png"])
@pytest.mark.parametrize("tail", [b"\0", b"\n", b"\0" * 64, b"a camera's notes", b"\xff\xd8\xff"])
def test_bytes_after_the_image_do_no_harm(tmp_path, name, tail):
    path = tmp_path / name
    FRAMES[name](path)
    whole = read_frame(path)
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(read_frame(path), whole)


CUT = ("colour.jpg", "grey.jpg", "progressive.jpg", "colour.png", "indexed.png", "colour.webp", "colour.bmp")


@pytest.mark.filterwarnings("ignore")  # of Pillow, about damaged TIFFs
@pytest.mark.parametrize("name", [*CUT, "packed.tiff"])
def test_frame_cut_anywhere_is_whole_or_refused(tmp_path, name):
    """OpenCV alone would fill in what is missing. The last bytes, after the pixels, may be missing."""
    path = tmp_path / name
    FRAMES[name](path)
    whole, data = read_frame(path), path.read_bytes()
    refused = 0
    lengths = [*range(0, len(data) - 16, 5), *range(len(data) - 16, len(data))]
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_frame(path), whole)
        except UserError as error:
            assert name in str(error)
            refused += 1
    assert refused > 0.85 * len(lengths)


@pytest.mark.parametrize("name", ["colour.jpg", "colour.png"])
def test_frame_with_a_wrong_byte_is_a_frame_or_refused(tmp_path, name):
    path = tmp_path / name
    FRAMES[name](path)
    data, random = path.read_bytes(), np.random.default_rng(0)
    for place in range(48, len(data) - 16, 3):  # not in a PNG's chunk sizes: OpenCV takes the memory they claim
        path.write_bytes(data[:place] + random.bytes(1) + data[place + 1 :])
        try:
            assert read_frame(path).shape[2] == 3
        except UserError as error:
            assert name in str(error)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = ["0.jpg", "1.jpg", "2.jpeg", "9.jpg", "10.jpg", "11.png", "100.JPG", "1000.jpeg"]
    for name in reversed(names):
        (tmp_path / name).touch()
    for name in ("notes.txt", "Thumbs.db", "3.mp4"):
        (tmp_path / name).touch()
    assert [path.name for path in list_frames(tmp_path)] == names


def test_padded_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"{number:05d}.jpg" for number in (0, 2, 10, 99, 100)]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in list_frames(tmp_path)] == names


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_folder_without_frames(tmp_path, content):
    for name in content:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=str(tmp_path)):
        list_frames(tmp_path)


def test_require_size_tells_width_by_height():
    require_size(Path("a.png"), np.zeros((24, 32, 3)), (24, 32))
    with pytest.raises(UserError, match=r"a\.png.*33x24.*32x24"):
        require_size(Path("a.png"), np.zeros((24, 33)), (24, 32))
    with pytest.raises(UserError, match=r"a\.png.*32x25.*32x24"):
        require_size(Path("a.png"), np.zeros((25, 32)), (24, 32))


def test_squeezed_frames_are_interpolated(tmp_path):
    """Of four columns two remain, each the mean of two."""
    columns = np.array([0, 10, 20, 40], np.uint8)
    write_frame(tmp_path / "0.png", np.broadcast_to(columns[:, None], (2, 4, 3)))
    (frame,) = read_squeezed([tmp_path / "0.png"], 2)
    np.testing.assert_array_equal(frame, np.broadcast_to([[5], [30]], (2, 2, 3)))


ORDERS = {
    "plain": ["2", "10", "100"],
    "seconds": ["0.0", "0.04", "0.1", "0.12", "1.0", "10.5"],
    "signs": ["-10", "-2", "0", "1", "+2"],
    "two numbers": ["shot2_frame1", "shot2_frame10", "shot10_frame1"],
    "a dash is a separator": ["frame-1", "frame-2", "frame-10"],
    "seconds behind a prefix": ["t0.0", "t0.04", "t0.1", "t0.12"],
    "counters behind a prefix": ["v1.1", "v1.2", "v1.10"],
    "padded counters behind a prefix": ["v1.08", "v1.99", "v1.100"],
    "a numbered export": ["frame (1)", "frame (2)", "frame (10)"],
    "other digits": ["1", "٢", "10"],
    "very long": ["9" * 20, "1" + "0" * 20],
    "words": ["a", "b", "c"],
}


@pytest.mark.parametrize("label", ORDERS)
def test_natural_order(tmp_path, label):
    for stem in reversed(ORDERS[label]):
        (tmp_path / f"{stem}.jpg").touch()
    assert [path.name for path in list_frames(tmp_path)] == [f"{stem}.jpg" for stem in ORDERS[label]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("00002.jpg", "2.jpg"),
        ("a.jpg", "a.png"),
        ("frame1.jpg", "frame01.jpg"),
        ("1.5.jpg", "1.50.jpg"),
        ("00002.jpg", "00002 (1).jpg"),
        ("00002.jpg", "00002(1).png"),
        ("00002.jpg", "00002 - Copy.jpg"),
        ("00002.jpg", "00002 - Copy (2).jpg"),
        ("00002.jpg", "00002 copy.jpg"),
        ("00002.jpg", "00002 copy 2.jpg"),
        ("00002.jpg", "00002 (another copy).jpg"),
        ("frame (1).jpg", "frame (1) (1).jpg"),
        ("frame.jpg", "frame (1).jpg"),
    ],
)
def test_two_frames_with_one_number_are_refused(tmp_path, first, second):
    for name in (first, second, "00000.jpg", "00003.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="remove") as error:
        list_frames(tmp_path)
    assert first in str(error.value) and second in str(error.value)


def test_images_of_other_kinds_are_told(tmp_path, capsys):
    for name in ("0.jpg", "1.webp", "2.bmp", "3.TIF", "4.heic", "5.gif", "notes.txt", "overlay.mp4"):
        (tmp_path / name).touch()
    assert [path.name for path in list_frames(tmp_path)] == ["0.jpg", "1.webp", "2.bmp", "3.TIF"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 images beside 4 frames are left out (4.heic, 5.gif)" in line


def test_leftovers_and_excluded_files_are_no_frames(tmp_path, capsys):
    leftovers = "._00000.jpg", ".00001.png", ".DS_Store", "Thumbs.db", "desktop.ini", "._x.heic"
    for name in ("00000.jpg", "00000 (1).jpg", *leftovers):
        (tmp_path / name).touch()
    frames = list_frames(tmp_path, but=[tmp_path / "00000 (1).jpg"])
    assert [path.name for path in frames] == ["00000.jpg"]
    assert capsys.readouterr().err == ""
