"""What explanations are worth: faults told on photographs whose faults are known, parts, the subject's sharpness, cost.

    python benchmarks/explanations.py known benchmarks/faults_by_eye.csv --root BIQ2021/Images [--out FILE.json]
    python benchmarks/explanations.py spoiled FOLDER [--count 60] [--out FILE.json]
    python benchmarks/explanations.py parts FOLDER [--count 20]
    python benchmarks/explanations.py focus FOLDER [--count 40]
    python benchmarks/explanations.py cost FOLDER [--count 20]

``known``: a CSV file with the columns picture, faults, perhaps (names apart by spaces; what is perhaps there counts
neither way). ``spoiled``: photographs outside all training, each as it is and with one fault of each kind in severities
1, 3 and 5. ``parts``: the left half of a picture is spoiled; its quality should fall below the right half's. ``focus``:
the picture sharp, out of focus behind the subject, and out of focus at the subject. ``cost``: seconds of an explanation
with its figure, and of a score, in turns.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import distort, uses_depth
from dgiqa.explain.figure import as_png
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit

#: What each fault is made with here.
MADE_BY = {
    "defocus_blur": ("blur", "gaussian_blur"), "motion_blur": ("motion", "shake"), "noise": ("noise", "color_noise"),
    "compression": ("jpeg", "jpeg2000"), "low_light": ("low_light",), "over_exposure": ("overexpose",),
    "haze": ("haze",), "lens_flare": ("flare",), "low_contrast": ("contrast",), "color_cast": ("color_cast",),
    "banding": ("posterize",),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("known", "spoiled", "parts", "focus", "cost"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--count", type=int, default=0, help="pictures (default 60, 20, 40, 20)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    scorer = dgiqa.load(args.model)
    if args.what == "known":
        result = known(scorer, args.source, args.root)
    else:
        count = args.count or {"spoiled": 60, "parts": 20, "focus": 40, "cost": 20}[args.what]
        found = [item.path for item in dgiqa.find([args.source]) if item.error is None]
        chosen = found[:: max(len(found) // count, 1)][:count]
        result = {"spoiled": spoiled, "parts": parts, "focus": focus, "cost": cost}[args.what](scorer, chosen)
    result = {"what": args.what, "model": scorer.model, **result}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


def known(scorer: dgiqa.Scorer, file: Path, root: Path) -> dict:
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    told, there = [], []
    kinds = [*scorer.card.explain.faults, "none"]
    for row in rows:
        explanation = scorer.explain(root / row["picture"])
        told.append(probabilities(explanation, kinds))
        sure, perhaps = set(row["faults"].split()), set(row["perhaps"].split())
        of = {kind: 1.0 if kind in sure else np.nan if kind in perhaps else 0.0 for kind in kinds}
        of["none"] = 0.0 if sure else np.nan if perhaps else 1.0
        there.append([of[kind] for kind in kinds])
    return {"pictures": len(rows), "kinds": judged(scorer, kinds, np.array(told), np.array(there))}


def spoiled(scorer: dgiqa.Scorer, paths: list[str]) -> dict:
    depth_map = open_depth(scorer.card.recipe.depth)
    kinds = [*scorer.card.explain.faults, "none"]
    told, there, severities = [], [], {kind: ([], []) for kind in kinds}
    for number, path in enumerate(paths):
        pixels = fit(decode(path).pixels, scorer.card.recipe)
        metres = as_metres(depth_map(pixels))
        cases = [(None, None, 0)]
        cases += [(fault, by[number % len(by)], s) for fault, by in MADE_BY.items() for s in (1, 3, 5)]
        for fault, kind, severity in cases:
            worse = pixels
            if kind:
                seed = next(s for s in range(number, number + 99) if kind != "contrast" or falls(s))
                worse = distort(pixels, kind, severity, depth=metres if uses_depth(kind) else None, seed=seed)
            explanation = scorer.explain(worse)
            told.append(probabilities(explanation, kinds))
            brings = {"low_light": {"noise"}, "haze": {"low_contrast"}}.get(fault or "", set())
            there.append([float(k == (fault or "none")) if k not in brings else np.nan for k in kinds])
            if fault:
                severities[fault][0].append(severity)
                severities[fault][1].append(next(f.severity for f in explanation.faults if f.kind == fault))
    rows = judged(scorer, kinds, np.array(told), np.array(there))
    by = np.array([0] + [s for _ in MADE_BY for s in (1, 3, 5)])
    each = np.tile(by, len(paths))
    for kind in MADE_BY:
        has = np.array(there)[:, kinds.index(kind)] == 1
        found = np.array(told)[:, kinds.index(kind)] >= least(scorer, kind)
        rows[kind]["recall_by_severity"] = {int(s): round(float(found[has & (each == s)].mean()), 3) for s in (1, 3, 5)}
        rows[kind]["severity_correlation"] = round(float(np.corrcoef(*severities[kind])[0, 1]), 3)
        print(f"{kind:16} recall at severity 1, 3, 5: {list(rows[kind]['recall_by_severity'].values())}, "
              f"correlation of severities {rows[kind]['severity_correlation']:.2f}")  # fmt: skip
    return {"pictures": len(paths), "kinds": rows}


def falls(seed: int) -> bool:
    """Whether that seed of ``contrast`` takes contrast away."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    return int(distort(ramp, "contrast", 3, seed=seed)[0, 0, 0]) > 0


