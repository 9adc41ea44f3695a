"""Pictures that tests draw by code: odd pixel modes, colour profiles, a RAW, a HEIC, bombs.

Nothing here is read from a file, so every odd picture is small, exact and free of anybody's rights.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

# 64×32, quadrants red, green / blue, white; the second is stored so that it must be turned (irot, EXIF 6).
# Encoded with pillow-heif 1.4 and x265 from four flat rectangles.
_HEIC_UPRIGHT = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJp"
    "bG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAMEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAAB"
    "AAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEA"
    "AQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAA"
    "FGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAIAAAAAEAAAAAAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhp"
    "cG1hAAAAAAAAAAEAAQWBAgMFhAAAAMltZGF0AAAAvSgBrxOAeXPTSAv/+u8Ff+Vaz/zNyboRP/44VPv25av/WaNQL9hPX3tkw0vwJbLO"
    "s9DSwqvox0e2UXE+Abh/W/T/zo2HplRDH2aTL9Pcp0qv+J/yOGXTxBmc4cBljb2i60bybgZmXmhLe3slG409gGCCWzX7WlpGznTct8y3"
    "gK1NFbBADtj6VxL6NUX4YL9+wsW8dnDP24VAc/zLehrWlpGoOQDlvd/aatwKwAWcddf76etwH5mG47qlYnn4wA=="
)
_HEIC_TURNED = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRp"
    "bG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAMEAAgAAAAACrQABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA"
    "/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMD"
    "IAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAIAAA"
    "AAEAAAAAAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAA"
    "AAAAAAAOY2RzYwACAAEAAQAAAO1tZGF0AAAAvSgBrxOAeXPTSAv/+u8Ff+Vaz/zNyboRP/44VPv25av/WaNQL9hPX3tkw0vwJbLOs9DS"
    "wqvox0e2UXE+Abh/W/T/zo2HplRDH2aTL9Pcp0qv+J/yOGXTxBmc4cBljb2i60bybgZmXmhLe3slG409gGCCWzX7WlpGznTct8y3gK1N"
    "FbBADtj6VxL6NUX4YL9+wsW8dnDP24VAc/zLehrWlpGoOQDlvd/aatwKwAWcddf76etwH5mG47qlYnn4wAAAAAZFeGlmAABNTQAqAAAA"
    "CAABARIAAwAAAAEABgAAAAAAAA=="
)


def heic(*, turned: bool = False) -> bytes:
    """A HEIC of four flat quadrants."""
    return base64.b64decode(_HEIC_TURNED if turned else _HEIC_UPRIGHT)


def scene(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: smooth, coloured, unlike itself under any flip or turn."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red, green = 40 + 180 * x / max(width, 2), 30 + 200 * y / max(height, 2)
    blue = 128 + 100 * np.sin(x / 5 + y / 9)
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def encode(picture: np.ndarray | PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """``picture`` as the bytes of a file that Pillow writes."""
    image = picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block that holds nothing but an orientation."""
    block = PIL.Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png(width: int, height: int, bits: int, color: int, rows: bytes = b"", *extra: bytes) -> bytes:
    """A PNG of any header; ``rows`` are unfiltered lines, each led by a 0; ``extra`` chunks precede them."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Primaries adapted to D50, as matrix profiles hold them: rows are red, green, blue; columns X, Y, Z.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def rgb_profile(primaries: Sequence[Sequence[float]] = DISPLAY_P3, gamma: float = 2.2) -> bytes:
    """A matrix ICC profile (version 2): three primaries and one gamma."""
    tags = {b"desc": _icc_text(b"wide test"), b"wtpt": _icc_xyz(0.9642, 1.0, 0.8249)}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = _icc_xyz(*primary)
        tags[letter + b"TRC"] = _icc_gamma(gamma)
    return _icc(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    tags = {
        b"desc": _icc_text(b"grey test"),
        b"wtpt": _icc_xyz(0.9642, 1.0, 0.8249),
        b"kTRC": _icc_gamma(gamma),
    }
    return _icc(b"mntr", b"GRAY", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A printer without colour: full cyan prints L* 50, magenta 25, anything more black."""
    identity = bytes(range(256))
    cyan, magenta = 8, 4  # the grid's first channel runs slowest
    grid = [(0, 128, 128)] * 16
    grid[0], grid[cyan], grid[magenta] = (255, 128, 128), (128, 128, 128), (64, 128, 128)
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4
    table += bytes(value for node in grid for value in node) + identity * 3
    tags = {b"desc": _icc_text(b"press test"), b"wtpt": _icc_xyz(0.9642, 1.0, 0.8249), b"A2B0": table}
    return _icc(b"prtr", b"CMYK", b"Lab ", tags)


def _icc(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body, place = b"", b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", place + len(body), 0x02100000) + kind + space + connection
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += _icc_xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _icc_xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _icc_gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _icc_text(text: bytes) -> bytes:
    text += b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(12 + 67)


Field = tuple[int, str, Sequence[int]]  # tag, struct letter, values


def dng(width: int = 64, height: int = 48, *, marked: bool = True, reduced: bool = True) -> bytes:
    """A camera RAW: a magenta 8×6 thumbnail first, then an uncompressed, evenly green Bayer mosaic.

    ``marked`` gives it the DNG version and colours, without which it is laid out as other makers' files are.
    ``reduced`` says in the first directory that it holds a thumbnail.
    """
    thumbnail = bytes((255, 0, 255)) * 48
    mosaic = np.full((height, width), 12000, "<u2")
    mosaic[0::2, 1::2] = mosaic[1::2, 0::2] = 40000  # the green half of RGGB
    body = 8 + len(thumbnail) + mosaic.nbytes
    sensor: list[Field] = [
        (254, "I", (0,)),
        (33421, "H", (2, 2)),
        (33422, "B", (0, 1, 1, 2)),
        (50714, "I", (0,)),
        (50717, "I", (65535,)),
    ]
    raw = _ifd(body, _basics((width, height), 16, 1, 32803, 8 + len(thumbnail)) + sensor)
    first = body + len(raw)
    fields = _basics((8, 6), 8, 3, 2, 8)
    fields += [(254, "I", (int(reduced),)), (271, "s", b"Test\0"), (272, "s", b"Test One\0"), (330, "I", (body,))]
    if marked:
        xyz_to_camera = (10000, 0, 0, 0, 10000, 0, 0, 0, 10000)
        fields += [(50706, "B", (1, 4, 0, 0)), (50708, "s", b"Test One\0"), (50778, "H", (21,))]
        fields += [(50721, "i", [part for value in xyz_to_camera for part in (value, 10000)])]
        fields += [(50728, "r", (1, 1, 1, 1, 1, 1))]
    head = b"II*\0" + struct.pack("<I", first)
    return head + thumbnail + mosaic.tobytes() + raw + _ifd(first, fields)


def tiff_with_tile(side: int, *, compression: int = 1) -> bytes:
    """A TIFF of 4×4 grey pixels that claims to be stored in one square tile of the given side."""
    data = bytes(256)
    fields = [field for field in _basics((4, 4), 8, 1, 1, 8) if field[0] not in (259, 273, 278, 279)]
    fields += [(259, "H", (compression,))]
    fields += [(322, "I", (side,)), (323, "I", (side,)), (324, "I", (8,)), (325, "I", (len(data),))]
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + _ifd(8 + len(data), fields)


def _basics(size: tuple[int, int], bits: int, samples: int, photometric: int, place: int) -> list[Field]:
    """What every uncompressed picture of ``samples`` × ``bits`` at byte ``place`` needs."""
    width, height = size
    return [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", (bits,) * samples),
        (259, "H", (1,)),
        (262, "H", (photometric,)),
        (273, "I", (place,)),
        (277, "H", (samples,)),
        (278, "I", (height,)),
        (279, "I", (width * height * samples * bits // 8,)),
    ]


def _ifd(place: int, fields: list[Field]) -> bytes:
    """One little-endian TIFF directory that starts at byte ``place`` of a file; ``r``: rationals."""
    kinds = {"B": 1, "s": 2, "H": 3, "I": 4, "r": 5, "i": 10}
    table, body = struct.pack("<H", len(fields)), b""
    after = place + 2 + 12 * len(fields) + 4
    for tag, letter, values in sorted(fields):
        if letter == "s":
            data, count = bytes(values), len(values)
        else:
            data = struct.pack(f"<{len(values)}{letter.replace('r', 'I')}", *values)
            count = len(values) // 2 if letter in "ri" else len(values)
        if len(data) > 4:
            body += bytes(len(body) % 2)
            value = struct.pack("<I", after + len(body))
            body += data
        else:
            value = data.ljust(4, b"\0")
        table += struct.pack("<HHI", tag, kinds[letter], count) + value
    return table + bytes(4) + body + bytes(len(body) % 2)
