"""The palette, mask files, overlays and videos."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dataloaders.masks import read_mask
from tests.support.golden import load_golden
from utils.visualize import VideoWriter, davis_palette, overlay, write_mask

UNSPECIFIED = 2  # H.264's number for unspecified colours


# The palette and the masks


EVERY_ID = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    "mask",
    [
        EVERY_ID,
        EVERY_ID[::-1, 1::2],  # a view
        EVERY_ID.T,
        np.zeros((5, 7), np.uint8),
        np.array([[0, 1], [1, 0]], np.uint8),  # few ids: no fewer bits or colours
        np.array([[255]], np.uint8),
        np.tile(np.array([0, 1, 2, 254], np.uint8), (3, 33))[:, :131],
    ],
    ids=["every-id", "view", "transposed", "empty", "two-ids", "one-pixel", "odd-width"],
)
def test_masks_come_back_as_written(mask, tmp_path):
    before = mask.copy()
    write_mask(tmp_path / "00000.png", mask)
    np.testing.assert_array_equal(mask, before)
    with Image.open(tmp_path / "00000.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", mask.shape[::-1])
        assert image.getpalette() == davis_palette().ravel().tolist()
        np.testing.assert_array_equal(np.array(image), mask)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), davis_palette()[mask])
    np.testing.assert_array_equal(read_mask(tmp_path / "00000.png"), mask)


def test_a_mask_replaces_an_earlier_one(tmp_path):
    for number in (1, 2):
        write_mask(tmp_path / "00000.png", np.full((4, 4), number, np.uint8))
    assert (read_mask(tmp_path / "00000.png") == 2).all()


# Overlays


def contour_of(mask: np.ndarray) -> np.ndarray:
    """Pixels whose left or upper neighbour has another id, bool [H, W]."""
    height, width = mask.shape
    found = np.zeros(mask.shape, bool)
    for y in range(height):
        for x in range(width):
            found[y, x] = (x > 0 and mask[y, x] != mask[y, x - 1]) or (y > 0 and mask[y, x] != mask[y - 1, x])
    return found


def assert_overlay(frame: np.ndarray, mask: np.ndarray) -> None:
    """Assert that an overlay is right at every pixel and that its arguments are unchanged."""
    before = frame.copy(), mask.copy()
    picture = overlay(frame, mask)
    np.testing.assert_array_equal(frame, before[0])
    np.testing.assert_array_equal(mask, before[1])
    assert (picture.shape, picture.dtype) == (frame.shape, np.uint8)
    contour = contour_of(mask)
    background, inside = ~contour & (mask == 0), ~contour & (mask > 0)
    assert not picture[contour].any()
    np.testing.assert_array_equal(picture[background], frame[background][:, ::-1])
    halfway = (frame[inside][:, ::-1].astype(float) + davis_palette()[mask[inside]]) / 2
    np.testing.assert_allclose(picture[inside], halfway, rtol=0, atol=1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_overlays_of_any_frame_and_mask(data):
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    frame = data.draw(arrays.arrays(np.uint8, (*size, 3)))
    assert_overlay(frame, data.draw(arrays.arrays(np.uint8, size, elements=st.sampled_from([0, 0, 1, 2, 255]))))


def test_overlay_by_hand():
    frame = np.full((4, 5, 3), (200, 100, 50), np.uint8)  # blue, green, red
    mask = np.zeros((4, 5), np.uint8)
    mask[1:, 1:4] = 1
    picture = overlay(frame, mask)
    plain, red, black = (50, 100, 200), (89, 50, 100), (0, 0, 0)
    assert [[tuple(pixel) for pixel in row] for row in picture.tolist()] == [
        [plain, plain, plain, plain, plain],
        [plain, black, black, black, black],
        [plain, black, red, red, black],
        [plain, black, red, red, black],
    ]


def test_overlay_of_nothing_is_the_frame_and_of_everything_has_no_contour():
    frame = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    np.testing.assert_array_equal(overlay(frame, np.zeros((6, 7), np.uint8)), frame[..., ::-1])
    everything = overlay(np.full((6, 7, 3), 255, np.uint8), np.full((6, 7), 2, np.uint8))
    np.testing.assert_array_equal(everything, np.broadcast_to((127, 191, 127), (6, 7, 3)))


def test_overlay_does_not_share_the_frames_memory():
    frame = np.full((6, 7, 3), 9, np.uint8)
    overlay(frame, np.zeros((6, 7), np.uint8))[:] = 0
    assert (frame == 9).all()


def test_overlay_of_real_frames():
    clip = load_golden("sequence_clip")
    for frame, mask in zip(clip["frames_bgr"][:2], clip["masks"][:2], strict=True):
        assert_overlay(frame, mask)


# Videos


@dataclass(frozen=True)
class Video:
    """A video file as PyAV reads it."""

    codec: str
    pixel_format: str
    rate: Fraction
    times: list[Fraction]  # in seconds
    duration: Fraction
    pictures: np.ndarray  # RGB [T, H, W, 3]
    colours: tuple[int, int, int]  # H.264's numbers of the matrix, the primaries and the transfer function


@pytest.fixture
def av():
    return pytest.importorskip("av", reason="videos need PyAV")


@pytest.fixture
def record(av, tmp_path):
    """Writes pictures and reads them back."""

    def write_and_read(pictures: np.ndarray, **rate: Fraction | int) -> Video:
        path = tmp_path / "video.mp4"
        with VideoWriter(path, **rate) as video:
            for picture in pictures:
                video.write(picture)
        with av.open(str(path)) as container:
            (stream,) = container.streams
            frames = list(container.decode(stream))
            assert stream.frames == len(frames)
            return Video(
                codec=stream.codec_context.name,
                pixel_format=stream.codec_context.pix_fmt,
                rate=stream.average_rate,
                times=[frame.pts * frame.time_base for frame in frames],
                duration=stream.duration * stream.time_base,
                pictures=np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
                colours=(frames[0].colorspace, frames[0].color_primaries, frames[0].color_trc),
            )

    return write_and_read


@pytest.fixture(scope="module")
def overlays() -> np.ndarray:
    """The overlays of a clip, RGB [12, 100, 200, 3]."""
    clip = load_golden("sequence_clip")
    return np.stack([overlay(*pair) for pair in zip(clip["frames_bgr"][:12], clip["masks"][:12], strict=True)])


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - wanted) ** 2)))


def boxes(content: bytes) -> list[str]:
    """The names of an MP4's outermost boxes, in the file's order."""
    names, start = [], 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        assert size >= 8  # 0 and 1 are for boxes of other lengths, which small files do not hold
        names.append(content[start + 4 : start + 8].decode())
        start += size
    assert start == len(content)
    return names


@pytest.mark.parametrize("width", [100, 101])
@pytest.mark.parametrize("height", [76, 77])
def test_videos_show_what_was_written(record, overlays, height, width):
    pictures = overlays[:, :height, :width]
    video = record(pictures)
    assert (video.codec, video.pixel_format) == ("h264", "yuv420p")
    assert video.pictures.shape == (len(pictures), height + height % 2, width + width % 2, 3)
    for found, wanted in zip(video.pictures[:, :height, :width], pictures, strict=True):
        assert psnr(found, wanted) > 28  # colours at half the resolution blur round sharp contours


@pytest.mark.parametrize("size", [(77, 101), (78, 102)], ids=str)
def test_smooth_pictures_lose_next_to_nothing(record, size):
    y, x = np.indices(size)
    pictures = np.stack(
        [
            127 + 100 * np.stack([np.sin((x + 2 * step) / 20), np.cos(y / 15), np.sin((x - y) / 30)], -1)
            for step in range(6)
        ]
    ).astype(np.uint8)
    found = record(pictures).pictures[:, : size[0], : size[1]]
    assert min(map(psnr, found, pictures)) > 36


def test_odd_sizes_repeat_the_last_row_and_column(record):
    picture = np.full((77, 101, 3), 40, np.uint8)
    picture[-3:], picture[:, -3:] = 200, 200
    found = record(np.stack([picture] * 3)).pictures
    np.testing.assert_allclose(found[:, -1], 200, rtol=0, atol=8)
    np.testing.assert_allclose(found[:, :, -1], 200, rtol=0, atol=8)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (3, 16)], ids=str)
def test_tiny_pictures(record, size):
    video = record(np.full((3, *size, 3), 120, np.uint8))
    assert video.pictures.shape == (3, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    np.testing.assert_allclose(video.pictures, 120, rtol=0, atol=4)


def test_a_video_of_full_size(record):
    picture = np.zeros((480, 854, 3), np.uint8)
    picture[100:300, 200:500] = 192, 64, 32
    video = record(np.stack([picture] * 2))
    assert video.pictures.shape == (2, 480, 854, 3)
    np.testing.assert_allclose(video.pictures[0, 200, 350], (192, 64, 32), rtol=0, atol=4)


@pytest.mark.parametrize("count", [1, 2, 47])
def test_every_frame_is_there_in_order(record, count):
    levels = np.linspace(20, 230, count).round().astype(np.uint8)
    video = record(np.broadcast_to(levels[:, None, None, None], (count, 32, 48, 3)))
    assert len(video.pictures) == count
    np.testing.assert_allclose(video.pictures.mean((1, 2, 3)), levels, rtol=0, atol=2)


@pytest.mark.parametrize("rate", [1, 10, 24, 25, 60, Fraction(30000, 1001), Fraction(5, 2)], ids=str)
def test_frames_come_at_the_rate_given(record, rate):
    video = record(np.zeros((7, 16, 16, 3), np.uint8), rate=rate)
    assert video.rate == rate
    assert video.times == [index / Fraction(rate) for index in range(7)]
    assert video.duration == 7 / Fraction(rate)


def test_24_frames_a_second_unless_told(record):
    assert record(np.zeros((2, 16, 16, 3), np.uint8)).rate == 24


def test_players_can_start_before_they_have_the_whole_file(record, tmp_path, overlays):
    record(overlays)
    names = boxes((tmp_path / "video.mp4").read_bytes())
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")


def test_videos_say_which_colours_they_mean(record):
    """Else browsers guess, and wrongly from 720 rows on."""
    colours = davis_palette()[[0, 1, 2, 3, 4, 8, 10, 255]]
    video = record(np.broadcast_to(np.repeat(colours, 16, 0), (2, 32, 128, 3)))
    assert UNSPECIFIED not in video.colours
    np.testing.assert_allclose(video.pictures[:, 16, 8::16], np.stack([colours] * 2), rtol=0, atol=4)


def test_writing_leaves_pictures_as_they_were_and_takes_views(record, overlays):
    before = overlays.copy()
    for pictures in (overlays, overlays[:, ::-1, ::-1], overlays[:, ::2, ::2], overlays.transpose(0, 2, 1, 3)):
        assert min(map(psnr, record(pictures).pictures, pictures)) > 24
    np.testing.assert_array_equal(overlays, before)


def test_folders_are_made_and_earlier_videos_replaced(av, tmp_path):
    path = tmp_path / "overlay" / "new" / "clip.mp4"
    for count in (5, 2):
        with VideoWriter(path) as video:
            for _ in range(count):
                video.write(np.zeros((16, 16, 3), np.uint8))
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2
    assert [entry.name for entry in path.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.usefixtures("av")
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_between_frames_is_the_one_that_is_seen(tmp_path, count):
    def fail(path: Path) -> None:
        with VideoWriter(path) as video:
            for _ in range(count):
                video.write(np.zeros((16, 16, 3), np.uint8))
            raise KeyError("the next frame cannot be read")

    with pytest.raises(KeyError, match="the next frame"):
        fail(tmp_path / "clip.mp4")
