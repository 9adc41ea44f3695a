"""JPEG compression (ITU-T T.81) by Pillow, chroma halved both ways as cameras do.

Qualities are those of the IJG's tables, whose quantisation steps grow as 5000/quality below 50. The blocks
are 8×8 pixels at any size, so in a large picture they are seen smaller; there the steps grow with the
picture instead (up to fivefold). Depth and seed play no part.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "compression"
KADID = 10

#: IJG quality in the reference picture.
QUALITY = {1: 50, 2: 28, 3: 16, 4: 9, 5: 5}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, compressed and decoded."""
    buffer = BytesIO()
    Pillow.fromarray(rgb).save(buffer, "JPEG", quality=quality(severity, scale(rgb)), subsampling="4:2:0")
    return np.asarray(Pillow.open(buffer).convert("RGB"))


def quality(severity: int, factor: float) -> int:
    """The IJG quality for a picture ``factor`` times the reference size."""
    steps = 5000 / QUALITY[severity] * min(max(factor, 1.0), 5.0)
    return max(round(5000 / steps), 1)
