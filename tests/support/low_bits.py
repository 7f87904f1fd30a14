"""Grey images of any number of bits a pixel, which Pillow does not write."""

import struct
import zlib

import numpy as np


def packed_rows(values: np.ndarray, bits: int) -> list[bytes]:
    """The rows of values [H, W], whose bits follow each other; each row begins with a new byte."""
    digits = ["".join(f"{value:0{bits}b}" for value in row) for row in values.tolist()]
    digits = [row + "0" * (-len(row) % 8) for row in digits]
    return [int(row, 2).to_bytes(len(row) // 8, "big") for row in digits]


def grey_png(values: np.ndarray, bits: int) -> bytes:
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed_rows(values, bits)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def grey_tiff(values: np.ndarray, bits: int) -> bytes:
    """A TIFF, big-endian, uncompressed, in which 0 is black."""
    pixels = b"".join(packed_rows(values, bits))
    pixels += b"\0" * (len(pixels) % 2)
    height, width = values.shape
    short, long = 3, 4
    tags = [
        *((256, short, width), (257, short, height), (258, short, bits), (259, short, 1), (262, short, 1)),
        *((273, long, 8), (277, short, 1), (278, short, height), (279, long, len(pixels))),
    ]
    fields = [
        struct.pack(">HHI", tag, kind, 1) + struct.pack(">I", value << 16 if kind == short else value)
        for tag, kind, value in tags
    ]
    directory = struct.pack(">H", len(tags)) + b"".join(fields) + struct.pack(">I", 0)
    return b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory
