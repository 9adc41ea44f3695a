"""What kind of picture some bytes are, by content and never by name.

``sniff`` looks at the first bytes. TIFF needs a second look: camera RAW files of most makers are TIFF
containers whose first picture is a thumbnail, and a thumbnail must never stand in for the photograph.
Sources: the formats' signatures; TIFF 6.0; DNG 1.7 (Adobe); compression numbers as ExifTool documents them.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

#: How many first bytes ``sniff`` wants.
HEAD = 256

#: Picture formats as people write them, by what ``sniff`` calls them.
FORMAT_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "avif": "AVIF",
    "heif": "HEIC",
    "raw": "camera RAW",
}

_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .tif .tiff .bmp .dib .gif .avif .avifs .heic .heif .hif "
    ".dng .nef .nrw .arw .sr2 .srf .cr2 .cr3 .crw .raf .rw2 .rwl .orf .pef .srw .3fr .fff .iiq .x3f .mrw "
    ".erf .mef .mos .dcr .kdc .gpr"
)
#: Endings of file names that claim to be a picture.
SUFFIXES = frozenset(_SUFFIXES.split())

_STARTS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"FUJIFILMCCD-RAW", "raw"),  # RAF
    (b"IIU\0", "raw"),  # RW2, RWL
    (b"IIRO", "raw"),  # ORF, three variants
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"\0MRM", "raw"),  # MRW
    (b"FOVb", "raw"),  # X3F
    (b"II\x1a\0\0\0HEAPCCDR", "raw"),  # CRW
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}

# TIFF tags, and the values that only camera RAW uses.
_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 330, 50706
_RAW_PHOTOMETRIC = {32803, 34892}  # colour filter array, linear RAW
_RAW_COMPRESSION = {32767, 32769, 32770, 32772, 32867, 34713, 65000, 65535}


def sniff(head: bytes) -> str | None:
    """The format that the first bytes (:data:`HEAD` of them are plenty) belong to.

    Returns:
        a key of :data:`FORMAT_NAMES`, or None for everything that is not decoded here: PDF, video, text, …
        Camera RAW in a TIFF container is ``tiff`` here; :func:`is_raw_tiff` tells them apart.
    """
    for start, kind in _STARTS:
        if head.startswith(start):
            return "raw" if kind == "tiff" and head[8:10] == b"CR" else kind  # CR2
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    return None


def has_picture_suffix(name: str) -> bool:
    """Whether a file's name claims that it is a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def describe(head: bytes) -> str:
    """What bytes that are no picture look like, for a message."""
    if head.startswith(b"%PDF"):
        return "a PDF document"
    if head[4:8] == b"ftyp" or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF"):
        return "video or sound"
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "markup text"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "text"
    return "unknown bytes"


def declares_no_area(kind: str, head: bytes) -> bool:
    """Whether a header states a width or height of 0 (Pillow just fails to identify such files)."""
    if kind == "png" and len(head) >= 24:
        return 0 in struct.unpack(">II", head[16:24])
    if kind == "bmp" and len(head) >= 26:
        return 0 in struct.unpack("<ii" if head[14] != 12 else "<HH4x", head[18:26])
    if kind == "jpeg":
        return _jpeg_without_area(head)
    return False


def is_raw_tiff(stream: BinaryIO) -> bool:
    """Whether a TIFF container holds a camera RAW (DNG, NEF, ARW, PEF, …).

    It does when any of its directories has a DNG version, sensor data or a RAW maker's compression, or when
    the first directory calls itself the reduced version of another. Leaves ``stream`` at its start.
    """
    try:
        return _has_raw_directory(stream)
    except (struct.error, OSError, OverflowError, ValueError):
        return False  # a damaged TIFF is the decoder's to report
    finally:
        stream.seek(0)


def _sniff_brands(head: bytes) -> str | None:
    """ISO base media files (AVIF, HEIC, CR3, and all of video): the brands tell."""
    size = int.from_bytes(head[:4], "big")
    major = head[8:12]
    brands = {head[i : i + 4] for i in range(16, min(size, len(head)), 4)} | {major}
    if major == b"crx ":
        return "raw"
    if major not in _AVIF_BRANDS | _HEIF_BRANDS:
        return None
    return "avif" if brands & _AVIF_BRANDS else "heif"


def _jpeg_without_area(head: bytes) -> bool:
    """Whether the frame header, when it comes this early, states no width or height."""
    place = 2
    while place + 9 <= len(head) and head[place] == 0xFF:
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xC3:
            return head[place + 5 : place + 7] == b"\0\0" or head[place + 7 : place + 9] == b"\0\0"
        place += 2 + length
    return False


def _has_raw_directory(stream: BinaryIO) -> bool:
    stream.seek(0)
    head = stream.read(16)
    order, big = ("<" if head[:2] == b"II" else ">"), 43 in (head[2], head[3])
    first = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
    waiting, seen = [first], {0}
    while waiting and len(seen) < 64:
        offset = waiting.pop()
        if offset in seen:
            continue
        seen.add(offset)
        tags, following = _read_directory(stream, offset, order, big)
        if (
            _DNG_VERSION in tags
            or _RAW_PHOTOMETRIC & set(tags.get(_PHOTOMETRIC, ()))
            or _RAW_COMPRESSION & set(tags.get(_COMPRESSION, ()))
            or (offset == first and 1 in tags.get(_SUBFILE, ()))
        ):
            return True
        waiting += [*tags.get(_SUB_IFDS, ()), following]
    return False


def _read_directory(stream: BinaryIO, offset: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags looked at above, with their integers, and where the next directory is."""
    number, entry = (order + "Q", order + "HHQ8s") if big else (order + "H", order + "HHI4s")
    stream.seek(offset)
    count = struct.unpack(number, stream.read(struct.calcsize(number)))[0]
    size = struct.calcsize(entry)
    table = stream.read(min(count, 4096) * size)
    after = stream.read(8 if big else 4)
    following = int.from_bytes(after, "little" if order == "<" else "big")
    tags = {}
    for place in range(0, len(table) - size + 1, size):
        tag, kind, n, value = struct.unpack_from(entry, table, place)
        if tag in (_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION):
            tags[tag] = _integers(stream, order, kind, min(n, 64), value)
    return tags, following


def _integers(stream: BinaryIO, order: str, kind: int, n: int, value: bytes) -> tuple[int, ...]:
    letter = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind, "B")
    code = f"{order}{n}{letter}"
    if struct.calcsize(code) > len(value):
        stream.seek(struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)[0])
        value = stream.read(struct.calcsize(code))
    return struct.unpack_from(code, value)
