"""Recipes: those that come with the project, settings over them, and errors that name the key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("torch")

from dgiqa.errors import UsageError
from dgiqa.training.recipe import read_recipe
from training_case import RECIPE, plan_of

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


def test_there_are_recipes() -> None:
    assert {"mobile-biq2021", "paper"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads_and_writes_back(path: Path, tmp_path: Path) -> None:
    plan = read_recipe(path)
    assert plan.name == path.stem
    (tmp_path / path.name).write_text(plan.as_toml())
    again = read_recipe(tmp_path / path.name)
    assert dataclasses.replace(again, folder=plan.folder) == plan


def test_settings_go_over_the_recipe_and_keep_their_types(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "train.epochs=3",
        "loss.plcc=0.5",
        "train.flip=false",
        "train.depth=shuffled",
        "data.0.split=all",
        "data.0.validation.share=0.25",
        "model.trunks.color_trunk=a file.pth",
        'card.version="2.0"',
        "ladders.kinds={natural=1}",
        "ladders.severities=[1, 5]",
    )
    assert (plan.train.epochs, plan.loss.plcc, plan.train.flip, plan.train.depth) == (3.0, 0.5, False, "shuffled")
    assert (plan.data[0].split, plan.data[0].validation.share) == ("all", 0.25)
    assert plan.model.trunks == {"color_trunk": "a file.pth"}
    assert (plan.card.version, plan.ladders.severities) == ("2.0", (1, 5))
    assert set(plan.ladders.shares()) > {"haze", "rain"}
    assert sum(plan.ladders.shares().values()) == pytest.approx(1)


def test_kinds_can_be_left_out_of_the_ladders(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "ladders.kinds={natural=3, noise=1}", 'ladders.without=["glare", "rain"]')
    shares = plan.ladders.shares()
    assert {"glare", "rain"}.isdisjoint(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["noise"] == pytest.approx(0.25)


WRONG = {
    "train.epoch=3": "{path}: train: epoch: unknown key; known keys: epochs, steps, ",
    "train.epochs=many": "{path}: train: epochs: expected float, found 'many'",
    "train.batch=4.5": "{path}: train: batch: expected int, found 4.5",
    "train.batch=0": "{path}: train: batch must be at least 1",
    "train.accumulate=3": "{path}: train: batch = 4 has no 3 equal parts (accumulate)",
    "train.select=first": "{path}: train: select: 'first' is not one of 'last', 'best'",
    "train.crop=128": "{path}: train.crop = 128 must be a multiple of 32 and at most the short side, 96",
    "train.short_side=-1": "{path}: train: short_side must not be negative",
    "train.short_side=32": "{path}: train.crop = 64 must be a multiple of 32 and at most the short side, 32",
    "train.depth=none": "{path}: train.depth = 'none' goes with a recipe without a depth card, and only with it",
    "loss.mse=-1": "{path}: loss: mse must not be negative",
    "loss.ladder=0": "{path}: ladders.pairs and loss.ladder go together: one of them is 0",
    "loss.distil=1": "{path}: loss.distil and data.targets go together: one of them is missing",
    "ladders.kinds={nosie=1}": "{path}: ladders: kinds: 'nosie' is unknown; known: all, kadid, natural, ",
    'ladders.without=["nosie"]': "{path}: ladders: without: 'nosie' is unknown; known: ",
    "probe.epochs=-1": "{path}: probe: batch and rate must be positive; epochs, decay, ladders and pairs not negative",
    "data.0.validation.groups=x.csv": "{path}: data[0]: validation: a groups file goes with disjoint = 'scene'",
    "data.1.split=all": "--set data.1.split=all: the recipe has no such place; lists are counted from 0: data.0.split",
    "train.epochs.x=1": "{path}: train: epochs: expected float, found {{'x': 1}}",
    "train.steps.x=1": "--set train.steps.x=1: the recipe has no such place; lists are counted from 0: data.0.split",
    "epochs": "--set epochs: not of the form key=value; such as --set train.epochs=3",
    "name=x": "{path}: name: follows from the file's place and can't be set",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_named(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        plan_of(tmp_path, setting)
    assert str(error.value).startswith(WRONG[setting].format(path=tmp_path / "small.toml"))


def test_a_recipe_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml: the recipe can't be read"):
        read_recipe(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(UsageError, match=r"bad\.toml: not valid TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two sets are called 'biq2021'; give one another name"):
        plan_of(tmp_path, text=RECIPE + '\n[[data]]\ndataset = "biq2021"\nsplit = "test"\n')


def test_what_decides_is_what_the_weights_depend_on(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    free = plan_of(tmp_path, "train.workers=7", "train.log=3", "train.checkpoint=9", "card.version=x", "data.0.root=/x")
    assert plan.deciding() == free.deciding()
    other = plan_of(tmp_path, "data.0.validation.seed=1").deciding()
    assert {key for key in other if other[key] != plan.deciding().get(key)} == {"data.0.validation.seed"}
