"""What the volume ``features.ntfs.xz`` holds: written by ``make_features.py``, expected by the tests."""

from __future__ import annotations

import lzma
import random
import struct
from pathlib import Path

LABEL = "Features"
LONG_NAME, SHORT_NAME = "A long file name.txt", "ALONGF~1.TXT"


def _words(seed: int, count: int) -> bytes:
    source = random.Random(seed)
    words = ["vmbus ", "netvsc ", "storvsc ", "kvp ", "vss ", "call \xe8".encode("latin-1").decode("latin-1"), "\r\n"]
    return "".join(source.choice(words) for _ in range(count)).encode("latin-1")


FILES = {
    "/empty": b"",
    "/resident.txt": b"resident",
    "/plain.bin": _words(1, 700),
    "/compressed/words.txt": _words(2, 2500),
    "/compressed/noise.bin": random.Random(3).randbytes(600) + bytes(200_000) + _words(4, 700),
    "/compressed/small.txt": b"small",
    "/Directory/Sub/File.txt": b"reached",
    f"/{LONG_NAME}": b"long and short",
}

SPARSE = "sparse.bin"
SPARSE_SIZE = 3_000_001
SPARSE_PIECES = ((0, b"begin"), (1_000_000, b"middle" * 2000), (2_999_990, b"end"))

SPILLED = "/spilled.bin"
HARD_LINKS = 30


def sparse_content() -> bytes:
    content = bytearray(SPARSE_SIZE)
    for offset, data in SPARSE_PIECES:
        content[offset : offset + len(data)] = data
    return bytes(content)


def _names() -> list[str]:
    """Names in letters whose upper case Python and NTFS see differently, and plain ones among them."""
    source = random.Random(7)
    letters = "abcXYZmn019_^~" + "äöüßÿŉǰΐάς\u0131\u0130\u017f\u1e9e\ufb01\u01c5\u0587жя"
    found: dict[str, str] = {}
    while len(found) < 150:
        name = "".join(source.choice(letters) for _ in range(source.randint(1, 7)))
        found.setdefault("".join(c.upper() if len(c.upper()) == 1 else c for c in name), name)
    return [*found.values(), "\U0001f600 grin"]


NAMES = _names()

LINKS = {
    "/junction": ("\\??\\C:\\Directory", "junction"),
    "/other volume": ("\\??\\Volume{11111111-2222-3333-4444-555555555555}\\", "junction"),
    "/relative": ("directory\\sub\\file.txt", "relative"),
    "/Directory/up": ("..\\junction\\Sub\\File.txt", "relative"),
    "/rooted": ("\\Directory\\Sub\\File.txt", "relative"),
    "/absolute": ("\\??\\D:\\Directory\\Sub\\File.txt", "absolute"),
    "/network": ("\\??\\UNC\\server\\share\\file", "absolute"),
    "/loop": ("loop", "relative"),
}

REPARSE = {
    "/dedup": (0x80000013, bytes(8)),
    "/wof-unknown": (0x80000017, struct.pack("<IIII", 1, 2, 1, 9)),
    "/wof-wim": (0x80000017, struct.pack("<II", 1, 1) + bytes(32)),
    "/wof-lost": (0x80000017, struct.pack("<IIII", 1, 2, 1, 1)),
}

WOF_CONTENT = _words(5, 1500) + bytes(40_000) + random.Random(6).randbytes(4200) + _words(8, 300)

WOF = {
    "/wof-xpress4k": (0, "XPRESS", 4096),
    "/wof-lzx": (1, "LZX", 32768),
}


def wim_resource(archive: bytes, size: int | None = None) -> bytes:
    """The stored bytes of the resource of ``size`` bytes in a WIM archive: chunk table and chunks."""
    wanted = len(WOF_CONTENT) if size is None else size
    packed, offset, _ = struct.unpack_from("<QQQ", archive, 48)  # the lookup table's header
    table = archive[offset : offset + (packed & (1 << 56) - 1)]
    for at in range(0, len(table), 50):
        packed, offset, original = struct.unpack_from("<QQQ", table, at)
        if original == wanted and packed >> 56 & 4:  # compressed
            return archive[offset : offset + (packed & (1 << 56) - 1)]
    raise AssertionError(f"no compressed resource of {wanted} bytes")


def volume() -> bytes:
    return lzma.decompress(Path(__file__).with_name("features.ntfs.xz").read_bytes())
