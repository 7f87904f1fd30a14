"""Damaged and malicious files: each case ends in one clear line and exit code 2, or in the right result."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataloaders.frames import read_frame
from dataloaders.masks import read_mask
from dataloaders.training_pairs import Video, read_index
from scripts import check_data, export_checkpoint
from tests.support import jhmdb, training_runs, user_video, vip, youtube_vos
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import Outcome, require_refusal, require_success, run_here, run_script
from tests.support.davis import evaluate, write_davis
from tests.support.features import KINDS_OPTIONS, paint
from tests.support.files import become_folder, files, halve
from tests.support.hostile import Maker, annotated, become_pipe, bytes_of, positions, replaced, text_of
from tests.support.hostile_checkpoints import FILES, HOSTILE, STATES, Hostile
from tests.support.hostile_images import (
    mask_of,
    resized,
    saved,
    turn,
    write_deep_frame,
    write_huge_chunk,
    write_jpeg_mask,
    write_postscript,
    write_wide_bomb,
)
from tests.support.hostile_training import last_with, last_without, of_another_network, with_moments
from tests.support.hostile_videos import PICTURES, video, write_audio, write_changing_video, write_video
from tests.support.images import become_16_bit, become_rgb, frame_pixels, mask_pixels, read_pixels
from tests.support.videos import write_videos
from utils.device import peak_memory, select_device
from utils.visualize import write_mask

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, on pickles, sparse and quantised tensors

GIGABYTE = 1 << 30
MEMORY = 1.2 * GIGABYTE  # what a case may need


def run_davis(folder: Path, *options: object) -> Outcome:
    return evaluate("--datapath", folder, "--savepath", folder / "results", *(options or KINDS_OPTIONS))


def run_propagate(folder: Path, *options: object) -> Outcome:
    return user_video.run(folder, options[0] if options else "frames", "--mask", folder / "first.png")


def train(folder: Path, *options: object) -> Outcome:
    return training_runs.train_here(folder, folder / "results", "--bsize", 1, "--steps", 1, *options)


def list_index(folder: Path) -> None:
    """Reads an index without training."""
    print(read_index(folder / "videos.csv"))  # noqa: T201


def resume(folder: Path) -> Outcome:
    recipe = "--usemomen", "--compact", "--factor", 1, "--lr", 1e-4, "--steps", 1  # the step is already taken
    return training_runs.train_here(folder, folder / "results", *recipe, "--resume", folder / "last.pt")


def export(folder: Path) -> Outcome:
    paths = folder / "weights.pt", folder / "small.pt"
    return run_script(export_checkpoint, *paths)


def check(folder: Path, name: str) -> Outcome:
    return run_script(check_data, name, folder)


@dataclass(frozen=True)
class Script:
    """A script, and the small data set it runs on."""

    write: Callable[[Path], Path]
    run: Callable[[Path], Outcome]


def nothing(folder: Path) -> Path:
    return folder


SCRIPTS = {
    "evaluate": Script(write_davis, run_davis),
    "weights": Script(write_davis, lambda folder: run_davis(folder, "--resume", folder / "weights.pt")),
    "export": Script(nothing, export),
    "youtube": Script(youtube_vos.write_set, youtube_vos.evaluate),
    "vip": Script(vip.write_set, vip.evaluate),
    "jhmdb": Script(jhmdb.write_set, jhmdb.evaluate),
    "badja": Script(jhmdb.write_badja, lambda folder: jhmdb.evaluate(folder, "--layout", "badja")),
    "check": Script(jhmdb.write_set, partial(check, name="jhmdb")),
    "frames": Script(user_video.write_set, run_propagate),
    "video": Script(user_video.write_set, lambda folder: run_propagate(folder, "video.mkv")),
    "index": Script(write_videos, lambda folder: run_here(partial(list_index, folder), Path("x"))),
    "train": Script(write_videos, train),
    "pretrain": Script(write_videos, lambda folder: train(folder, "--pretrain", folder / "weights.pt")),
    "resume": Script(write_videos, resume),
}
Check = Callable[[Path, Outcome], None]  # (folder of the data set, outcome of the script)


@dataclass(frozen=True)
class Case:
    """A data set in which one file is made hostile.

    end: what the error says, or a check of the result; names: the file that the error names, if another one.
    """

    name: str
    script: str
    file: str
    make: Maker
    end: tuple[str, ...] | Check
    names: str = ""


# Checks of results where nothing is refused


def frame_as_opencv(folder: Path, outcome: Outcome) -> None:
    """The second frame is read as OpenCV reads it, and all masks are written."""
    require_success(outcome)
    path = folder / FRAME
    np.testing.assert_array_equal(read_frame(path), cv2.imread(str(path)))
    np.testing.assert_allclose(read_frame(path).mean(), frame_pixels(0).mean(), atol=6)
    assert len(list((folder / "results" / "benchmark" / "bear").iterdir())) == 3


def grey(folder: Path, outcome: Outcome) -> None:
    frame_as_opencv(folder, outcome)
    frame = read_frame(folder / FRAME)
    assert (frame == frame[..., :1]).all()


def masks_have(shape: tuple[int, int], ids: tuple[int, ...] | range, where: str = "benchmark/bear") -> Check:
    """All masks have this shape; the first has exactly these ids, the others no further ones."""

    def require(folder: Path, outcome: Outcome) -> None:
        assert outcome.code == 0, outcome.stderr  # with a warning where only the first true mask was changed
        masks = [read_pixels(path) for path in sorted((folder / "results" / where).iterdir())]
        assert {mask.shape for mask in masks} == {shape}
        assert set(np.unique(masks[0])) - {0} == set(ids)
        assert all(set(np.unique(mask)) <= {0, *ids} for mask in masks)

    return require


def video_of(count: int, shape: tuple[int, int] = user_video.SIZE) -> Check:
    """There are this many masks of this shape, and as many frames in the overlay."""

    def require(folder: Path, outcome: Outcome) -> None:
        assert outcome.code == 0, outcome.stderr
        assert f"\n{count} frames: " in outcome.stdout
        masks = user_video.masks(folder)
        assert [mask.shape for mask in masks] == [shape] * count
        overlay = cv2.VideoCapture(str(folder / "results" / "overlay.mp4"))
        assert sum(1 for _ in iter(overlay.grab, False)) == count

    return require


def same_videos(script: str) -> Check:
    """The results are those for the unchanged data set."""

    def require(folder: Path, outcome: Outcome) -> None:
        require_success(outcome)
        (folder / "whole").mkdir()
        whole = SCRIPTS[script].write(folder / "whole")
        require_success(SCRIPTS[script].run(whole))
        names = {"sequences", "Annotations", "masks"}
        found, expected = (
            {name: data for name, data in files(root / "results").items() if name.split("/")[0] in names}
            for root in (folder, whole)
        )
        assert found.keys() == expected.keys()
        assert all(found[name] == expected[name] for name in found if name.endswith(".png"))

    return require


def read_by_colours(script: str) -> Check:
    """A warning tells the colours; the results are those for the unchanged data set."""

    def require(folder: Path, outcome: Outcome) -> None:
        assert outcome.stderr.count("warning: ") == outcome.stderr.count("its colours are taken as objects: #") == 1
        same_videos(script)(folder, Outcome(outcome.code, outcome.stdout, outcome.stderr.replace("warning", "")))

    return require


def indexed(*videos: Video) -> Check:
    def require(_: Path, outcome: Outcome) -> None:
        assert require_success(outcome) == f"{list(videos)}\n"

    return require


def joints_found(folder: Path, outcome: Outcome) -> None:
    require_success(outcome)
    assert json.loads((folder / "results" / "results.json").read_text())["joints"]


FRAME, MASK = "JPEGImages/480p/bear/00001.jpg", "Annotations/480p/bear/00000.png"
JPEG = {"format": "JPEG", "quality": 95}


def turn_all(folder: Path, masks: Callable[[np.ndarray], np.ndarray]) -> None:
    """Mark every frame as rotated by EXIF, and apply a function to every mask."""
    for path in sorted(folder.glob("JPEGImages/480p/bear/*.jpg")):
        turn(path)
    for path in sorted(folder.glob("Annotations/480p/bear/*.png")):
        write_mask(path, np.ascontiguousarray(masks(read_pixels(path))))


def turn_masks_too(folder: Path) -> None:
    turn_all(folder, lambda mask: mask)
    for path in sorted(folder.glob("Annotations/480p/bear/*.png")):
        turn(path)


def quarter(mask: np.ndarray) -> np.ndarray:
    return np.rot90(mask, -1)


def turned(folder: Path, outcome: Outcome) -> None:
    """Masks have the rotated frames' size, and cover the object's colour in them."""
    masks_have((32, 24), (1,))(folder, outcome)
    frame = read_frame(folder / "JPEGImages/480p/bear/00000.jpg").astype(int)
    mask = read_mask(folder / MASK)
    assert mask.shape == frame.shape[:2]
    assert np.abs(frame[mask == 1] - (30, 220, 250)).mean() < 30
    assert np.array_equal(read_pixels(folder / "results/benchmark/bear/00000.png"), mask)


def resize_all(size: tuple[int, int]) -> Maker:
    return lambda folder: resized(folder, size, "JPEGImages/480p/bear/*.jpg", "Annotations/480p/bear/*.png")


def ids_with_gaps() -> np.ndarray:
    return mask_pixels(0, (7, 200))


def all_ids() -> np.ndarray:
    return np.arange(24 * 32).reshape(24, 32) % 256


def video_and_mask(size: tuple[int, int], codec: str = "ffv1", pixels: str = "bgr0") -> Maker:
    def make(path: Path) -> None:
        write_video(path, [picture[: size[0], : size[1]] for picture in PICTURES], codec, pixels)
        write_mask(path.with_name("first.png"), np.ones(size, np.uint8))

    return make


def cut_video(share: float, **settings: object) -> Maker:
    def make(path: Path) -> None:
        write_video(path, **settings)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return make


def cut_short(folder: Path, outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.stderr
    assert 0 < len(user_video.masks(folder)) < len(PICTURES)


IMAGES = [
    Case("truncated JPEG", "vip", "Images/a/000000000001.png", lambda path: (saved(**JPEG)(path), halve(path)), ()),
    Case("truncated PNG", "jhmdb", "Rename_Images/wave/wave_test/00002.png", halve, ()),
    Case("zero bytes", "youtube", "valid/JPEGImages/early/00005.png", bytes_of(b""), ("0 bytes",)),
    Case("zero bytes of a propagated frame", "frames", "frames/3.png", bytes_of(b""), ("0 bytes",)),
    Case("a folder named 00001.jpg", "evaluate", FRAME, become_folder, ("directory",)),
    Case("a pipe named 00001.jpg", "evaluate", FRAME, become_pipe, ("pipe",)),
    Case("web page as a frame", "vip", "Images/b/000000000002.png", text_of("<html>404</html>"), ("decoded",)),
    Case("program as a frame", "evaluate", FRAME, write_postscript, ("decoded",)),
    Case("a gigapixel in a megabyte", "evaluate", FRAME, write_wide_bomb, ("pixels",)),
    Case("PNG with a note of gigabytes", "evaluate", FRAME, write_huge_chunk, ()),
    Case("16 bits a channel", "evaluate", FRAME, write_deep_frame, frame_as_opencv),
    Case("CMYK", "evaluate", FRAME, saved(lambda image: image.convert("CMYK"), **JPEG), frame_as_opencv),
    Case("grey JPEG", "evaluate", FRAME, saved(lambda image: image.convert("L"), **JPEG), grey),
    Case("grey PNG", "evaluate", FRAME, saved(lambda image: image.convert("L"), format="PNG"), grey),
    Case("alpha", "evaluate", FRAME, saved(lambda image: image.convert("RGBA"), format="PNG"), frame_as_opencv),
    Case("palette", "evaluate", FRAME, saved(lambda image: image.quantize(64), format="PNG"), frame_as_opencv),
    Case("progressive", "evaluate", FRAME, saved(**JPEG, progressive=True), frame_as_opencv),
    Case("WebP", "evaluate", FRAME, saved(format="WEBP", lossless=True), frame_as_opencv),
    Case("to be shown turned, masks too", "evaluate", ".", partial(turn_all, masks=quarter), turned),
    Case("to be shown turned, masks say so too", "evaluate", ".", turn_masks_too, turned),
    Case("to be shown turned, masks as stored", "evaluate", ".", partial(turn_all, masks=np.copy), ("32x24", "24x32")),
    Case("one frame turned", "evaluate", FRAME, turn, ("24x32", "32x24")),
    Case("one frame larger in VIP", "vip", "Images/a/000000000002.png", saved(format="PNG"), ("32x24", "60x36")),
    Case(
        "one frame larger in JHMDB",
        "jhmdb",
        "Rename_Images/wave/wave_test/00002.png",
        saved(format="PNG"),
        ("32x24", "160x80"),
    ),
    Case("1x1", "evaluate", ".", resize_all((1, 1)), masks_have((1, 1), (1,))),
    Case("1x7", "evaluate", ".", resize_all((1, 7)), masks_have((1, 7), (1,))),
    Case("20,000 wide", "evaluate", ".", resize_all((6, 20_000)), masks_have((6, 20_000), (1,))),
]

MASKS = [
    Case("coloured mask", "youtube", "valid/Annotations/early/00000.png", become_rgb, read_by_colours("youtube")),
    Case(
        "coloured mask in VIP",
        "vip",
        "Annotations/Category_ids/a/000000000002.png",
        become_rgb,
        read_by_colours("vip"),
    ),
    Case("coloured mask of a video", "frames", "first.png", become_rgb, read_by_colours("frames")),
    Case("16-bit mask", "frames", "first.png", become_16_bit, same_videos("frames")),
    Case("photograph as a mask", "youtube", "valid/Annotations/early/00000.png", saved(format="PNG"), ("colours",)),
    Case("JPEG as a mask", "evaluate", MASK, write_jpeg_mask, ("JPEG",)),
    Case("program as a mask", "evaluate", MASK, write_postscript, ("decoded",)),
    Case("a pipe named 00000.png", "evaluate", MASK, become_pipe, ("pipe",)),
    Case("truncated mask", "vip", "Annotations/Category_ids/b/000000000000.png", halve, ("decoded",)),
    Case("ids with gaps", "evaluate", MASK, mask_of(ids_with_gaps()), masks_have((24, 32), (7, 200))),
    Case(
        "255 is ignored",
        "evaluate",
        MASK,
        mask_of(np.where(mask_pixels(0), 3, 255)),
        masks_have((24, 32), (3,)),
    ),
    Case("254 objects", "evaluate", MASK, mask_of(all_ids()), masks_have((24, 32), range(1, 255))),
    Case(
        "255 objects of a video",
        "frames",
        "first.png",
        mask_of(np.arange(48 * 64).reshape(48, 64) % 256),
        masks_have((48, 64), range(1, 256), "masks"),
    ),
    Case("empty first mask", "frames", "first.png", mask_of(np.zeros((48, 64))), ("no object",)),
    Case("mask of another size", "frames", "first.png", mask_of(np.ones((10, 10))), ("10x10", "64x48")),
    Case(
        "first mask of another size in VIP",
        "vip",
        "Annotations/Category_ids/a/000000000000.png",
        mask_of(np.ones((10, 12))),
        ("12x10", "60x36"),
    ),
    Case(
        "later mask of another size in VIP",
        "vip",
        "Annotations/Category_ids/a/000000000003.png",
        mask_of(np.ones((10, 12))),
        ("12x10", "60x36"),
    ),
    Case(
        "mask of another size in YouTube-VOS",
        "youtube",
        "valid/Annotations/early/00000.png",
        mask_of(np.ones((5, 5))),
        ("5x5", "48x32"),
    ),
]

META, INDEX, SPLIT = "valid/meta.json", "videos.csv", "splits/wave_test_split1.txt"
JOINTS, ANIMALS = "joint_positions/wave/wave_test/joint_positions.mat", "joints_480p.json"
ONE_OBJECT = '{"videos": {"early": {"objects": {"%s": {"frames": ["00000"]}}}}}'
DEEP = "[" * 100_000 + "]" * 100_000
VIP_LIST = "lists/val_videos.txt"


def with_mark(path: Path) -> None:
    """With a byte order mark and CRLF, as some editors on Windows save it."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def one_line_json(path: Path) -> None:
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(json.loads(path.read_text()), indent=1).encode().replace(b"\n", b"\r\n")
    )


