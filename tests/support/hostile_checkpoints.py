"""Writers of damaged and malicious checkpoints."""

import io
import json
import pickle
import shutil
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.checkpoints import weights, write_checkpoint
from tests.support.files import halve
from tests.support.hostile import Maker, bytes_of, text_of
from tests.support.images import mask_pixels
from utils.visualize import write_mask

HEAD = "post_convolution.bias"
MEGABYTE = 1 << 20


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
    """Weights with one value replaced."""
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
    """An archive in PyTorch's layout, whose pickle is junk."""
    write_members(path, {"data.pkl": b"junk"})


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """An archive in PyTorch's layout."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("version", b"3\n"), ("byteorder", b"little"), *members.items()):
            archive.writestr(f"weights/{name}", content)


def write_compressed(path: Path) -> None:
    """A checkpoint that was unzipped and zipped again, compressed."""
    write_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_bomb(path: Path, member: str = "data/0", megabytes: int = 3000) -> None:
    """A checkpoint with a member that decompresses to gigabytes of zeros."""
    write_members(path, {} if member == "data.pkl" else {"data.pkl": pickle_of_claim([megabytes * MEGABYTE // 4])})
    shrink = zlib.compressobj(9, wbits=-15)
    block = shrink.compress(bytes(MEGABYTE)) + shrink.flush(zlib.Z_FULL_FLUSH)
    data = block * megabytes + zlib.compressobj(9, wbits=-15).flush()
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(f"weights/{member}")
        info.header_offset, info.CRC = archive.start_dir, 0  # the checksum is compared after decompression
        info.compress_type, info.compress_size, info.file_size = zipfile.ZIP_DEFLATED, len(data), megabytes * MEGABYTE
        archive.fp.seek(archive.start_dir)
        archive.fp.write(info.FileHeader() + data)
        archive.filelist.append(info)
        archive.start_dir, archive._didModify = archive.fp.tell(), True


def write_overlapping(path: Path, members: int = 2000) -> None:
    """A checkpoint whose zip directory lists one member many times."""
    write_checkpoint(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += [largest(archive)] * members
        archive._didModify = True


class _Storage:
    """Stands for the values of a tensor in `pickle_of_claim`."""


class _Claim:
    """A tensor of one value that claims this size."""

    def __init__(self, size: list[int]) -> None:
        self.size = size

    def __reduce__(self) -> tuple:
        return torch._utils._rebuild_tensor_v2, (_Storage(), 0, tuple(self.size), (1,), False, OrderedDict())


def pickle_of_claim(size: list[int]) -> bytes:
    """The pickle of a checkpoint whose only tensor claims more values than the file has."""
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
    """In the legacy format, where memory is allocated before values are read."""
    torch.save({"state_dict": {HEAD: torch.zeros(77)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"KM") == 2  # 77 as pickle writes it: the number of values, and the size
    path.write_bytes(data.replace(b"KM", b"J\xff\xff\xff\x7f"))


def write_tar(path: Path) -> None:
    """The oldest format, a tar archive, without weights."""
    folder = path.with_name("tar")
    folder.mkdir()
    for name in ("sys_info", "pickle", "storages", "tensors"):
        (folder / name).write_bytes(pickle.dumps({"state_dict": 1}))
    shutil.move(shutil.make_archive(str(folder), "tar", folder), path)


def write_safetensors(path: Path) -> None:
    """A safetensors file."""
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
    """Nested lists, deeper than Python's stack."""
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
    "weights beside a number": lambda path: torch.save({**weights(), "epoch": 3}, path),
    "keys of mixed kinds": lambda path: torch.save({1: 2, "model": 3}, path),
    "state_dict is a tensor": lambda path: torch.save({"state_dict": torch.zeros(3)}, path),
    "state_dict is empty": lambda path: torch.save({"state_dict": {}}, path),
    "state_dict is none": lambda path: torch.save({"state_dict": None}, path),
    "state_dict of numbers": lambda path: torch.save({"state_dict": {HEAD: 1.0}}, path),
}
STATES: dict[str, tuple[Callable[[], dict], str]] = {  # weights that do not fit, and what the error says
    "junk names": (lambda: {"a": torch.zeros(1), "b": torch.zeros(1)}, "unknown a, b"),
    "one more name": (lambda: {**weights(), "decoder.weight": torch.zeros(1)}, "unknown decoder.weight"),
    "names of numbers": (lambda: {**weights(), 7: torch.zeros(1)}, "unknown 7"),
    "name of a terminal's commands": (lambda: {**weights(), "\x1b[2Ja": torch.zeros(1)}, r"unknown \x1b[2Ja"),
    "name of a megabyte": (lambda: {**weights(), "x" * MEGABYTE: torch.zeros(1)}, "unknown xxx"),
    "names of an unknown wrapper": (
        lambda: {f"net.{name}": value for name, value in weights().items()},
        "net.feature_extraction",
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
