"""What a run sees: the same whatever the threads and processes, cut alike in colour and depth, from a sound cache."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from dgiqa.cards import Recipe
from dgiqa.datasets import Split
from dgiqa.distortions import distort
from dgiqa.errors import UsageError
from dgiqa.imaging.decode import decode
from dgiqa.imaging.views import make_views
from dgiqa.stream import in_order
from dgiqa.training.batches import Batch, Batches, cut, share_out
from dgiqa.training.ladders import LadderMaker
from dgiqa.training.loop import _unrated
from dgiqa.training.pictures import Fault, Pictures
from dgiqa.training.recipe import Ladders, Plan, Validation
from dgiqa.training.sets import Rated, hold_out, read_column, read_sets
from training_case import RECIPE, plan_of, write_set

RECIPE_96 = Recipe(short_side=96, kernel="bicubic", views="whole", multiple=32, depth="some")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("biq2021"), 20)


def ramp(pixels: np.ndarray) -> np.ndarray:
    """Depth that tells where a pixel was: rows from 0 to 255."""
    height, width = pixels.shape[:2]
    return np.repeat(np.linspace(0, 255, height).astype(np.uint8)[:, None], width, 1)


def make(plan: Plan, root: Path, cache: Path | None = None, rank: int = 0, ranks: int = 1) -> Batches:
    fitted = [parts.fitted for parts in read_sets(plan, {part.key: root for part in plan.data})]
    pictures = Pictures(RECIPE_96, ramp, "ramp", cache)
    return Batches(plan, fitted, pictures, LadderMaker(plan.ladders, fitted[0].paths, 0), rank, ranks)


def rows(batch: Batch) -> dict[int, tuple[bytes, bytes]]:
    """Place to pixels and depth, of this process's pictures."""
    found = {}
    for group in batch.groups:
        assert group.depth is not None
        for k, place in enumerate(group.places):
            found[int(place)] = group.color[k].tobytes(), group.depth[k].tobytes()
    return found


def same(a: Batch, b: Batch) -> bool:
    columns = ("owner", "mos", "deviations", "targets", "steps")
    return rows(a) == rows(b) and all(
        np.array_equal(getattr(a, c), getattr(b, c), equal_nan=c != "owner") for c in columns
    )


def test_a_step_is_a_function_of_seed_and_step(root: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    first, second = (
        make(plan, root),
        make(dataclasses.replace(plan, train=dataclasses.replace(plan.train, workers=5)), root),
    )
    ahead = dict(second.ahead(2))
    assert sorted(ahead) == [2, 3, 4, 5]
    assert all(same(first.of_step(step)[0], ahead[step][0]) for step in (5, 2, 4))
    other = make(plan_of(tmp_path, "train.seed=1"), root)
    assert not same(first.of_step(4)[0], other.of_step(4)[0])
    assert not same(first.of_step(4)[0], first.of_step(5)[0])


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_a_step_without_loss(root: Path, tmp_path: Path, ranks: int) -> None:
    plan = plan_of(tmp_path)
    whole = make(plan, root).of_step(4)[0]
    parts = [make(plan, root, rank=rank, ranks=ranks).of_step(4)[0] for rank in range(ranks)]
    together = {place: pixels for part in parts for place, pixels in rows(part).items()}
    assert sum(len(rows(part)) for part in parts) == whole.size == 8
    assert together == rows(whole)
    assert all(np.array_equal(part.mos, whole.mos) for part in parts)


def test_parts_of_a_step_are_the_step(root: Path, tmp_path: Path) -> None:
    whole = make(plan_of(tmp_path), root).of_step(4)[0]
    parts = make(plan_of(tmp_path, "train.accumulate=2"), root).of_step(4)
    assert [part.size for part in parts] == [4, 4]
    assert sorted(np.concatenate([part.mos for part in parts])) == sorted(whole.mos)


def test_too_many_processes_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"5 processes share 4 pictures a step; fewer processes, or a larger train.batch"
    ):
        make(plan_of(tmp_path), root, ranks=5)


def test_an_epoch_shows_each_picture_once_and_the_next_in_another_order(root: Path, tmp_path: Path) -> None:
    batches = make(plan_of(tmp_path, "train.steps=8", "ladders.pairs=0", "loss.ladder=0"), root)
    assert batches.steps_per_epoch == 4
    seen = [batches.of_step(step)[0].mos.tolist() for step in range(8)]
    first, second = np.concatenate(seen[:4]).tolist(), np.concatenate(seen[4:]).tolist()
    assert sorted(first) == sorted(second) == sorted(batches.sets[0].mos.tolist())
    assert first != second


