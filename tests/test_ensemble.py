"""Ensembles: the weighted mean of networks that each see the picture their own way, as lawful as one network."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import PIL.Image
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import dgiqa
from dgiqa.calibration import write_own_card
from dgiqa.cards import Member, ModelCard, read_card
from dgiqa.cli import main
from dgiqa.errors import CardError, ImageTooSmall, UsageError, WeightsError
from dgiqa.evaluation.benchmark import line_of
from dgiqa.imaging.decode import decode
from dgiqa.judges import Judge, label, networks, open_judges
from dgiqa.models import at_size, build_network, cards_behind, find_card, member_cards, whole_network
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.types import Views
from pictures import encode, exif, rgb_profile, scene

NAME = "dgiqa_mobile.ensemble"


@pytest.fixture(scope="module")
def scorer() -> dgiqa.Scorer:
    return dgiqa.load(NAME)


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8, another for each seed."""
    noise = np.random.default_rng(seed).normal(0, 4 + 8 * seed, (height, width, 3))
    return np.clip(scene(width, height)[..., :3] + noise, 0, 255).astype(np.uint8)


def judge(recipe, say: Callable[[Views], np.ndarray], weight: float = 1.0) -> Judge:
    return Judge(recipe, FakeNetwork(say), weight=weight)


def saying(*values: float) -> Callable[[Views], np.ndarray]:
    """A network that says the same of every view: raw, or raw and spread."""
    return lambda views: np.tile(np.float32(values), (len(views), 1)) if len(values) > 1 else np.full(
        len(views), values[0], np.float32
    )  # fmt: skip


def small(**changes) -> ModelCard:
    """The quick card, whose recipe looks at no depth, without its interval."""
    return dataclasses.replace(find_card("dgiqa_mobile.quick"), interval=None, **changes)


def own_card(folder: Path, name: str, source: str, **changes) -> Path:
    """A card of one's own in ``folder`` with the weights of a built-in one, and other values of some fields."""
    card = find_card(source)
    path = folder / f"{name}.toml"
    write_own_card(dataclasses.replace(card, **changes), path, calibration=card.calibration, interval=card.interval)
    return path


# --- the arithmetic -----------------------------------------------------------------------------------------------


def test_the_raw_score_is_the_weighted_mean_of_its_networks(scorer: dgiqa.Scorer) -> None:
    picture = photo(640, 480)
    card = find_card(NAME)
    alone = []
    for each in (dataclasses.replace(card, ensemble=()), *member_cards(card)):
        (one,), model, runtime = open_judges(each, "onnx")
        alone.append(dgiqa.Scorer(each, one.network, one.depth, model=model, runtime=runtime).score(picture))
    weights = [1, *(member.weight for member in card.ensemble)]
    score = scorer.score(picture)
    assert score.raw == pytest.approx(np.average([each.raw for each in alone], weights=weights), abs=1e-12)
    assert alone[0].raw == dgiqa.load().score(picture).raw  # its own network is the default's
    assert [each.spread is None for each in alone] == [False, False, False, True]
    assert score.spread == pytest.approx(
        sum(each.spread for each in alone[:3]) / 3, abs=1e-12
    )  # of those that tell one
    assert (score.quality, score.low, score.high) == card.judge(score.raw, score.spread)


def test_what_counts_more_weighs_more() -> None:
    card = small()
    for weight in (0.5, 1.0, 3.0):
        made = dgiqa.Scorer(
            card, FakeNetwork(saying(0.2)), others=[judge(card.recipe, saying(0.8), weight)], runtime="fake"
        )
        assert made.score(photo(300, 300)).raw == pytest.approx((0.2 + weight * 0.8) / (1 + weight), abs=1e-7)


def test_each_network_sees_the_picture_by_its_own_recipe() -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def look(name: str) -> Callable[[Views], np.ndarray]:
        def say(views: Views) -> np.ndarray:
            shapes[name] = views.color.shape
            return np.full(len(views), 0.5, np.float32)

        return say

    card = small()
    grid = dataclasses.replace(card.recipe, short_side=64, views="grid", crop=64, multiple=1)
    made = dgiqa.Scorer(card, FakeNetwork(look("own")), others=[judge(grid, look("grid"))])
    made.score(photo(600, 300))
    assert shapes == {"own": (1, 288, 576, 3), "grid": (2, 64, 64, 3)}


