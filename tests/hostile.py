"""Makers of hostile files, each a function of the path to write: what attackers, downloads and editors leave behind."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from pathlib import Path
from threading import Thread

import av
import cv2
import numpy as np
import scipy.io
import torch
from PIL import Image
from torch import Tensor, nn

from models.liir import LIIR
from tests.builders import frame_pixels, halve, mask_pixels, weights, write_checkpoint, write_frame
from training import Recipe, Training
from utils.distributed import World
from utils.visualize import write_mask

Maker = Callable[[Path], object]

HEAD = "post_convolution.bias"
TURNED = 6  # EXIF's number for an image to be shown after a quarter turn
MEGABYTE = 1 << 20


def bytes_of(content: bytes) -> Maker:
    """Writes these bytes."""
    return lambda path: path.write_bytes(content)


def text_of(content: str) -> Maker:
    return bytes_of(content.encode())


def replaced(old: str, new: str) -> Maker:
    """Changes a text file's text; it must be there."""

    def make(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return make


def flipped(where: Callable[[zipfile.ZipFile], zipfile.ZipInfo]) -> Maker:
    """Flips one bit in the middle of a member of a checkpoint."""

    def make(path: Path) -> None:
        write_checkpoint(path)
        with zipfile.ZipFile(path) as archive:
            member = where(archive)
        data = bytearray(path.read_bytes())
        name_length, extra_length = struct.unpack_from("<HH", data, member.header_offset + 26)
        data[member.header_offset + 30 + name_length + extra_length + member.file_size // 2] ^= 4
        path.write_bytes(data)

    return make


def largest(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    return max(archive.infolist(), key=lambda member: member.file_size)


def the_pickle(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    return next(member for member in archive.infolist() if member.filename.endswith("data.pkl"))


def cut(share: float) -> Maker:
    """Keeps the beginning of a checkpoint."""

    def make(path: Path) -> None:
        write_checkpoint(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return make


def with_weight(value: float, name: str = HEAD, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Weights one of which is this value."""
    state = weights()
    state[name] = state[name].to(dtype).clone()
    state[name].view(-1)[0] = value
    return state


def without(name: str) -> dict[str, Tensor]:
    state = weights()
    del state[name]
    return state


def write_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights here")


def write_archive_of_masks(path: Path) -> None:
    """The masks that go with a released checkpoint, under the checkpoint's name."""
    write_mask(path.with_suffix(".png"), mask_pixels(0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".png"), "bear/00000.png")


def write_archive_of_junk(path: Path) -> None:
    """An archive built as PyTorch's are, whose pickle is none."""
    write_members(path, {"data.pkl": b"junk"})


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """An archive as PyTorch builds it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("version", b"3\n"), ("byteorder", b"little"), *members.items()):
            archive.writestr(f"weights/{name}", content)


def write_compressed(path: Path) -> None:
    """A whole checkpoint, unpacked and packed again by another program."""
    write_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_bomb(path: Path, member: str = "data/0", megabytes: int = 3000) -> None:
    """A checkpoint one member of which is zeros, gigabytes when they are inflated."""
    write_members(path, {} if member == "data.pkl" else {"data.pkl": pickle_of_claim([megabytes * MEGABYTE // 4])})
    shrink = zlib.compressobj(9, wbits=-15)
    block = shrink.compress(bytes(MEGABYTE)) + shrink.flush(zlib.Z_FULL_FLUSH)
    data = block * megabytes + zlib.compressobj(9, wbits=-15).flush()
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(f"weights/{member}")
        info.header_offset, info.CRC = archive.start_dir, 0  # whoever compares it has inflated everything
        info.compress_type, info.compress_size, info.file_size = zipfile.ZIP_DEFLATED, len(data), megabytes * MEGABYTE
        archive.fp.seek(archive.start_dir)
        archive.fp.write(info.FileHeader() + data)
        archive.filelist.append(info)
        archive.start_dir, archive._didModify = archive.fp.tell(), True


def write_overlapping(path: Path, members: int = 2000) -> None:
    """A checkpoint in whose directory one member stands many times: together larger than the file."""
    write_checkpoint(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += [largest(archive)] * members
        archive._didModify = True


class _Storage:
    """Stands for the values of a tensor in `pickle_of_claim`."""


class _Claim:
    """A tensor that claims to be this large, over one value."""

    def __init__(self, size: list[int]) -> None:
        self.size = size

    def __reduce__(self) -> tuple:
        return torch._utils._rebuild_tensor_v2, (_Storage(), 0, tuple(self.size), (1,), False, OrderedDict())


def pickle_of_claim(size: list[int]) -> bytes:
    """The pickle of a checkpoint whose one tensor claims values that the file has not."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 2)
    pickler.persistent_id = lambda value: (
        ("storage", torch.FloatStorage, "0", "cpu", int(np.prod(size))) if isinstance(value, _Storage) else None
    )
    pickler.dump({"state_dict": {HEAD: _Claim(size)}})
    return file.getvalue()


def write_claim(path: Path) -> None:
    write_members(path, {"data.pkl": pickle_of_claim([10**12]), "data/0": bytes(4096)})


def write_legacy_claim(path: Path) -> None:
    """In the format before zip, in which the memory that a tensor asks for is taken before its values are read."""
    torch.save({"state_dict": {HEAD: torch.zeros(77)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"KM") == 2  # 77 as pickle writes it: the number of values, and the size
    path.write_bytes(data.replace(b"KM", b"J\xff\xff\xff\x7f"))


def write_tar(path: Path) -> None:
    """The format before that: no weights here either."""
    folder = path.with_name("tar")
    folder.mkdir()
    for name in ("sys_info", "pickle", "storages", "tensors"):
        (folder / name).write_bytes(pickle.dumps({"state_dict": 1}))
    shutil.move(shutil.make_archive(str(folder), "tar", folder), path)


def write_safetensors(path: Path) -> None:
    """Another library's format: the length of a JSON header, the header, the values."""
    header = json.dumps({HEAD: {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(256))


def write_without_end(path: Path) -> None:
    write_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-10])


def write_legacy_halved(path: Path) -> None:
    torch.save({"state_dict": weights()}, path, _use_new_zipfile_serialization=False)
    halve(path)


def write_scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)), path)


def write_deep(path: Path) -> None:
    """Lists in lists, deeper than Python's stack."""
    write_members(path, {"data.pkl": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."})


FILES: dict[str, Maker] = {  # none is a checkpoint
    "missing": lambda path: None,  # noqa: ARG005
    "a folder": Path.mkdir,
    "empty": Path.touch,
    "one byte": bytes_of(b"\0"),
    "text": text_of("<html>404 Not Found</html>\n"),
    "noise": bytes_of(bytes(range(256)) * 64),
    "cut to a hundredth": cut(0.01),
    "halved": cut(0.5),
    "cut to nine tenths": cut(0.9),
    "without end": write_without_end,
    "halved legacy": write_legacy_halved,
    "a bit flipped in the weights": flipped(largest),
    "a bit flipped in the pickle": flipped(the_pickle),
    "zip bomb of weights": write_bomb,
    "zip bomb of a pickle": lambda path: write_bomb(path, "data.pkl"),
    "zip whose members overlap": write_overlapping,
    "packed again": write_compressed,
    "terabytes claimed": write_claim,
    "gigabytes claimed in the legacy format": write_legacy_claim,
    "lists in lists": write_deep,
    "tar": write_tar,
    "safetensors": write_safetensors,
    "archive": write_archive,
    "archive of masks": write_archive_of_masks,
    "archive of junk": write_archive_of_junk,
    "another pickle": bytes_of(pickle.dumps({"state_dict": {"weight": 1}})),
    "TorchScript": write_scripted,
    "whole module": lambda path: torch.save(nn.Linear(1, 1), path),
    "tensor": lambda path: torch.save(torch.zeros(3), path),
    "list": lambda path: torch.save([torch.zeros(3)], path),
    "number": lambda path: torch.save(3, path),
    "empty dict": lambda path: torch.save({}, path),
    "dict without state_dict": lambda path: torch.save({"model": weights(), "epoch": 3}, path),
    "weights without a dict around them": lambda path: torch.save(weights(), path),
    "keys of mixed kinds": lambda path: torch.save({1: 2, "model": 3}, path),
    "state_dict is a tensor": lambda path: torch.save({"state_dict": torch.zeros(3)}, path),
    "state_dict is empty": lambda path: torch.save({"state_dict": {}}, path),
    "state_dict is none": lambda path: torch.save({"state_dict": None}, path),
    "state_dict of numbers": lambda path: torch.save({"state_dict": {HEAD: 1.0}}, path),
}

STATES: dict[str, tuple[Callable[[], dict], str]] = {  # weights that do not fit, and what is said of them
    "junk names": (lambda: {"a": torch.zeros(1), "b": torch.zeros(1)}, "unknown a, b"),
    "one more name": (lambda: {**weights(), "decoder.weight": torch.zeros(1)}, "unknown decoder.weight"),
    "names of numbers": (lambda: {**weights(), 7: torch.zeros(1)}, "unknown 7"),
    "name of a terminal's commands": (lambda: {**weights(), "\x1b[2Ja": torch.zeros(1)}, r"unknown \x1b[2Ja"),
    "name of a megabyte": (lambda: {**weights(), "x" * MEGABYTE: torch.zeros(1)}, "unknown xxx"),
    "names of another wrapper": (
        lambda: {f"module.{name}": value for name, value in weights().items()},
        "module.feature_extraction",
    ),
    "one name missing": (lambda: without(HEAD), f"missing {HEAD}"),
    "counter missing": (lambda: without("feature_extraction.bn1.num_batches_tracked"), "num_batches_tracked"),
    "wrong shape": (lambda: {**weights(), HEAD: torch.zeros(63)}, f"{HEAD} [63] instead of [64]"),
    "another rank": (lambda: {**weights(), HEAD: torch.zeros(1, 64)}, f"{HEAD} [1, 64] instead of [64]"),
    "no dimension": (lambda: {**weights(), HEAD: torch.zeros(())}, f"{HEAD} [] instead of [64]"),
    "NaN": (lambda: with_weight(float("nan")), HEAD),
    "infinite": (lambda: with_weight(float("inf")), HEAD),
    "minus infinite": (lambda: with_weight(-float("inf")), HEAD),
    "NaN in half": (lambda: with_weight(float("nan"), dtype=torch.float16), HEAD),
    "beyond half precision": (lambda: {**weights(), HEAD: torch.full((64,), 1e6).half()}, HEAD),
    "NaN in a statistic": (
        lambda: with_weight(float("nan"), "feature_extraction.bn1.running_var"),
        "feature_extraction.bn1.running_var",
    ),
    "beyond single precision": (lambda: with_weight(1e300, dtype=torch.float64), HEAD),
    "complex": (lambda: with_weight(1, dtype=torch.complex64), HEAD),
    "sparse": (lambda: {**weights(), HEAD: weights()[HEAD].to_sparse()}, HEAD),
    "without values": (lambda: {**weights(), HEAD: torch.zeros(64, device="meta")}, HEAD),
    "quantised": (lambda: {**weights(), HEAD: torch.quantize_per_tensor(torch.ones(64), 1, 0, torch.qint8)}, HEAD),
    "8 bits": (lambda: {**weights(), HEAD: torch.ones(64).to(torch.float8_e4m3fn)}, HEAD),
    "one value for all": (lambda: {**weights(), HEAD: torch.zeros(1).expand(64)}, HEAD),
    "a trillion values": (lambda: {**weights(), HEAD: torch.zeros(1).expand(10**12)}, HEAD),
}


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple:
        return Path.touch, (self.sentinel,)


HOSTILE: dict[str, Callable[[Path, Hostile], object]] = {
    "bare pickle": lambda path, evil: path.write_bytes(pickle.dumps(evil)),
    "pickled dict": lambda path, evil: path.write_bytes(pickle.dumps({"state_dict": evil})),
    "instead of weights": lambda path, evil: torch.save({"state_dict": evil}, path),
    "beside the weights": lambda path, evil: torch.save({"state_dict": weights(), "epoch": evil}, path),
    "legacy": lambda path, evil: torch.save(
        {"state_dict": weights(), "epoch": evil}, path, _use_new_zipfile_serialization=False
    ),
}


@cache
def _last() -> dict:
    """The state of a training of stage 2, `tests.training_runs.STAGE_2`, after one step that changed nothing."""
    recipe = Recipe(usemomen=True, compact=True, lr=1e-4, bsize=2, factor=1)
    training = Training(recipe, World(0, 1, torch.device("cpu")))
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    training.optimizer.step()
    training.position.step = training.position.steps = 1
    assert asdict(recipe) == training.state_dict()["recipe"]
    return training.state_dict()


def last_with(**changes: Callable[[dict], object]) -> Maker:
    """A last.pt one part of whose state is what a function makes of it."""
    return lambda path: torch.save({**_last(), **{name: make(_last()[name]) for name, make in changes.items()}}, path)


def last_without(name: str) -> Maker:
    return lambda path: torch.save({key: value for key, value in _last().items() if key != name}, path)


def with_moments(change: Callable[[Tensor], Tensor]) -> Callable[[dict], dict]:
    """An optimiser's state in which a function has changed what Adam remembers of the first parameter."""

    def make(optimizer: dict) -> dict:
        first = {**optimizer["state"][0], "exp_avg": change(optimizer["state"][0]["exp_avg"])}
        return {**optimizer, "state": {**optimizer["state"], 0: first}}

    return make


def of_another_network(_: dict) -> dict:
    """The state of an Adam that trains as many parameters, of other shapes."""
    count = sum(1 for parameter in LIIR(momentum=True).parameters() if parameter.requires_grad)
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(count)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    optimizer = torch.optim.Adam(parameters)
    optimizer.step()
    return optimizer.state_dict()


RGB = frame_pixels(0)[..., ::-1]


def saved(convert: Callable[[Image.Image], Image.Image] = lambda image: image, **settings: object) -> Maker:
    """A frame that Pillow writes."""
    return lambda path: convert(Image.fromarray(RGB)).save(path, **settings)


def turn(path: Path) -> None:
    """Add a note to an image that it is to be turned by a quarter when it is shown."""
    orientation = Image.Exif()
    orientation[0x0112] = TURNED
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=orientation)


def write_deep_frame(path: Path) -> None:
    """16 bits a channel, as PNG."""
    _, data = cv2.imencode(".png", frame_pixels(0).astype(np.uint16) * 257)
    path.write_bytes(data)


def write_wide_bomb(path: Path) -> None:
    """A small file that holds a gigapixel of nothing: as many as OpenCV takes."""
    rows, columns = 32768, 32767

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    squeezed = zlib.compress(bytes((columns // 8 + 2) * rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", squeezed) + chunk(b"IEND", b""))


def write_huge_chunk(path: Path) -> None:
    """A PNG whose note claims two gigabytes."""
    write_frame(path.with_suffix(".png"), frame_pixels(0))
    data = path.with_suffix(".png").read_bytes()
    path.with_suffix(".png").unlink()
    path.write_bytes(data[:33] + struct.pack(">I", 2**31 - 16) + b"tEXt" + data[33:])


def become_pipe(path: Path) -> None:
    """Whoever opens it waits for another to write; here one waits who then writes nothing, so that no test hangs."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    Thread(target=lambda: path.open("wb").close(), daemon=True).start()


def resized(folder: Path, size: tuple[int, int], frames: str, masks: str) -> None:
    """All frames and masks below a folder at another size."""
    for path in sorted(folder.glob(frames)):
        write_frame(path, frame_pixels(int(path.stem), size))
    for path in sorted(folder.glob(masks)):
        write_mask(path, np.full(size, 1, np.uint8))


def mask_of(ids: np.ndarray) -> Maker:
    return lambda path: write_mask(path, ids.astype(np.uint8))


def write_jpeg_mask(path: Path) -> None:
    """A mask that lost its edges: ids are blurred into others."""
    Image.fromarray(mask_pixels(0, (40, 200))).save(path, format="JPEG")


def write_postscript(path: Path) -> None:
    """A program, which Pillow would have Ghostscript run."""
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n")


PICTURES = [
    np.kron(np.random.default_rng(i).integers(0, 230, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for i in range(8)
]


def write_video(
    path: Path,
    pictures: list[np.ndarray] = PICTURES,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    rate: Fraction | int = 24,
    times: list[int] | None = None,
    **settings: object,
) -> None:
    """times: of the frames, in hundredths of a second."""
    with av.open(str(path), "w", **settings) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (48, 64)
        stream.pix_fmt = pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        container.start_encoding()
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "bgr24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 100)
            container.mux(stream.encode(frame))
        if pictures:
            container.mux(stream.encode())


def video(*arguments: object, **settings: object) -> Maker:
    return lambda path: write_video(path, *arguments, **settings)


def write_audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_changing_video(path: Path) -> None:
    """Its frames change their size midway."""
    write_video(path, format="mpegts")
    first = path.read_bytes()
    write_video(path, [picture[:32, :32] for picture in PICTURES], format="mpegts")
    path.write_bytes(first + path.read_bytes())


def positions(change: Callable[[np.ndarray], object]) -> Maker:
    """Changes JHMDB's joints in their file."""

    def make(path: Path) -> None:
        joints = scipy.io.loadmat(path)["pos_img"]
        scipy.io.savemat(path, {"pos_img": change(joints)})

    return make


def annotated(**changes: object) -> Maker:
    """Changes fields of the first annotation in BADJA's file; None removes one."""

    def make(path: Path) -> None:
        content = json.loads(path.read_text())
        first = content["bear"]["annotations"][0]
        first |= changes
        content["bear"]["annotations"][0] = {name: value for name, value in first.items() if value is not None}
        path.write_text(json.dumps(content))

    return make