TEXTS = [
    Case("list with a mark and CRLF", "vip", VIP_LIST, with_mark, same_videos("vip")),
    Case("list with blanks and duplicates", "vip", VIP_LIST, text_of("\n a \n\nb\na\n\n"), same_videos("vip")),
    Case("list that leads out", "vip", VIP_LIST, text_of("../a\n"), ("'../a'",)),
    Case("list of bytes", "vip", VIP_LIST, bytes_of(b"a\nb\xff\n"), ("utf-8",)),
    Case("list of a megabyte's name", "vip", VIP_LIST, text_of("x" * 2**20), ("no such folder",), names="Images/xxx"),
    Case("list of a terminal's commands", "vip", VIP_LIST, text_of("\x1b[2J/\n"), (r"\x1b[2J",)),
    Case("list that is a pipe", "vip", VIP_LIST, become_pipe, ("pipe",)),
    Case("meta.json with a mark and CRLF", "youtube", META, one_line_json, same_videos("youtube")),
    Case("meta.json cut off", "youtube", META, halve, ()),
    Case("meta.json of NaN", "youtube", META, text_of('{"videos": NaN}'), ()),
    Case("meta.json of a list", "youtube", META, text_of("[]"), ()),
    Case("meta.json 100,000 deep", "youtube", META, text_of(f'{{"videos": {DEEP}}}'), ("deep",)),
    Case("meta.json of a number of 10^5 digits", "youtube", META, text_of('{"videos": ' + "9" * 10**5 + "}"), ()),
    Case("meta.json of UTF-16", "youtube", META, bytes_of('{"videos": {}}'.encode("utf-16")), ()),
    Case("a video twice", "youtube", META, replaced('"late"', '"early"'), ("'early'", "twice")),
    Case("frames not strings", "youtube", META, replaced('"00005"', "5"), ("not a list of names",)),
    Case("frames none", "youtube", META, text_of(ONE_OBJECT.replace('"00000"', "") % "1"), ("early",)),
    Case(
        "frames twice",
        "youtube",
        META,
        replaced('"00010", "00015"]', '"00010", "00015", "00010"]'),
        same_videos("youtube"),
    ),
    Case("frame that leads out", "youtube", META, text_of(ONE_OBJECT.replace("00000", "../00000") % 1), ("../00000",)),
    Case("video that leads out", "youtube", META, text_of(ONE_OBJECT.replace("early", "../x") % 1), ("../x",)),
    Case("video of a zero byte", "youtube", META, text_of(ONE_OBJECT.replace("early", r"a\u0000") % 1), ()),
    Case(
        "video of half a character",
        "youtube",
        META,
        text_of(ONE_OBJECT.replace("early", r"\ud800") % 1),
        (r"\ud800",),
        names="valid/JPEGImages",
    ),
    *(
        Case(f"object {number!r:.20}", "youtube", META, text_of(ONE_OBJECT % number), ())
        for number in ("0", "-1", "256", "1.5", "1e2", "1_0", " 1", "+1", "١", "9" * 5000, "", "NaN")
    ),
    Case(
        "index with a mark, CRLF, blanks",
        "index",
        INDEX,
        with_mark,
        indexed(*(Video(f"v{i}", 0, 12) for i in range(5))),
    ),
    Case("index with duplicates", "index", INDEX, text_of("v0,0,12\nv0,0,12\n\n"), indexed(Video("v0", 0, 12))),
    *(
        Case(f"index row {row!r:.30}", "train", INDEX, text_of(row + "\n"), (told,))
        for row, told in (
            ("../v0,0,12", "'../v0'"),
            ("v0/../../v0,0,12", "'v0/../../v0'"),
            ("v0,0", "2 columns"),
            ("v0,0,twelve", "'twelve'"),
            ("v0,0,12.0", "'12.0'"),
            ("v0,0,١٢", "whole numbers"),
            ("v0,0,1_2", "'1_2'"),
            ("v0,0," + "9" * 5000, "99"),
            ("v0,0,9999999", "9999999"),
            ("v0,-1,12", "-1"),
            ('"v0,0,12', "columns"),
            ("x" * 200_000 + ",0,12", "limit"),
        )
    ),
    Case("index row of a zero byte", "train", INDEX, text_of("v\x000,0,12"), (r"v\x000",), names="."),
    Case("index of bytes", "train", INDEX, bytes_of(b"v0\xff,0,12\n"), ("utf-8",)),
    Case("index that is a folder", "train", INDEX, become_folder, ("directory",)),
    Case("index that is a pipe", "train", INDEX, become_pipe, ("pipe",)),
    Case("split that leads out", "jhmdb", SPLIT, text_of(".. 2\n"), ("'..'",)),
    Case(
        "split of long names",
        "jhmdb",
        SPLIT,
        text_of("x" * 300 + ".avi 2\n"),
        ("xxx",),
        names="joint_positions/wave/xxx",
    ),
    Case("split of long names, checked", "check", SPLIT, text_of("x" * 300 + ".avi 2\n"), ("1 of 2",), names="."),
    Case("split with no test video", "jhmdb", SPLIT, text_of("wave_test.avi 3\n"), ("0, 1, 2",)),
    Case("joints cut off", "jhmdb", JOINTS, halve, ()),
    Case("joints of text", "jhmdb", JOINTS, positions(lambda joints: joints.astype(str)), ("numbers",)),
    Case("joints of objects", "jhmdb", JOINTS, positions(lambda joints: joints.astype(object)), ("numbers",)),
    Case("complex joints", "jhmdb", JOINTS, positions(lambda joints: joints + 1j), ("numbers",)),
    Case("infinite joints", "jhmdb", JOINTS, positions(lambda joints: joints * np.inf), ("finite",)),
    Case("joints of no frame", "jhmdb", JOINTS, positions(lambda joints: joints[..., :0]), ("0",)),
    Case(
        "joints of more frames",
        "jhmdb",
        JOINTS,
        positions(lambda joints: np.tile(joints, 9)),
        ("36",),
        names="Rename_Images/wave/wave_test",
    ),
    Case("joints of whole numbers", "jhmdb", JOINTS, positions(lambda joints: joints.astype(np.uint8)), joints_found),
    Case(
        "a joint of NaN",
        "jhmdb",
        JOINTS,
        positions(lambda joints: np.where(joints == joints[0, 0, 0], np.nan, joints)),
        joints_found,
    ),
    Case("animals 100,000 deep", "badja", ANIMALS, text_of(DEEP), ("deep",)),
    Case("animals with a mark", "badja", ANIMALS, with_mark, joints_found),
    Case("animals twice", "badja", ANIMALS, text_of('{"bear": {}, "bear": {}}'), ("'bear'", "twice")),
    Case("animals cut off", "badja", ANIMALS, halve, ()),
    Case("animals in a list", "badja", ANIMALS, text_of('["bear"]'), ()),
    Case("an animal of no annotation", "badja", ANIMALS, text_of('{"bear": {"annotations": []}}'), ("bear",)),
    Case("an animal that is a number", "badja", ANIMALS, text_of('{"bear": 3}'), ("bear",)),
    Case("an animal that leads out", "badja", ANIMALS, replaced('"bear"', '"../480p/bear"'), ("../480p/bear",)),
    *(
        Case(f"animal with {name} {value!r:.20}", "badja", ANIMALS, annotated(**{name: value}), ("bear",))
        for name, value in (
            ("frame", -1),
            ("frame", -(10**12)),
            ("frame", 3),
            ("frame", 10**30),
            ("frame", 0.5),
            ("frame", "0"),
            ("frame", None),
            ("visibility", None),
            ("visibility", [1]),
            ("visibility", [1, 1, 1]),
            ("visibility", 1),
            ("joints_yx_480p", None),
            ("joints_yx_480p", [[4, 4]]),
            ("joints_yx_480p", [[4, 4, 4], [5, 5, 5]]),
            ("joints_yx_480p", [["a", "b"], ["c", "d"]]),
            ("joints_yx_480p", [[4, 4], [float("inf"), 5]]),
        )
    ),
    Case(
        "animal with a joint of NaN",
        "badja",
        ANIMALS,
        annotated(joints_yx_480p=[[4, 4], [float("nan"), 5]]),
        joints_found,
    ),
]


