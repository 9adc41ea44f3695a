"""What a measurement says of the machine that it was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

#: Instructions that networks gain by, as Linux names them.
_FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_tile": "AMX"}


def machine() -> str:
    """Architecture with its wide instructions where they are known, cores, and Python's version."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    wide = ", ".join(name for flag, name in _FEATURES.items() if flag in flags)
    kind = platform.machine() + (f" ({wide})" if wide else "")
    return f"{kind}, {os.cpu_count()} cores, Python {platform.python_version()}"
