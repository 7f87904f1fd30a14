"""The zip file for the YouTube-VOS evaluation server: written, then checked by reading it again."""

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from dataloaders.frames import UNDECODABLE, read_frame
from dataloaders.youtube_vos import Video
from utils.errors import UserError
from utils.palette import davis_palette
from utils.savepath import replacing, writing

NAME = "submission.zip"
FOLDER = "Annotations"


def pack(savepath: Path, videos: list[Video]) -> Path:
    """Zip the expected masks of SAVEPATH/Annotations into SAVEPATH/submission.zip, atomically; return its path."""
    path = savepath / NAME
    with writing(path), replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:  # PNGs are compressed
        for video in videos:
            for frame in sorted(video.wanted):
                member = f"{FOLDER}/{video.name}/{frame}.png"
                if not (savepath / member).is_file():
                    raise UserError(f"{savepath / member}: has been deleted; pass --overwrite to propagate again")
                archive.write(savepath / member, member)
    return path


def validate(path: Path, videos: list[Video]) -> None:
    """Raise UserError unless the zip contains exactly the expected masks, of the right format, size and ids."""
    wanted = {f"{FOLDER}/{video.name}/{frame}.png": video for video in videos for frame in video.wanted}
    sizes = {video.name: read_frame(video.frames[0]).shape[:2] for video in videos}
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.namelist())
            if missing := sorted(wanted.keys() - set(members)):
                raise UserError(f"{path}: lacks {missing[0]}")
            if surplus := sorted(set(members) - wanted.keys()) or [a for a, b in pairwise(members) if a == b]:
                raise UserError(f"{path}: contains {surplus[0]}, which is not wanted, or twice")
            for member, video in wanted.items():
                _validate_mask(f"{path}, {member}", archive.read(member), sizes[video.name], video)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read again ({error})") from error


def _validate_mask(where: str, data: bytes, size: tuple[int, int], video: Video) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, palette, mask = image.mode, image.getpalette(), np.array(image)
    except UNDECODABLE as error:
        raise UserError(f"{where}: cannot be decoded ({error})") from error
    if mode != "P":
        raise UserError(f"{where}: must be an indexed PNG with a palette, not {mode}")
    if mask.shape != size:
        raise UserError(f"{where}: is {mask.shape[1]}x{mask.shape[0]}, but the frames are {size[1]}x{size[0]}")
    if unknown := np.setdiff1d(mask, [0, *(obj.number for obj in video.objects)]).tolist():
        raise UserError(f"{where}: contains object {unknown[0]}, which the video does not have")
    if not np.array_equal(np.resize(np.array(palette), (256, 3))[np.unique(mask)], davis_palette()[np.unique(mask)]):
        raise UserError(f"{where}: does not have the colours of the DAVIS palette")
