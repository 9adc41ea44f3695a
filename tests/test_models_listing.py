"""Cards by name: found by folder, never outside it, and without torch."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import dgiqa.models
from dgiqa.errors import CardError, ModelNotFound, RuntimeMissing
from dgiqa.models import DEFAULT, build_network, find_card, list_models

FOLDER = Path(dgiqa.models.__file__).parent


CARD = """
version = "1"
kind = "quality"
summary = "A card of the tests"
paper = { title = "T", authors = "A", year = 2025, url = "" }
licence = { code = "x", weights = "x", data = "x" }
network = { parameters = 1, gmacs = 0.1, input = "x" }
recipe = { short_side = 32, kernel = "bilinear", views = "whole" }
training = { data = "x", initialisation = "x" }
weights.onnx = { file = "mine.onnx" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of models of its own: one architecture with one card, one with two."""
    for place in ("alpha/one", "beta/one", "beta/two"):
        path = (tmp_path / place).with_suffix(".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(CARD)
    monkeypatch.setattr(dgiqa.models, "_FOLDER", tmp_path)
    return tmp_path


def test_the_default_is_listed_and_every_listed_name_is_found():
    cards = list_models()
    names = [card.name for card in cards]
    assert DEFAULT in names
    assert names == sorted(names)
    assert names == sorted(f"{path.parent.name}.{path.stem}" for path in FOLDER.glob("*/*.toml"))
    for card in cards:
        assert find_card(card.name) == card
        assert card.arch == card.name.split(".")[0], "a built-in card's arch is its folder"
        assert (card.folder / f"{card.name.split('.')[1]}.toml").is_file()
    assert find_card("default").name == DEFAULT


def test_kinds_part_the_list():
    quality, depth = list_models("quality"), list_models("depth")
    others = list_models("trunk") + list_models("landmarks")
    assert sorted(card.name for card in quality + depth + others) == [card.name for card in list_models()]
    assert DEFAULT in [card.name for card in quality]
    assert all(card.kind == "depth" for card in depth)


def test_the_depth_that_a_card_names_is_a_depth_card():
    named = {card.recipe.depth for card in list_models() if card.recipe.depth}
    assert named
    assert {find_card(name).kind for name in named} == {"depth"}


def test_every_architecture_has_a_card():
    for path in FOLDER.glob("*/network.py"):
        assert list(path.parent.glob("*.toml")), f"{path.parent.name} has no card"


def test_an_architecture_with_one_card_is_a_name_by_itself(folder):
    assert [card.name for card in list_models()] == ["alpha.one", "beta.one", "beta.two"]
    assert find_card("alpha").name == "alpha.one"
    assert find_card("beta.two").name == "beta.two"
    with pytest.raises(ModelNotFound) as caught:
        find_card("beta")
    assert str(caught.value) == "'beta' has 2 cards; name one of them: beta.one, beta.two"


def test_one_broken_card_breaks_the_list(folder):
    (folder / "beta/two.toml").write_text("version = 1")
    with pytest.raises(CardError, match=r"two\.toml: "):
        list_models()
    assert find_card("alpha").name == "alpha.one"


def test_an_unknown_name_gets_the_closest_ones(folder):
    with pytest.raises(ModelNotFound) as caught:
        find_card("alpa.one")
    assert str(caught.value) == (
        "there is no model named 'alpa.one'; "
        "did you mean alpha.one or beta.one or alpha? `dgiqa models` lists every model"
    )
    with pytest.raises(ModelNotFound) as caught:
        find_card("zzz")
    assert str(caught.value) == "there is no model named 'zzz'; `dgiqa models` lists every model"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "alpha/one", "../alpha.one", "/etc/passwd", "a\0b", "*"])
def test_a_name_never_leaves_the_folder(folder, name):
    (folder.parent / "x.toml").write_text("")
    with pytest.raises(ModelNotFound):
        find_card(name)


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_card_of_ones_own_is_found_by_its_path(tmp_path, monkeypatch, as_type):
    path = tmp_path / "mine" / "holiday.toml"
    path.parent.mkdir()
    path.write_text(f'arch = "dgiqa_mobile"\n{CARD}')
    card = find_card(as_type(path))
    assert (card.name, card.folder) == ("dgiqa_mobile.holiday", path.parent)
    monkeypatch.chdir(path.parent)
    assert find_card(as_type("holiday.toml")) == card
    with pytest.raises(ModelNotFound) as caught:
        find_card(as_type("none.toml"))
    assert str(caught.value) == (
        "there is no model card at none.toml; give the path of a .toml file, or a name that `dgiqa models` lists"
    )


@pytest.mark.parametrize("settings", [{"size": "huge"}, {"nonsense": 1}])
def test_settings_that_a_network_does_not_have_are_refused(settings):
    torch = pytest.importorskip("torch")
    networks = {card.arch: card for card in list_models() if card.kind in ("quality", "landmarks")}
    tried = []
    for card in networks.values():
        if (Path(dgiqa.models.__file__).parent / card.arch / "network.py").is_file():
            with (
                torch.device("meta"),
                pytest.raises(CardError, match=rf"^{card.name}: settings: .+ don't fit {card.arch}"),
            ):
                build_network(dataclasses.replace(card, settings=settings))
            tried.append(card.arch)
    assert len(tried) >= 11


@pytest.mark.parametrize("arch", ["nothing", "..", "../models/dgiqa", "dgiqa.network", "DGIQA", ""])
def test_a_network_is_built_only_from_an_architecture(arch):
    card = dataclasses.replace(list_models()[0], arch=arch)
    with pytest.raises(CardError, match="arch: there is no architecture named ") as caught:
        build_network(card)
    assert "dgiqa_mobile" in caught.value.hint


def test_the_network_of_the_default_is_built():
    network = build_network(find_card("default"))
    assert sum(p.numel() for p in network.parameters()) == find_card("default").network.parameters


def test_without_torch_cards_are_listed_and_networks_say_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dgiqa.errors import RuntimeMissing\n"
        "from dgiqa.models import build_network, find_card, list_models\n"
        "card = list_models('quality')[0]\n"
        "assert find_card(card.name) == card\n"
        "try: build_network(card)\n"
        "except RuntimeMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name = list_models("quality")[0].name
    assert done.stdout == (f"the network of {name} needs torch, which is not installed; pip install 'dgiqa[torch]'\n")


def test_a_network_that_misses_a_package_of_its_own_names_it(tmp_path, monkeypatch):
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "network.py").write_text("import package_that_nobody_has")
    card = dataclasses.replace(list_models()[0], arch="probe")
    monkeypatch.setattr(dgiqa.models, "_FOLDER", tmp_path)
    monkeypatch.setattr(dgiqa.models, "__path__", [str(tmp_path)])
    with pytest.raises(RuntimeMissing, match="package_that_nobody_has"):
        build_network(card)


def test_the_readme_has_every_card_as_it_is():
    benchmarks = Path(__file__).parents[1] / "benchmarks" / "models_table.py"
    done = subprocess.run([sys.executable, str(benchmarks), "--check"], check=False)
    assert done.returncode == 0, "run python benchmarks/models_table.py"