def write_png(path: Path) -> None:
    Image.fromarray(paint(user_video.kinds(0))).save(path, format="PNG")


VIDEO = "video.mkv"
VIDEOS = [
    Case("video of zero bytes", "video", VIDEO, bytes_of(b""), ("no frame",)),
    Case("web page as a video", "video", VIDEO, text_of("<html>404</html>"), ("no frame",)),
    Case("video that is a pipe", "video", VIDEO, become_pipe, ("no such video",)),
    Case("video of no frames", "video", VIDEO, video([]), ("no frame",)),
    Case("audio only", "video", VIDEO, write_audio, ("no frame",)),
    Case("variable rate", "video", VIDEO, video(times=[0, 1, 2, 30, 31, 90, 200, 201]), video_of(8)),
    Case("cut off before its index", "video", VIDEO, cut_video(0.5, format="mp4"), ("no frame",)),
    Case("cut off", "video", VIDEO, cut_video(0.6, codec="mjpeg", pixels="yuvj420p"), cut_short),
    Case("size changes midway", "video", VIDEO, write_changing_video, video_of(16)),
    Case("90,000 frames a second", "video", VIDEO, video(rate=90_000), video_of(8)),
    Case("a frame in 1.4 hours", "video", VIDEO, video(rate=Fraction(1, 5000), format="mp4"), video_of(8)),
    Case("odd size", "video", VIDEO, video_and_mask((17, 33)), video_of(8, (17, 33))),
    Case("video of 1x1", "video", VIDEO, video_and_mask((1, 1)), video_of(8, (1, 1))),
    Case(
        "video of another size than its mask",
        "video",
        VIDEO,
        video([p[:32] for p in PICTURES]),
        ("first.png", "64x32"),
        names="first.png",
    ),
    Case("an image as a video", "video", VIDEO, write_png, video_of(1)),
]


