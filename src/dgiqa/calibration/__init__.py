"""From a network's raw score to quality 0..100 with an interval around it, fitted on pictures that people rated.

    raw ──curve──→ quality        a rising curve through the mean opinions
     └──spread──→ low, high       split-conformal: 90 in 100 pictures like the rated ones have their MOS inside

``dgiqa calibrate`` is the command; ``docs/calibration.md`` says what the numbers mean. What is fitted goes into the
model card, as the tables ``[calibration]`` and ``[interval]``.
"""

from dgiqa.calibration.conformal import LEAST, LEVEL, Fit, calibrate, cross_validate
from dgiqa.calibration.coverage import measure
from dgiqa.calibration.curve import fit_calibration
from dgiqa.calibration.own_card import check_place, save_card, write_own_card
from dgiqa.calibration.toml import as_toml

__all__ = [
    "LEAST",
    "LEVEL",
    "Fit",
    "as_toml",
    "calibrate",
    "check_place",
    "cross_validate",
    "fit_calibration",
    "measure",
    "save_card",
    "write_own_card",
]