@pytest.mark.parametrize(
    "data",
    [
        encode(scene(900, 700), "JPEG", quality=95, exif=exif(6), icc_profile=rgb_profile()),
        encode(scene(900, 200), "PNG"),
        encode(np.dstack([scene(300, 400), scene(300, 400)[..., 0]]), "PNG"),  # transparent here and there
        encode(scene(512, 512), "PNG"),  # of the size that one of them wants
        encode(scene(70, 50), "PNG"),
    ],
    ids=["turned, with a profile", "long", "transparent", "fitting", "small"],
)
def test_a_picture_decoded_once_for_several_is_what_each_would_see_of_it(scorer: dgiqa.Scorer, data: bytes) -> None:
    card = find_card(NAME)
    cards = [dataclasses.replace(card, ensemble=()), *member_cards(card)]
    together = decode(data, fitted=[each.recipe for each in cards])
    alone = []
    for place, each in enumerate(cards):
        seen = together.at(place)
        by_itself = decode(data, fitted=[each.recipe])
        assert np.array_equal(seen.pixels, by_itself.pixels)
        assert not seen.pixels.flags.writeable
        assert (seen.width, seen.height) == (by_itself.width, by_itself.height)
        (one,), _, _ = open_judges(each, "onnx")
        alone.append(dgiqa.Scorer(each, one.network, one.depth).score(data).raw)
    assert scorer.score(data).raw == pytest.approx(np.average(alone, weights=[1, 1, 1, 0.5]), abs=1e-12)
    with PIL.Image.open(io.BytesIO(data)) as picture:  # which is decoded whole
        assert scorer.score(picture).raw == scorer.score(data).raw


def test_a_network_that_says_nonsense_is_found_out_wherever_it_stands() -> None:
    card = small()
    for value in (math.nan, math.inf):
        made = dgiqa.Scorer(card, FakeNetwork(saying(0.5)), others=[judge(card.recipe, saying(value))])
        with pytest.raises(WeightsError, match="no number"):
            made.score(photo(300, 300))


# --- the laws -----------------------------------------------------------------------------------------------------


def test_alone_in_batches_backwards_and_by_any_door_the_score_is_the_same(scorer: dgiqa.Scorer, tmp_path: Path) -> None:
    sizes = [(640, 480), (480, 640), (300, 300), (1200, 400), (640, 480)]
    paths = []
    for i, (width, height) in enumerate(sizes):
        path = tmp_path / f"{i}.png"
        PIL.Image.fromarray(photo(width, height, seed=i)).save(path)
        paths.append(path)
    alone = [scorer.score(path).raw for path in paths]
    assert len(set(alone)) == len(alone)
    for workers, batch in ((1, 5), (2, 2)):
        assert [row.raw for row in scorer.score_all(paths, workers=workers, batch=batch)] == alone
        assert [row.raw for row in scorer.score_all(paths[::-1], workers=workers, batch=batch)] == alone[::-1]
    assert [scorer.score(path.read_bytes()).raw for path in paths] == alone
    assert [scorer.score(np.asarray(PIL.Image.open(path))).raw for path in paths] == alone