def test_colour_and_depth_are_cut_and_mirrored_alike(tmp_path: Path) -> None:
    """A picture whose grey value is its depth stays so in every crop."""
    root = tmp_path / "set"
    write_set(root, 5)
    slope = np.linspace(0, 255, 128).astype(np.uint8)
    for path in (root / "Images").iterdir():
        PIL.Image.fromarray(np.repeat(np.add.outer(slope // 2, slope // 2)[:, :, None], 3, 2)).save(path)
    plan = plan_of(tmp_path, "data.0.validation.share=0", "ladders.pairs=0", "loss.ladder=0", "train.steps=9")
    fitted = [parts.fitted for parts in read_sets(plan, {"biq2021": root})]
    batches = Batches(plan, fitted, Pictures(RECIPE_96, lambda p: p[..., 0].copy(), "grey", None), None, 0, 1)
    corners, directions = set(), set()
    for step in range(9):
        for group in batches.of_step(step)[0].groups:
            assert group.depth is not None
            assert group.color.shape[1:] == (64, 64, 3)
            assert np.array_equal(group.color[..., 0], group.depth)
            corners |= {(int(g[0].min()), int(g[:, 0].min())) for g in group.depth}
            directions |= {bool(g[0, -1] > g[0, 0]) for g in group.depth}
    assert len(corners) > 10
    assert directions == {True, False}


@given(st.integers(32, 60), st.integers(32, 60), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_cut_lies_inside(height: int, width: int, down: float, right: float) -> None:
    where = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    color, depth = cut(np.repeat(where[:, :, None], 3, 2), where, 32, np.array([down, right]))
    assert depth is not None
    assert color.shape == (32, 32, 3)
    assert np.array_equal(color[..., 1], depth)
    assert np.array_equal(depth - depth[0, 0], where[:32, :32])


def test_sets_share_a_batch_by_weight_and_size(tmp_path: Path) -> None:
    text = RECIPE + '\n[[data]]\ndataset = "biq2021"\nname = "other"\nweight = 2.0\n'
    plan = plan_of(tmp_path, "train.batch=16", text=text)
    assert share_out(plan, [100, 50]) == [8, 8]
    assert share_out(plan, [1000, 100]) == [13, 3]
    with pytest.raises(UsageError, match="the set other has no place in a batch of 16; give it a larger weight"):
        share_out(plan, [10_000, 10])


def test_two_sets_are_told_apart(root: Path, tmp_path: Path) -> None:
    text = RECIPE + '\n[[data]]\ndataset = "biq2021"\nname = "other"\nsplit = "test"\n'
    batch = make(plan_of(tmp_path, text=text), root).of_step(0)[0]
    assert batch.owner.tolist() == [0, 0, 1, 1]


def test_whole_pictures_are_grouped_by_shape(root: Path, tmp_path: Path) -> None:
    batches = make(plan_of(tmp_path, "train.crop=0", "train.batch=12"), root)
    shapes = {group.color.shape[1:] for step in range(3) for group in batches.of_step(step)[0].groups}
    assert shapes == {(96, 96, 3)}  # 128×144 becomes 96×108, rounded to 96×96
    assert sorted(rows(batches.of_step(0)[0])) == list(range(12))


def test_whole_pictures_come_last(root: Path, tmp_path: Path) -> None:
    batches = make(plan_of(tmp_path, "train.steps=8", "train.whole=0.25"), root)
    sides = [{group.color.shape[1] for group in batches.of_step(step)[0].groups} for step in range(8)]
    assert sides == [{64}] * 6 + [{96}] * 2
    with pytest.raises(UsageError, match=r"whole lies in 0\.\.1"):
        plan_of(tmp_path, "train.whole=1.5")


def test_held_out_pictures_are_never_fitted(root: Path, tmp_path: Path) -> None:
    parts = read_sets(plan_of(tmp_path), {"biq2021": root})[0]
    assert (len(parts.fitted), len(parts.held)) == (16, 4)
    assert not set(parts.fitted.paths) & set(parts.held.paths)
    other = read_sets(plan_of(tmp_path, "train.seed=5", "data.0.pictures=7"), {"biq2021": root})[0]
    assert other.held.paths == parts.held.paths
    assert len(other.fitted) == 7
    assert set(other.fitted.paths) < set(parts.fitted.paths)


def test_the_thousand_of_biq2021_are_those_of_the_first_default(tmp_path: Path) -> None:
    split = Split("biq2021", "train", tuple(Path(f"{i}.jpg") for i in range(10_000)), np.zeros(10_000), ("",) * 10_000)
    held = hold_out(plan_of(tmp_path), Validation(0.1, 2021), split)[1]
    assert np.array_equal(held, np.sort(np.random.default_rng(2021).permutation(10_000)[:1000]))


def test_groups_stay_together(tmp_path: Path) -> None:
    paths = tuple(Path(f"/set/a/{i}.jpg") for i in range(60))
    split = Split("x", "train", paths, np.zeros(60, np.float32), ("",) * 60)
    (tmp_path / "groups.csv").write_text("path,group\n" + "".join(f"a/{i}.jpg,g{i // 6}\n" for i in range(48)))
    validation = Validation(0.3, 1, "scene", str(tmp_path / "groups.csv"))
    fitted, held = hold_out(plan_of(tmp_path), validation, split)
    assert not {i // 6 for i in fitted if i < 48} & {i // 6 for i in held if i < 48}
    assert 18 <= len(held) <= 23
    with pytest.raises(UsageError, match=r"x names no reference pictures"):
        hold_out(plan_of(tmp_path), Validation(disjoint="reference"), split)


def test_a_column_finds_its_pictures(tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text("path,target\na/1.jpg,0.1\nb/1.jpg,0.2\nother/2.jpg,0.3\n")
    paths = [Path(f"/data/{name}") for name in ("a/1.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg")]
    assert read_column(file, "target", paths) == ["0.1", "0.2", None, "0.3"]
    assert read_column(file, "target", [*paths, Path("/data/d/2.jpg")]) == ["0.1", "0.2", None, None, None]
    with pytest.raises(UsageError, match=r"targets\.csv: has no columns path and group"):
        read_column(file, "group", paths)
    with pytest.raises(UsageError, match=r"targets\.csv: names none of the 1 pictures, such as 9\.jpg"):
        read_column(file, "target", [Path("9.jpg")])


def test_a_teachers_targets_reach_the_batch(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "teacher.csv"
    file.write_text("path,target\n" + "".join(f"Images/ss01 ({i}).png,{i / 20}\n" for i in range(0, 20, 2)))
    batch = make(plan_of(tmp_path, f'data.0.targets="{file}"', "loss.distil=1"), root).of_step(0)[0]
    taught = np.isfinite(batch.targets)
    assert 0 < taught.sum() < 4
    assert np.allclose(batch.mos[taught], 0.95 - 0.9 * batch.targets[taught], atol=1e-3)
    file.write_text("path,target\nImages/ss01 (3).png,30\n")
    with pytest.raises(UsageError, match=r"teacher\.csv: the target 30 isn't in 0\.\.1"):
        make(plan_of(tmp_path, f'data.0.targets="{file}"', "loss.distil=1"), root)


def test_a_teacher_need_not_know_the_pictures_that_are_held_out(root: Path, tmp_path: Path) -> None:
    for name, numbers in {"fitted": range(16), "held": range(16, 20)}.items():
        lines = [f"{root}/Images/ss01 ({i}).png,{i / 20},{name}" for i in numbers]
        with (tmp_path / "own.csv").open("a" if name == "held" else "w") as stream:
            stream.write("\n".join([*(["path,mos,split"] if name == "fitted" else []), *lines]) + "\n")
    file = tmp_path / "teacher.csv"
    file.write_text("path,target\n" + "".join(f"Images/ss01 ({i}).png,0.5\n" for i in range(16)))
    changes = (f'data.0.dataset="{tmp_path / "own.csv"}"', 'data.0.split="fitted"', "data.0.validation.share=0.0")
    more = ('data.0.validation.split="held"', f'data.0.targets="{file}"', "loss.distil=1")
    plan = plan_of(tmp_path, *changes, *more)
    [parts] = read_sets(plan, {plan.data[0].key: root})
    assert (len(parts.fitted), len(parts.held)) == (16, 4)
    assert np.isfinite(parts.fitted.targets).all()
    assert np.isnan(parts.held.targets).all()


def test_missing_folders_are_asked_for(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"where is the data set biq2021\?; say --data biq2021=FOLDER"):
        read_sets(plan_of(tmp_path), {})
    with pytest.raises(UsageError, match=r"--data koniq: the recipe has no such set; its sets: biq2021"):
        read_sets(plan_of(tmp_path), {"koniq": root})
    assert len(read_sets(plan_of(tmp_path, f'data.0.root="{root}"'), {})[0].fitted) == 16


def test_training_sees_what_scoring_sees(root: Path, tmp_path: Path) -> None:
    path = root / "Images" / "ss01 (3).png"
    for depth_from in ("resized", "picture"):
        recipe = dataclasses.replace(RECIPE_96, depth_from=depth_from)
        wanted = make_views(decode(path), recipe, ramp)
        assert wanted.depth is not None
        pictures = Pictures(recipe, ramp, "ramp", tmp_path / "cache", keep=True)
        for _ in range(2):  # computed, then from the cache
            color, depth = pictures.see(path)
            assert depth is not None
            assert np.array_equal(color, wanted.color[0])
            assert np.array_equal(depth, wanted.depth[0])


def test_depth_is_computed_once_for_each_content_card_and_size(root: Path, tmp_path: Path) -> None:
    calls = []

    def counted(pixels: np.ndarray) -> np.ndarray:
        calls.append(pixels.shape)
        return ramp(pixels)

    path, cache = root / "Images" / "ss01 (3).png", tmp_path / "cache"
    Pictures(RECIPE_96, counted, "a", cache).see(path)
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    Pictures(RECIPE_96, counted, "a", cache).see(copy)
    assert len(calls) == 1  # the name doesn't matter
    Pictures(RECIPE_96, counted, "b", cache).see(path)
    Pictures(dataclasses.replace(RECIPE_96, short_side=64), counted, "a", cache).see(path)
    Pictures(RECIPE_96, counted, "a", cache).see(root / "Images" / "ss01 (4).png")
    Pictures(RECIPE_96, counted, "a", cache).see(path, Fault("noise", 3, 1))
    assert len(calls) == 5
    Pictures(RECIPE_96, counted, "a", cache).see(path, Fault("noise", 3, 1))
    Pictures(RECIPE_96, counted, "a", cache).see(path, Fault("noise", 0, 1))
    assert len(calls) == 5


def test_a_cache_file_that_was_cut_short_is_made_anew(root: Path, tmp_path: Path) -> None:
    path = root / "Images" / "ss01 (3).png"
    pictures = Pictures(RECIPE_96, ramp, "a", tmp_path, keep=True)
    wanted = [array.copy() for array in pictures.see(path) if array is not None]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert sorted(file.suffix for file in files) == [".npy", ".png"]
    for size in (100, 0):
        for file in files:
            file.write_bytes(file.read_bytes()[:size])
        for found, array in zip(pictures.see(path), wanted, strict=True):
            assert np.array_equal(found, array)


def test_controls_replace_depth_alone(root: Path, tmp_path: Path) -> None:
    def told(pixels: np.ndarray) -> np.ndarray:  # each picture's depth tells which picture it is
        return np.full(pixels.shape[:2], zlib.crc32(pixels.tobytes()) % 251, np.uint8)

    batches = {}
    for how in ("own", "constant", "shuffled"):
        plan = plan_of(tmp_path, f"train.depth={how}", "train.batch=16", "ladders.start=0")
        fitted = [parts.fitted for parts in read_sets(plan, {"biq2021": root})]
        maker = LadderMaker(plan.ladders, fitted[0].paths, 0)
        batches[how] = rows(Batches(plan, fitted, Pictures(RECIPE_96, told, "t", None), maker, 0, 1).of_step(0)[0])
    for place, (color, depth) in batches["own"].items():
        assert batches["constant"][place][0] == batches["shuffled"][place][0] == color
        assert set(batches["constant"][place][1]) == {128}
        assert batches["shuffled"][place][1] != depth or place >= 16
    rated = range(16)
    assert sorted(batches["own"][p][1][0] for p in rated) == sorted(batches["shuffled"][p][1][0] for p in rated)


def test_pairs_are_one_picture_in_rising_severity(root: Path) -> None:
    paths = sorted((root / "Images").iterdir())
    shares = {"noise": 1.0, "jpeg": 3.0}
    maker = LadderMaker(Ladders(pool=30, kinds=shares), paths, 0)
    pairs = [maker.pair(number) for number in range(400)]
    for better, worse in pairs:
        assert (better.path, better.corner, better.fault.kind) == (worse.path, worse.corner, worse.fault.kind)
        assert better.fault.severity < worse.fault.severity
    assert len({(worse.path, worse.fault.kind, worse.fault.seed) for _, worse in pairs}) <= 30
    assert {better.fault.severity for better, _ in pairs} >= {0, 1, 2}
    assert pairs[7] == maker.pair(7)
    assert pairs != [LadderMaker(Ladders(pool=30, kinds=shares), paths, 1).pair(i) for i in range(400)]
    endless = LadderMaker(Ladders(pool=0, kinds=shares), paths, 0)
    kinds = [endless.pair(number)[1].fault.kind for number in range(400)]
    assert 0.65 < kinds.count("jpeg") / 400 < 0.85


def test_some_ladders_spoil_pictures_that_nobody_rated(root: Path, tmp_path: Path) -> None:
    rated, unrated = sorted((root / "Images").iterdir()), [tmp_path / f"{n}.png" for n in range(5)]
    plain = LadderMaker(Ladders(), rated, 0).whole(600)
    for share in (0.0, 0.4, 1.0):
        maker = LadderMaker(Ladders(share=share), rated, 0, unrated)
        ladders = maker.whole(600)
        others = [ladder[0].path in unrated for ladder in ladders]
        assert abs(np.mean(others) - share) < 0.07
        assert {ladder[0].path for ladder in ladders} <= {*rated, *unrated}
        assert all(len({rung.path for rung in ladder}) == 1 for ladder in ladders)
        assert all(rung.others[rung.index] == rung.path for ladder in ladders for rung in ladder)
        # Each ladder is the fault that it was, and those of rated pictures are what they were without the others.
        pairs = list(zip(ladders, plain, others, strict=True))
        assert all([r.fault for r in ladder] == [r.fault for r in before] for ladder, before, _ in pairs)
        assert all(ladder == before for ladder, before, other in pairs if not other)
        assert {ladder[0].path for ladder, _, other in pairs if other} == {*unrated[: 5 * bool(share)]}
        assert maker.pair(7) == maker.pair(7)


def test_unrated_pictures_that_are_not_there_end_a_run_before_it_begins(root: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 'ladders.pictures="nowhere"', "ladders.share=0.5")
    with pytest.raises(UsageError, match=r"ladders\.pictures: .*nowhere: no such file or folder"):
        _unrated(plan)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there are no pictures in empty"):
        _unrated(plan_of(tmp_path, 'ladders.pictures="empty"', "ladders.share=0.5"))
    plan = plan_of(tmp_path, f'ladders.pictures="{root / "Images"}"', "ladders.share=0.5")
    assert len(_unrated(plan)) == 20


def test_a_rung_is_the_distorted_picture(root: Path, tmp_path: Path) -> None:
    path = root / "Images" / "ss01 (3).png"
    color, _ = Pictures(dataclasses.replace(RECIPE_96, short_side=128), ramp, "a", tmp_path).see(
        path, Fault("jpeg", 4, 9)
    )
    assert np.array_equal(color, distort(decode(path).pixels, "jpeg", 4, seed=9))


def test_errors_while_reading_ahead_come_in_their_turn() -> None:
    def inverse(x: int) -> float:
        return 1 / x

    found = in_order(inverse, [4, 2, 0, 1], 2, background=True)
    assert [next(found), next(found)] == [0.25, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_sum_changes_with_a_rating() -> None:
    columns = np.array([0.1, 0.2], np.float32)
    rated = Rated("x", (Path("a"), Path("b")), columns, columns, columns)
    changed = dataclasses.replace(rated, mos=columns + np.float32(1e-6))
    assert rated.sum() != changed.sum()
    assert rated.sum() == dataclasses.replace(rated, paths=(Path("/moved/a"), Path("/moved/b"))).sum()


def test_cuts_of_kept_stages_are_whole_cells() -> None:
    """And depth is cut at the same place."""
    depth = np.arange(96 * 160, dtype=np.int64).reshape(96, 160)
    cells = depth[::32, ::32].astype(np.float16)[None].repeat(5, 0)
    for corner in ((0.0, 0.0), (0.5, 0.5), (0.999, 0.999)):
        color, near = cut(cells, depth, 64, np.array(corner))
        assert color.shape == (5, 2, 2)
        assert near is not None
        assert near.shape == (64, 64)
        np.testing.assert_array_equal(color[0], near[::32, ::32].astype(np.float16))
    assert {float(cut(cells, depth, 64, np.array([0, x / 8]))[0][0, 0, 0]) for x in range(8)} == {0, 32, 64, 96}
