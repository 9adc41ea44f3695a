"""The authors' encoder and one of their regressions to safetensors with the names used here.

The authors (github.com/pavancm/CONTRIQUE) publish one encoder, ``CONTRIQUE_checkpoint25.tar``, and six ridge
regressions as pickles of scikit-learn. A pickle is a program: these are read as the list of its steps, none of which is
run, and only the numbers behind ``coef_`` and ``intercept_`` are taken out.

    dgiqa convert contrique.koniq10k CONTRIQUE_checkpoint25.tar Koniq.save
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgiqa.errors import WeightsError
from dgiqa.models import official
from dgiqa.models.contrique.network import FEATURES, Contrique

#: Of the encoder, by its place among ResNet-50's parts; between them are layers without weights.
_PLACES = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
#: What only the contrastive training uses.
_NOT_USED = re.compile(r"^projector\.")


def convert(files: Sequence[Path], out: Path) -> dict[str, int]:
    """Writes the encoder, first of ``files``, and the regression, second, as the safetensors file ``out``.

    Returns counts, see :func:`dgiqa.models.official.write`.

    Raises:
        UsageError: not these two files.
        WeightsError: a file can't be read safely, or doesn't hold the network's numbers; it is named.
    """
    checkpoint, ridge = official.take(
        files, "the authors' encoder (CONTRIQUE_checkpoint25.tar)", "a regression (.save)"
    )
    found = official.read_tensors(checkpoint)
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.match(name)}
    network = official.blank(Contrique)
    used |= {f"ridge.{name}": tensor for name, tensor in read_ridge(ridge).items()}
    state = official.match(used, network, official_name, checkpoint, "the paper's encoder")
    return official.write(state, out, network, len(found) + 2 - len(used))


def official_name(name: str) -> str:
    """The authors' name of one of our state tensors: ``encoder.layer1.0.bn1.bias`` is ``encoder.4.0.bn1.bias``."""
    part, _, rest = name.removeprefix("encoder.").partition(".")
    return f"encoder.{_PLACES[part]}.{rest}" if part in _PLACES else name


def read_ridge(path: Path, features: int = 2 * FEATURES["paper"]) -> dict[str, Tensor]:
    """``weight`` (1, features) and ``bias`` (1,) of a pickled scikit-learn regression, which is not unpickled.

    Raises:
        WeightsError: no such file, no pickle, or one that doesn't hold these numbers as 32-bit floats.
    """
    try:
        values = [value for _, value, _ in pickletools.genops(path.read_bytes())]
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(f"{path}: is no pickle ({error})", hint=official.AS_PUBLISHED) from error
    wanted = {"coef_": features, "intercept_": 1}
    found: dict[str, Tensor] = {}
    key = ""
    for value in values:
        if isinstance(value, str) and value.endswith("_"):
            key = value
        if isinstance(value, bytes) and key in wanted and len(value) == 4 * wanted[key]:
            found[key] = torch.from_numpy(np.frombuffer(value, "<f4").copy())
    if found.keys() != wanted.keys() or not all(bool(numbers.isfinite().all()) for numbers in found.values()):
        raise WeightsError(
            f"{path}: holds no linear regression of {features} features in 32-bit floats", hint=official.AS_PUBLISHED
        )
    return {"weight": found["coef_"].reshape(1, -1), "bias": found["intercept_"]}