def parts(scorer: dgiqa.Scorer, paths: list[str]) -> dict:
    depth_map, rows = open_depth(scorer.card.recipe.depth), {}
    for fault, (kind, *_) in MADE_BY.items():
        right = []
        for number, path in enumerate(paths):
            pixels = fit(decode(path).pixels, scorer.card.recipe)
            half = pixels.shape[1] // 2
            seed = next(s for s in range(number, number + 99) if kind != "contrast" or falls(s))
            worse = distort(pixels, kind, 4, depth=as_metres(depth_map(pixels)), seed=seed)
            worse = np.concatenate([worse[:, :half], pixels[:, half:]], 1)
            quality = scorer.explain(worse).quality
            right.append(bool(quality[:, :half].mean() < quality[:, half:].mean()))
        rows[fault] = round(float(np.mean(right)), 3)
        print(f"{fault:16} the spoiled half is the worse one: {rows[fault]:.3f} of {len(paths)}")
    return {"pictures": len(paths), "worse_half": rows}


def focus(scorer: dgiqa.Scorer, paths: list[str]) -> dict:
    depth_map, rows = open_depth(scorer.card.recipe.depth), []
    near, far = (next(s for s in range(99) if focused_near(s) is wanted) for wanted in (True, False))
    for path in paths:
        pixels = fit(decode(path).pixels, scorer.card.recipe)
        metres = as_metres(depth_map(pixels))
        cases = [
            pixels,
            *(distort(pixels, "defocus", s, depth=metres, seed=seed) for s in (2, 4) for seed in (near, far)),
        ]
        told = [scorer.explain(case) for case in cases]
        blur = [next(f.probability for f in e.faults if f.kind == "defocus_blur") for e in told]
        rows.append([[e.sharpness.subject for e in told], [e.sharpness.picture for e in told], blur])
    subject, picture, blur = np.array(rows, float).transpose(1, 0, 2)
    result = {"pictures": len(paths)}
    for k, severity in ((1, 2), (3, 4)):
        result[f"severity {severity}"] = {
            "subject sharper where the subject is in focus": float((subject[:, k] > subject[:, k + 1]).mean()),
            "subject's sharpness, of the sharp picture's": float(np.median(subject[:, k] / subject[:, 0])),
            "the same where the background is in focus": float(np.median(subject[:, k + 1] / subject[:, 0])),
            "whole picture's sharpness, subject in focus": float(np.median(picture[:, k] / picture[:, 0])),
            "called blurred: sharp": float((blur[:, 0] >= least(scorer, "defocus_blur")).mean()),
            "called blurred: subject in focus": float((blur[:, k] >= least(scorer, "defocus_blur")).mean()),
            "called blurred: background in focus": float((blur[:, k + 1] >= least(scorer, "defocus_blur")).mean()),
        }
    print(json.dumps(result, indent=1))
    return result


def focused_near(seed: int) -> bool:
    return bool(np.random.default_rng([seed, *b"defocus"]).random() < 0.5)


def cost(scorer: dgiqa.Scorer, paths: list[str]) -> dict:
    scorer.explain(paths[0])
    score, explain, figure = [], [], []
    for path in paths:
        start = time.perf_counter()
        scorer.score(path)
        middle = time.perf_counter()
        explanation = scorer.explain(path)
        later = time.perf_counter()
        as_png(explanation)
        score.append(middle - start)
        explain.append(later - middle)
        figure.append(time.perf_counter() - middle)
    times = {
        name: statistics.median(t) for name, t in (("score", score), ("explain", explain), ("with figure", figure))
    }
    ratio = statistics.median(f / s for f, s in zip(figure, score, strict=True))
    print(f"median seconds {times}; an explanation with its figure costs {ratio:.2f} scores, {len(paths)} pictures")
    return {"pictures": len(paths), "seconds": times, "ratio": ratio}


def least(scorer: dgiqa.Scorer, kind: str) -> float:
    table = scorer.card.explain
    return dict(zip(table.faults, table.least, strict=True)).get(kind, 0.5)


def probabilities(explanation: dgiqa.Explanation, kinds: list[str]) -> list[float]:
    of = {fault.kind: fault.probability for fault in explanation.faults} | {"none": explanation.none}
    return [of[kind] for kind in kinds]


def judged(scorer: dgiqa.Scorer, kinds: list[str], told: np.ndarray, there: np.ndarray) -> dict:
    """Precision, recall and area under the ROC curve of each kind, of what is known."""
    columns = ("n", "of", "found", "precision", "recall", "auc", "mean_there", "mean_not")
    print(f"{'fault':16}" + "".join(f"{name:>11}" for name in columns))
    rows = {}
    for k, kind in enumerate(kinds):
        known = ~np.isnan(there[:, k])
        p, has = told[known, k], there[known, k] > 0
        found = p >= least(scorer, kind)
        yes, no = p[has], p[~has]
        row = dict.fromkeys(columns) | {"n": len(yes), "of": len(p), "found": int(found.sum())}
        if found.any():
            row["precision"] = float(has[found].mean())
        if len(yes):
            above, equal = yes[:, None] > no, yes[:, None] == no
            row |= {"recall": float(found[has].mean()), "auc": float((above + equal / 2).mean())}
            row["mean_there"] = float(yes.mean())
        row["mean_not"] = float(no.mean())
        print(f"{kind:16}" + "".join(f"{shown(row[name]):>11}" for name in columns))
        rows[kind] = row
    return rows


def shown(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