LAST = "last.pt"


def write_state(path: Path, name: str) -> None:
    write_checkpoint(path, STATES[name][0]())


STARTS = [
    *(Case(f"weights: {name}", "weights", "weights.pt", make, ()) for name, make in FILES.items()),
    Case("bit flipped, --pretrain", "pretrain", "weights.pt", FILES["a bit flipped in the weights"], ()),
    Case("zip bomb, --pretrain", "pretrain", "weights.pt", FILES["zip bomb of weights"], ()),
    Case("bit flipped, --resume", "resume", LAST, FILES["a bit flipped in the weights"], ()),
    Case("weights alone, --resume", "resume", LAST, write_checkpoint, ("training state", "--pretrain")),
    *(
        Case(f"last.pt without {name}", "resume", LAST, last_without(name), ("training state",))
        for name in ("optimizer", "queue", "position", "recipe")
    ),
    *(
        Case(f"last.pt: {name} {label}", "resume", LAST, last_with(**{name: change}), (name,))
        for name, label, change in (
            ("position", "negative", lambda position: {**position, "steps": -1}),
            ("position", "of text", lambda position: {**position, "step": "1"}),
            ("position", "of half steps", lambda position: {**position, "step": 0.5}),
            ("position", "of NaN", lambda position: {**position, "epoch": float("nan")}),
            ("position", "lacks a part", lambda position: {"epoch": 0}),  # noqa: ARG005
            ("position", "has more parts", lambda position: {**position, "speed": 1}),
            ("position", "is a list", list),
            ("recipe", "is a list", list),
            ("queue", "is empty", lambda queue: {}),  # noqa: ARG005
            ("queue", "of another size", lambda queue: {**queue, "keys": queue["keys"][:1]}),
            ("queue", "of one value", lambda queue: {**queue, "keys": queue["keys"][:1, :1, :1, :1]}),
            ("queue", "of NaN", lambda queue: {**queue, "keys": queue["keys"] * float("nan")}),
            ("queue", "of text", lambda queue: {**queue, "keys": "keys"}),
            ("queue", "written -1 times", lambda queue: {**queue, "written": -1}),
            ("optimizer", "is empty", lambda optimizer: {}),  # noqa: ARG005
            ("optimizer", "is a tensor", lambda optimizer: optimizer["state"][0]["exp_avg"]),
            ("optimizer", "of another network", of_another_network),
            ("optimizer", "of one value", with_moments(lambda moments: moments.flatten()[:1].clone())),
            ("optimizer", "of NaN", with_moments(lambda moments: moments * float("nan"))),
            ("optimizer", "of text", with_moments(str)),
            (
                "optimizer",
                "with another decay",
                lambda optimizer: {**optimizer, "param_groups": [{**optimizer["param_groups"][0], "betas": "no"}]},
            ),
            ("videos", "are a number", lambda videos: 3),  # noqa: ARG005
            ("videos", "of one number", lambda videos: [3]),  # noqa: ARG005
            ("state_dict", "of numbers", lambda state: dict.fromkeys(state, 1.0)),
            ("state_dict", "is a list", list),
        )
    ),
    Case("last.pt as it is", "resume", LAST, last_with(), lambda _, outcome: require_success(outcome)),
    Case(
        "export of a trillion values",
        "export",
        "weights.pt",
        partial(write_state, name="a trillion values"),
        ("post",),
    ),
    Case("export of NaN", "export", "weights.pt", partial(write_state, name="NaN"), ("finite",)),
    Case("export of a zip bomb", "export", "weights.pt", FILES["zip bomb of weights"], ()),
]


