"""JPEG 2000 compression (ITU-T T.800) by OpenJPEG, the irreversible wavelet, to a given size.

The ratio grows with the picture's short side (up to fivefold), since a large picture has less detail a pixel, and
falls with it (down to a quarter). Depth and seed play no part.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "compression"
KADID = 9

#: Bytes of the uncompressed reference picture for one byte of the file.
RATIO = {1: 26.0, 2: 50.0, 3: 100.0, 4: 200.0, 5: 400.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, compressed and decoded."""
    return np.asarray(Pillow.open(BytesIO(compressed(rgb, severity))).convert("RGB"))


def compressed(rgb: UInt8, severity: int) -> bytes:
    """The file. Its levels of wavelets are fewer where the picture has fewer than 32 pixels a side."""
    ratio = RATIO[severity] * min(max(scale(rgb), 0.25), 5.0)
    levels = min(6, int(min(rgb.shape[:2])).bit_length())
    buffer = BytesIO()
    Pillow.fromarray(rgb).save(
        buffer, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[ratio], num_resolutions=levels
    )
    return buffer.getvalue()
