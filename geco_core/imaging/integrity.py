"""Damage that Pillow lets pass, found before pixels are decoded.

PNG: Pillow checks neither the checksums of the pixel data nor that all rows are there, and fills
what is missing with black. JPEG: the number of scans is not limited, and each costs a pass over the
whole image, so that a file of a few hundred kilobytes can take hours.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

MAX_SCANS = 100
_BLOCK = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, step across, step down.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def check_integrity(data: bytes, kind: str) -> None:
    """Look for what the format's reader overlooks.

    Args:
        data: the whole file, whose header was accepted.
        kind: a key of `geco_core.imaging.sniff.READERS`.

    Raises:
        ValueError: the file is damaged, in words.
        zlib.error, struct.error: likewise.
    """
    if kind == "PNG":
        _check_png(data)
    elif kind == "JPEG":
        scans = count_scans(data)
        if scans > MAX_SCANS:
            raise ValueError(f"{scans} scans, at most {MAX_SCANS} are decoded")


def count_scans(data: bytes) -> int:
    """Scans of a JPEG, up to its end marker; 0 when there is none."""
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda":
        if data[start + 1 : start + 2] == b"\xff":  # fill bytes
            start += 1
            continue
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    # Within entropy-coded data both markers are impossible, so that no parsing is needed.
    end = data.find(b"\xff\xd9", start)
    return data.count(b"\xff\xda", start, end if end >= 0 else len(data))


def _check_png(data: bytes) -> None:
    view = memoryview(data)
    inflater = zlib.decompressobj()
    left, position = 0, 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 12 + length
        body = view[position + 8 : end - 4]
        if kind == b"IHDR":
            left = _raw_bytes(body)
        elif kind == b"IDAT" and end <= len(data):
            (expected,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(body, zlib.crc32(kind)) != expected:
                raise ValueError("the checksum of the pixel data is wrong")
            left -= _inflated(inflater, body, left)
        elif kind == b"IEND":
            break
        position = end
    if left > 0:
        raise ValueError(f"{left} bytes of pixel rows are missing")


def _inflated(inflater: Any, body: bytes | memoryview, limit: int) -> int:
    """Bytes that come out of `body`, at most `limit`; no more than a block is ever held."""
    size = 0
    while size < limit and not inflater.eof:
        block = inflater.decompress(body, min(_BLOCK, limit - size))
        size += len(block)
        body = inflater.unconsumed_tail
        if not block and not body:
            break
    return size


def _raw_bytes(header: bytes | memoryview) -> int:
    """Size of the filtered rows that an IHDR body promises. Raises `ValueError`."""
    width, height, depth, color, compression, filtering, interlace = struct.unpack(
        ">IIBBBBB", header
    )
    if color not in _CHANNELS or compression or filtering or interlace > 1:
        raise ValueError("the header asks for methods that do not exist")
    bits = depth * _CHANNELS[color]
    if not interlace:
        return height * (1 + (width * bits + 7) // 8)
    size = 0
    for column, row, across, down in _PASSES:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size
