"""Errors of landmarks against hand-made numbers, the readers of their files, and the drawn faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dgiqa.errors import UsageError
from dgiqa.metrics.landmarks import CORNERS, EYES, MIRRORED, auc, failure_rate, nme, read_pts, read_wflw
from dgiqa.scenes.faces import draw_face


def face(count: int = 68, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 100, (1, count, 2))


@pytest.mark.parametrize("count", CORNERS)
def test_the_error_is_in_distances_of_the_eyes(count: int) -> None:
    true = face(count)
    left, right = CORNERS[count]
    true[0, left], true[0, right] = (10, 50), (60, 50)  # 50 pixels apart
    assert nme(true + np.array([3, 4]), true).tolist() == pytest.approx([5 / 50])
    found = true.copy()
    found[0, 5] += (30, 40)
    assert nme(found, true).tolist() == pytest.approx([50 / count / 50])


def test_the_error_by_the_box() -> None:
    true = face()
    true[0, :2] = (-20, 0), (180, 50)
    true[0, 2:] = np.clip(true[0, 2:], 0, 50)
    assert nme(true + np.array([3, 4]), true, by="box").tolist() == pytest.approx([5 / np.sqrt(200 * 50)])
    assert nme(true + np.array([3, 4]), true, by="diagonal").tolist() == pytest.approx([5 / np.hypot(200, 50)])


def test_the_error_changes_neither_with_scale_nor_with_place() -> None:
    true, found = face(seed=1), face(seed=2)
    for by in ("eyes", "box", "diagonal"):
        assert nme(7 * found - 3, 7 * true - 3, by=by) == pytest.approx(nme(found, true, by=by))  # type: ignore[arg-type]


def test_what_makes_no_face_is_refused() -> None:
    with pytest.raises(UsageError, match=r"shapes \(1, 68, 2\) and \(1, 98, 2\)"):
        nme(face(), face(98))
    with pytest.raises(UsageError, match="the eyes of 5 landmarks"):
        nme(face(5), face(5))
    assert nme(face(5), face(5), by="box").tolist() == [0]
    with pytest.raises(UsageError, match="no extent"):
        nme(face(), np.zeros((1, 68, 2)))


def test_failures_and_area() -> None:
    errors = np.array([0.0, 0.05, 0.1, 0.3])
    assert failure_rate(errors) == 0.25
    assert failure_rate(errors, 0.05) == 0.5
    assert auc(errors) == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    # The same from the curve itself, by the trapezoid rule on a fine grid.
    many = np.random.default_rng(0).gamma(2, 0.03, 500)
    at = np.linspace(0, 0.1, 20001)
    curve = np.searchsorted(np.sort(many), at, "right") / len(many)
    assert auc(many) == pytest.approx(np.trapezoid(curve, at) / 0.1, abs=1e-5)
    for broken in (np.array([]), np.array([np.nan])):
        with pytest.raises(UsageError, match="errors: none"):
            auc(broken)


def test_pts_files(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    true = face()[0]
    lines = "\n".join(f"{x + 0.5:.6f} {y + 0.5:.6f}" for x, y in true)
    path.write_text(f"version: 1\nn_points:  68\n{{\n{lines}\n}}\n")
    np.testing.assert_allclose(read_pts(path), true, atol=1e-6)
    for text, why in (
        ("version: 1\nn_points: 3\n{\n1 2\n3 4\n}\n", "says 3 points and holds 2"),
        ("n_points: 1\n{\n1 x\n}\n", "no .pts file"),
        ("n_points: 1\n{\n1 nan\n}\n", "says 1 points"),
        ("hello", "no .pts file"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=why):
            read_pts(path)
    with pytest.raises(UsageError, match="no such file"):
        read_pts(tmp_path / "none.pts")
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UsageError, match="can't be read as text"):
        read_pts(path)


def test_lists_of_wflw(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    true = face(98)[0]
    words = [*(f"{v:.6f}" for v in true.ravel()), "10", "20", "110", "140", *"010010", "5--Car/5_car_1.jpg"]
    path.write_text(" ".join(words) + "\n\n" + " ".join(words[::1]) + "\n")
    (name, points, box), _ = read_wflw(path)
    np.testing.assert_allclose(points, true + 0.5, atol=1e-6)
    assert (name, box) == ("5--Car/5_car_1.jpg", (10, 20, 110, 140))
    path.write_text(" ".join(words) + "\n" + " ".join(words[1:]))
    with pytest.raises(UsageError, match="line 2 holds a word"):
        read_wflw(path)
    path.write_text("1 2 3")
    with pytest.raises(UsageError, match="line 1 has 3 words, not 207"):
        read_wflw(path)


def test_a_mirrored_face_is_a_face() -> None:
    assert sorted(MIRRORED) == list(range(68))
    assert [MIRRORED[i] for i in MIRRORED] == list(range(68))
    assert set(np.array(MIRRORED)[list(EYES[68][0])]) == set(EYES[68][1])
    shape = np.mean([draw_face(seed, size=64, spoil=False).landmarks for seed in range(8)], 0)
    shape = shape - shape.mean(0)
    turned = (shape * (-1, 1))[list(MIRRORED)]
    size = np.ptp(shape[:, 0])
    assert np.linalg.norm(turned - shape, axis=1).max() < 0.2 * size
    unmapped = np.linalg.norm(shape * (-1, 1) - shape, axis=1).max()
    assert unmapped > 0.8 * size


# ---- drawn faces


def test_a_drawing_is_a_function_of_its_seed() -> None:
    first, again, other = draw_face(5, size=96), draw_face(5, size=96), draw_face(6, size=96)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.landmarks, again.landmarks)
    assert not np.array_equal(first.pixels, other.pixels)
    assert (first.pixels.shape, first.pixels.dtype, first.landmarks.shape) == ((96, 96, 3), np.uint8, (68, 2))
    with pytest.raises(UsageError, match="face size: 32 pixels is too small"):
        draw_face(0, size=32)


def test_landmarks_lie_where_faces_have_them() -> None:
    """In the head's own axes: roll is taken out by the line of the eyes."""
    for seed in range(12):
        points = draw_face(seed, size=96).landmarks
        assert points.min() > 0
        assert points.max() < 96
        left, right = points[36:42].mean(0), points[42:48].mean(0)
        across = (right - left) / np.linalg.norm(right - left)
        x, y = points @ across, points @ (-across[1], across[0])
        assert x[0] < x[36] < x[39] < x[42] < x[45] < x[16]
        assert y[17:27].mean() < y[36:48].mean() < y[30] < y[33] < y[51] < y[57] < y[8]
        assert (np.diff(x[[48, 49, 50, 51, 52, 53, 54]]) > 0).all()
        assert (np.diff(x[:9]) > -2).all()
        assert (np.diff(y[:8]) > 0).all()


