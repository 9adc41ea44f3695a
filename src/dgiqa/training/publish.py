"""Puts trained weights into the package: exports the ONNX file beside the card and writes its sums into the card.

    python -m dgiqa.training.publish depth_mobile.rendered runs/depth/depth.pt
    python -m dgiqa.training.publish dgiqa_mobile.biq2021 runs/mobile/own-0/weights.pt \\
        --calibrate runs/mobile/own-0/held_out.json

The export is refused if torch and ONNX Runtime differ; what the card says of people's agreement is written by hand
from what benchmarks/biq2021.py prints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path

import torch

from dgiqa.calibration import fit_calibration
from dgiqa.export.onnx import export
from dgiqa.models import build_network, find_card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the card")
    parser.add_argument("weights", type=Path, help="a state dict that training wrote")
    parser.add_argument("--calibrate", type=Path, help="JSON with raw and mos of held-out pictures")
    args = parser.parse_args()
    card = find_card(args.name)
    network = build_network(card)
    network.load_state_dict(torch.load(args.weights, weights_only=True))
    path = card.folder / card.weights["onnx"].file
    difference = export(network, card, path)
    content = path.read_bytes()
    values = {"sha256": f'"{hashlib.sha256(content).hexdigest()}"', "bytes": str(len(content))}
    if args.calibrate:
        held = json.loads(args.calibrate.read_text())
        note = f"BIQ2021, {len(held['raw'])} pictures of the official train part that were not trained on"
        curve = fit_calibration(held["raw"], held["mos"], fitted_on=note)
        values |= {"raw": str(list(curve.raw)), "quality": str(list(curve.quality))}
        values["fitted_on"] = json.dumps(note)
    file = card.folder / card.file
    text = file.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        if count != 1:
            raise SystemExit(f"{file}: {key} stands {count} times, expected once")
    file.write_text(text, encoding="utf-8")
    print(f"{path}: {len(content)} bytes, torch and ONNX Runtime differ by at most {difference:.1e}")


if __name__ == "__main__":
    main()