STATE_CASES = [
    Case(f"weights: {name}", "weights", "weights.pt", partial(write_state, name=name), (told,))
    for name, (_, told) in STATES.items()
]


def write_evil(path: Path, name: str) -> None:
    HOSTILE[name](path, Hostile(path.with_name("sentinel")))


EVIL = [
    Case(f"code in {place}: {name}", script, file, partial(write_evil, name=name), ())
    for name in HOSTILE
    for place, script, file in (("weights", "weights", "weights.pt"), ("last.pt", "resume", LAST))
]

TABLE = [*IMAGES, *MASKS, *TEXTS, *VIDEOS, *STARTS, *STATE_CASES, *EVIL]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_hostile_file(case, tmp_path):
    """No traceback, no code from the file is run, no hang, bounded memory."""
    script = SCRIPTS[case.script]
    folder = script.write(tmp_path / "set" if case.script in ("train", "pretrain", "resume") else tmp_path)
    before = peak_memory(select_device("cpu"))
    path = folder / case.file
    case.make(path)
    outcome = script.run(folder)
    assert peak_memory(select_device("cpu")) < before + MEMORY
    assert not (folder / "sentinel").exists()
    if callable(case.end):
        case.end(folder, outcome)
    else:
        line = require_refusal(outcome, *case.end)
        assert len(line) < 3000
        assert line.isprintable()
        assert str(folder / (case.names or case.file)) in line
        assert case.script != "weights" or not (folder / "results").exists()


def test_there_are_enough_cases():
    assert len(TABLE) >= 80
    assert len({case.name for case in TABLE}) == len(TABLE)