def test_a_bad_picture_fails_alone(scorer: dgiqa.Scorer, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    good = photo(300, 300)
    rows = list(scorer.score_all([good, bad, good], batch=3))
    assert [row.ok for row in rows] == [True, False, True]
    assert rows[0].raw == rows[2].raw == scorer.score(good).raw
    assert [row.ok for row in scorer.score_all([bad], batch=2)] == [False]


def test_its_explanation_has_its_score_and_a_map_that_adds_up_to_it(scorer: dgiqa.Scorer) -> None:
    picture = photo(640, 480)
    reasons = scorer.explain(picture)
    assert reasons.score == scorer.score(picture)
    assert float((reasons.quality * reasons.weights).sum(dtype=np.float64)) == pytest.approx(
        reasons.score.quality, abs=1e-3
    )
    assert {fault.kind for fault in reasons.faults} == set(find_card(NAME).explain.faults)


def test_at_a_reduced_scale_the_largest_network_has_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    PIL.Image.fromarray(photo(2000, 2000)).save(path, quality=95)
    card = small(recipe=dataclasses.replace(find_card("dgiqa_mobile.quick").recipe, short_side=96, reduce=1.0))
    seen = []

    def look(views: Views) -> np.ndarray:
        seen.append(views.color.shape[1])
        return np.full(len(views), 0.5, np.float32)

    large = dataclasses.replace(card.recipe, short_side=960)
    made = dgiqa.Scorer(card, FakeNetwork(look), others=[judge(large, look)], fast=True)
    assert decode(path, least_side=made._least_side).pixels.shape == (1000, 1000, 3)
    made.score(path)
    assert seen == [96, 960]
    assert dgiqa.load(NAME, fast=True).model == f"{NAME}@3.0+fast"


@pytest.mark.parametrize("member", ["natural_statistics.brisque@1.0", "dark.toml"])
def test_with_a_network_that_looks_at_every_pixel_there_is_no_reduced_scale(tmp_path: Path, member: str) -> None:
    recipe = dataclasses.replace(
        find_card("default").recipe, depth_from="picture", reduce=0.0, multiple=32, kernel="bicubic"
    )
    own_card(tmp_path, "dark", "default", recipe=recipe)
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "{member}"\n')
    assert dgiqa.load(path).score(photo(400, 300)).raw
    with pytest.raises(UsageError, match="no decoding at a reduced scale"):
        dgiqa.load(path, fast=True)


def test_a_picture_too_small_for_one_of_the_networks_is_refused() -> None:
    card = small()
    wants = judge(dataclasses.replace(card.recipe, least=200), saying(0.5))
    made = dgiqa.Scorer(card, FakeNetwork(saying(0.5)), others=[wants])
    assert made.score(photo(200, 200)).raw == 0.5
    with pytest.raises(ImageTooSmall, match="needs 200 pixels a side"):
        made.score(photo(199, 400))


# --- the embedded card --------------------------------------------------------------------------------------------


def test_the_embedded_card_counts_what_its_networks_have_and_do() -> None:
    card = find_card(NAME)
    cards = [card, *member_cards(card)]
    assert whole_network(card).parameters == sum(
        sum(p.numel() for p in build_network(each).parameters()) for each in cards
    )
    quick = dataclasses.replace(cards[1], weights=find_card("dgiqa_mobile.quick").weights)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_network(quick).eval()(torch.zeros(1, 384, 384, 3, dtype=torch.uint8))
    assert quick.network.gmacs == pytest.approx(counter.get_total_flops() / 2e9, rel=0.01)
    names = "default", "dgiqa_mobile.quick", "dgiqa_mobile.thin", "ma_agiqa.mobile"
    stated = [find_card(name).network.gmacs for name in names]
    whole = stated[0] + stated[1] * (384 / 288) ** 2 + stated[2] + stated[3]
    assert whole_network(card).gmacs == pytest.approx(whole, abs=1e-9)
    assert line_of(card, None, 1.0, None).parameters == whole_network(card).parameters
    assert quick.network.input == "384×384 view"
    assert at_size(find_card("contrique.mobile"), 768, "").network == find_card("contrique.mobile").network  # crops
    assert whole_network(find_card("default")) == find_card("default").network


def test_its_own_network_is_the_defaults_file_for_file() -> None:
    card, default = find_card(NAME), find_card("default")
    for part in ("weights", "recipe", "explain", "settings", "network"):
        assert getattr(card, part) == getattr(default, part), part
    assert [each.name for each in cards_behind(card)] == [
        NAME, "dgiqa_mobile.quick", "dgiqa_mobile.thin", "ma_agiqa.mobile", "depth_mobile.rendered"
    ]  # fmt: skip


def test_every_runtime_gives_it_the_same_score(scorer: dgiqa.Scorer) -> None:
    picture = photo(640, 480)
    for runtime in ("openvino", "torch"):
        other = dgiqa.load(NAME, runtime)
        assert other.runtime == f"{runtime} fp32"
        assert other.score(picture).raw == pytest.approx(scorer.score(picture).raw, abs=1e-4)


def test_the_command_line_shows_it_fetches_it_and_does_not_export_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["models", NAME]) == 0
    shown = capsys.readouterr().out
    assert "dgiqa_mobile.quick@1.0: counts 1, short side 384; 7.42 M parameters, 1.296 GMACs" in shown
    assert "ma_agiqa.mobile@1.0: counts 0.5; 2.11 M parameters" in shown
    assert "21.58 M parameters: 7.286 GMACs" in shown
    assert main(["models", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all_networks"]["parameters"] == 21_576_596
    assert main(["fetch", NAME, "--offline"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == [
        "biq2021.onnx", "quick.onnx", "thin.onnx", "mobile.onnx", "rendered.onnx"
    ]  # fmt: skip
    assert main(["export", NAME, "--out", str(tmp_path / "x.toml")]) == 2
    assert "a file holds one network" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_depth_card_feeds_every_network_that_looks_at_depth_and_is_named() -> None:
    with pytest.raises(UsageError, match="looks at no depth"):
        dgiqa.load("dgiqa_mobile.quick", depth="depth_mobile.rendered")
    assert dgiqa.load(NAME, depth="depth_mobile.rendered").model == f"{NAME}@3.0"  # its own


def test_another_depth_reaches_every_network_that_looks_at_depth(tmp_path: Path) -> None:
    """Both networks look at depth here, each at its own size."""
    depth = find_card("depth_mobile.rendered")
    flat = dataclasses.replace(depth.recipe, short_side=64)
    own_card(tmp_path, "flat", "depth_mobile.rendered", recipe=flat)
    sizes = {"large": 512, "small": 320}
    for name, side in sizes.items():
        recipe = dataclasses.replace(find_card("default").recipe, short_side=side)
        own_card(tmp_path, name, "default", recipe=recipe, explain=None)
    both = own_card(tmp_path, "both", "default", explain=None)
    both.write_text(f'{both.read_text()}\n[[ensemble]]\ncard = "small.toml"\n')
    picture = photo(700, 500, seed=1)
    for other in (None, str(tmp_path / "flat.toml")):
        alone = [dgiqa.load(tmp_path / f"{name}.toml", depth=other).score(picture).raw for name in sizes]
        together = dgiqa.load(both, depth=other)
        assert together.score(picture).raw == pytest.approx(sum(alone) / 2, abs=1e-12)
        first, second = together._judges
        assert first.depth is second.depth  # one network for both
        assert ("+depth_mobile.flat@1.0+" in together.model) == (other is not None)
        if other is None:
            own = alone
    assert all(abs(a - b) > 1e-6 for a, b in zip(own, alone, strict=True))


# --- ensembles of one's own ---------------------------------------------------------------------------------------


def test_a_card_of_ones_own_may_gather_networks_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    own_card(tmp_path / "parts", "part", "loda.mobile")
    member = Member("parts/part.toml", weight=0.25)
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick", ensemble=())
    text = path.read_text()
    path.write_text(f'{text}\n[[ensemble]]\ncard = "parts/part.toml"\nweight = 0.25\n')
    assert read_card(path).ensemble == (member,)
    picture = photo(400, 300)
    mine, quick, loda = (dgiqa.load(name).score(picture) for name in (path, "dgiqa_mobile.quick", "loda.mobile"))
    assert mine.raw == pytest.approx((quick.raw + 0.25 * loda.raw) / 1.25, abs=1e-12)
    # calibrated anew from another folder, it still finds its part, and keeps its scores
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "moved.toml"
    card = read_card(path)
    own = write_own_card(card, moved, calibration=card.calibration, interval=card.interval)
    assert own.ensemble == (dataclasses.replace(member, card="../parts/part.toml"),)
    assert dgiqa.load(moved).score(picture).raw == mine.raw


def test_its_name_changes_with_any_of_its_files(tmp_path: Path) -> None:
    part = own_card(tmp_path, "part", "loda.mobile")
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "part.toml"\n')
    names = [dgiqa.load(path).model]
    part.write_text(part.read_text().replace("summary = ", "summary = 'x' #"))
    names.append(dgiqa.load(path).model)
    path.write_text(path.read_text() + "weight = 2.0\n")
    names.append(dgiqa.load(path).model)
    for file in sorted(tmp_path.glob("*.onnx")):  # its own network's, and the further one's
        other = onnx.load(file)
        other.doc_string = "another file of the same network"
        onnx.save(other, file)
        for card in (path, part):
            card.write_text(re.sub(r'(?m)^sha256 = ".*"\n', "", card.read_text()))
            card.write_text(re.sub(r"(?m)^bytes = .*\n", "", card.read_text()))
        names.append(dgiqa.load(path).model)
    assert len(set(names)) == len(names) == 5
    assert all(re.fullmatch(r"dgiqa_mobile\.mine@1\.0\+[0-9a-f]{8}", name) for name in names)


def test_its_name_changes_with_a_members_weights_even_where_no_card_states_their_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "contrique.live@1.0"\n')
    card, names = read_card(path), []
    monkeypatch.setenv("DGIQA_CACHE", str(tmp_path))
    file = tmp_path / "contrique.live" / find_card("contrique.live").weights["torch"].file
    file.parent.mkdir()
    for content in (b"one", b"two"):
        file.write_bytes(content)
        names.append(label(*networks(card, "onnx")))
    assert names[0] != names[1]


def test_calibrating_it_keeps_its_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,mos"]
    for i in range(40):
        noise = rng.normal(0, 3 * i, (96, 96, 3))
        PIL.Image.fromarray(np.clip(photo(96, 96) + noise, 0, 255).astype(np.uint8)).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{1 - i / 40:.3f}")
    (tmp_path / "rated.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "mine.toml"
    assert main(["calibrate", NAME, "--on", str(tmp_path / "rated.csv"), "--out", str(out)]) == 0, capsys.readouterr()
    assert read_card(out).ensemble == find_card(NAME).ensemble
    picture = photo(300, 300)
    assert dgiqa.load(out).score(picture).raw == dgiqa.load(NAME).score(picture).raw


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('card = "dgiqa_mobile.quick"', "name and version"),
        ('card = "dgiqa_mobile.quick@1.0"\nweight = 0.0', "weight must be positive"),
        ('card = "dgiqa_mobile.quick@1.0"\nshort_side = -1', "short_side must not be negative"),
        ('card = "dgiqa_mobile.quick@1.0"\nsize = 3', "size: unknown key"),
        ('card = "dgiqa_mobile.quick@0.1"', "what is here is dgiqa_mobile.quick@1.0"),
        ('card = "dgiqa_mobile.quick@1.0"\nshort_side = 100', "short_side must be a positive multiple"),
        ('card = "depth_mobile.rendered@1.0"', "no network that scores by itself"),
        ('card = "spips.mobile@1.0"', "no network that scores by itself"),
        (f'card = "{NAME}@3.0"', "no network that scores by itself"),
        ('card = "natural_statistics.brisque@1.0"\nshort_side = 96', "takes short_side = 0"),
        ('card = "absent.toml"', "there is no model card at"),
        ('card = "mine.toml"', "no network that scores by itself"),
        ('card = "dgiqa_mobil.quick@1.0"', "did you mean"),
    ],
)  # fmt: skip
def test_a_member_that_will_not_do_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: str, message: str
) -> None:
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f"{path.read_text()}\n[[ensemble]]\n{entry}\n")
    for command in (["score", str(path), "--model", str(path)], ["models", str(path)], ["models", str(path), "--json"]):
        assert main(command) == 2
        told = capsys.readouterr()
        assert message in told.err
        assert not told.out


def test_networks_that_see_other_colours_under_transparent_pixels_are_not_mixed(tmp_path: Path) -> None:
    recipe = dataclasses.replace(find_card("loda.mobile").recipe, background=(0, 0, 0))
    own_card(tmp_path, "dark", "loda.mobile", recipe=recipe)
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "dark.toml"\n')
    with pytest.raises(CardError, match="background"):
        dgiqa.load(path)


def test_only_networks_without_an_original_are_averaged(tmp_path: Path) -> None:
    path = own_card(tmp_path, "mine", "spips.mobile")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "loda.mobile@1.0"\n')
    with pytest.raises(CardError, match="without an original"):
        read_card(path)


def test_a_result_file_of_an_ensemble_is_judged_anew_when_a_member_changes(tmp_path: Path) -> None:
    from dgiqa.cli.evaluate import _fingerprint

    part = own_card(tmp_path, "part", "loda.mobile")
    path = own_card(tmp_path, "mine", "dgiqa_mobile.quick")
    path.write_text(f'{path.read_text()}\n[[ensemble]]\ncard = "part.toml"\n')
    before = _fingerprint(read_card(path))
    part.write_text(part.read_text() + "\n# changed\n")
    assert _fingerprint(read_card(path)) != before


def test_networks_that_look_at_a_picture_as_it_is_share_its_pixels() -> None:
    recipe = find_card("dgiqa_mobile.quick").recipe
    native = dataclasses.replace(recipe, views="native", short_side=0, multiple=1)
    slow = dataclasses.replace(recipe, kernel="cubic-opencv")  # of no kernel of Pillow's
    image = decode(encode(photo(640, 480), "PNG"), fitted=[native, slow, recipe, native])
    seen = [image.at(place).pixels for place in range(4)]
    assert seen[0] is seen[1] is seen[3]
    assert [pixels.shape for pixels in seen] == [(480, 640, 3), (480, 640, 3), (288, 384, 3), (480, 640, 3)]
