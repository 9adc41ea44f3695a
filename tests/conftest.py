"""Shared fixtures: real photographs in the public domain, and the default model, loaded once."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest

import dgiqa
from dgiqa.types import UInt8

#: Photographs that come with scikit-image, in the public domain or CC0.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None, "scikit-image belongs to the dev extra"
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    return [folder / name for name in PHOTOGRAPHS]


@pytest.fixture(scope="session")
def default() -> dgiqa.Scorer:
    return dgiqa.load()


@pytest.fixture(scope="session")
def samples() -> dict[str, UInt8]:
    """Those of the photographs that other programs' values are known of, as arrays of several shapes."""
    from skimage import data

    return {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": np.ascontiguousarray(data.coffee()[:301, :399]),
        "rocket": data.rocket(),
    }