def test_pixels_agree_with_the_landmarks() -> None:
    """Lips, irises and skin differ where the landmarks say that they do; the jaw is an outline."""
    redder, darker = [], []
    for seed in range(8):
        face = draw_face(seed, size=256, spoil=False)
        pixels = face.pixels.astype(float)

        def at(point: np.ndarray, pixels: np.ndarray = pixels) -> np.ndarray:
            x, y = point.astype(int)
            return pixels[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))

        chin, lip = at((face.landmarks[57] + face.landmarks[8]) / 2), at(face.landmarks[[57, 66]].mean(0))
        redder.append(lip[0] / (lip[1] + 1) - chin[0] / (chin[1] + 1))
        brows = np.mean([at(face.landmarks[i]) for i in (18, 19, 20, 23, 24, 25)])
        darker.append(brows - at((face.landmarks[21] + face.landmarks[22]) / 2 - (0, 12)).mean())
    assert np.mean(np.array(redder) > 0) >= 0.75
    assert np.mean(np.array(darker) < 0) >= 0.75


def test_backgrounds_and_faults_change_the_picture_and_not_the_landmarks() -> None:
    red = np.zeros((50, 60, 3), np.uint8)
    red[..., 0] = 255
    before = draw_face(3, size=128, backgrounds=[red], spoil=False)
    assert (np.abs(before.pixels[2, 2].astype(int) - (255, 0, 0)) < 3).all()
    spoiled = draw_face(3, size=128, backgrounds=[red])
    assert np.array_equal(spoiled.landmarks, before.landmarks)
    assert not np.array_equal(spoiled.pixels, before.pixels)
