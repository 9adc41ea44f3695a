"""Model cards by name, and networks by card.

One folder is one architecture, one TOML file in it one set of weights: ``models/dgiqa_mobile/biq2021.toml``
is ``dgiqa_mobile.biq2021``. The folders are the register; nothing else lists them. torch is imported only
by :func:`build_network`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from dgiqa.cards import Member, ModelCard, Network, read_card
from dgiqa.errors import CardError, ModelNotFound, RuntimeMissing

if TYPE_CHECKING:
    from torch import nn

#: The card that the name ``default`` stands for.
DEFAULT = "dgiqa_mobile.biq2021"

_FOLDER = Path(__file__).parent


def list_models(kind: Literal["quality", "depth", "trunk", "landmarks"] | None = None) -> list[ModelCard]:
    """The built-in cards, sorted by name; of one ``kind`` when it is given.

    Raises:
        CardError: a card breaks the schema.
    """
    cards = [read_card(path, name=name) for name, path in _built_in().items()]
    return [card for card in cards if kind in (None, card.kind)]


def find_card(name: str | Path) -> ModelCard:
    """The card that ``name`` means.

    ``default``; ``arch.tag``; ``arch`` alone where it has exactly one card; or the path of a ``.toml`` file,
    which is a card of one's own with the weights beside it.

    Raises:
        ModelNotFound: nothing has that name; the hint has the closest names.
        CardError: the card breaks the schema.
    """
    if isinstance(name, Path) or name.endswith(".toml"):
        return _own_card(Path(name).expanduser())
    paths = _built_in()
    if name == "default":
        name = DEFAULT
    of_arch = [full for full in paths if full.split(".")[0] == name]
    if len(of_arch) == 1:
        name = of_arch[0]
    if name in paths:
        return read_card(paths[name], name=name)
    if of_arch:
        raise ModelNotFound(f"{name!r} has {len(of_arch)} cards", hint=f"name one of them: {', '.join(of_arch)}")
    close = difflib.get_close_matches(name, [*paths, *{full.split(".")[0] for full in paths}, "default"])
    suggestion = f"did you mean {' or '.join(close)}? " if close else ""
    raise ModelNotFound(f"there is no model named {name!r}", hint=f"{suggestion}`dgiqa models` lists every model")


def depth_card(card: ModelCard) -> ModelCard | None:
    """The card of the depth network that ``card`` is fed by: a built-in's name, or a file beside ``card``.

    Raises:
        ModelNotFound, CardError: as :func:`find_card`.
    """
    depth = card.recipe.depth
    if not depth:
        return None
    return find_card(card.folder / depth if depth.endswith(".toml") else depth)


def member_cards(card: ModelCard) -> list[ModelCard]:
    """The cards of the further networks of ``card``'s ensemble, in its order, each fed as ``card`` says.

    Raises:
        ModelNotFound, CardError: as :func:`find_card`; or a member is of another version, compares with an original, is
            no quality card, or an ensemble itself.
    """
    return [_member_card(card, member) for member in card.ensemble]


def _member_card(card: ModelCard, member: Member) -> ModelCard:
    where = f"{card.name}: ensemble: {member.card}"
    if member.card.endswith(".toml"):
        found = find_card(card.folder / member.card)
    else:
        found = find_card(member.card.partition("@")[0])
        if found.label != member.card:
            raise CardError(
                f"{where}: what is here is {found.label}", hint=f"name {found.label} there, then calibrate anew"
            )
    if found.kind != "quality" or found.reference == "full" or found.ensemble:
        raise CardError(f"{where}: is no network that scores by itself, without an original")
    return at_size(found, member.short_side, where) if member.short_side else found


def at_size(card: ModelCard, short_side: int, where: str) -> ModelCard:
    """``card`` for pictures of another short side in pixels, its arithmetic counted for that.

    Raises:
        CardError: its recipe takes no such size; the message begins with ``where``.
    """
    recipe = dataclasses.replace(card.recipe, short_side=short_side)
    try:
        recipe.check()
    except ValueError as error:
        raise CardError(f"{where}: {error}") from error
    if short_side == card.recipe.short_side or recipe.views != "whole":  # a crop is as large as it was
        return dataclasses.replace(card, recipe=recipe)
    gmacs = card.network.gmacs * (short_side / card.recipe.short_side) ** 2
    network = dataclasses.replace(card.network, gmacs=gmacs, input=f"{short_side}×{short_side} view")
    return dataclasses.replace(card, recipe=recipe, network=network)


def whole_network(card: ModelCard) -> Network:
    """The size of all networks whose scores ``card``'s is the mean of: its own, and those of its ensemble, a network
    that is named twice as two.

    Raises:
        ModelNotFound, CardError: as :func:`member_cards`.
    """
    networks = [each.network for each in (card, *member_cards(card))]
    return Network(
        sum(each.parameters for each in networks),
        math.fsum(each.gmacs for each in networks),
        "; ".join(each.input for each in networks),
    )


def cards_behind(card: ModelCard) -> list[ModelCard]:
    """Every card that takes part in a score of ``card``: itself, its ensemble's, and the depth cards of those."""
    cards = [card, *member_cards(card)]
    cards += [depth for each in cards if (depth := depth_card(each))]
    return list({each.folder / each.file: each for each in cards}.values())


def build_network(card: ModelCard) -> nn.Module:
    """The card's network in torch, with the parameters that its initialisation gives (no weights read).

    Raises:
        CardError: the card's ``arch`` is no architecture, or its settings aren't those of the network.
        RuntimeMissing: torch, or a package that the network needs, is not installed.
    """
    known = sorted(path.parent.name for path in _FOLDER.glob("*/network.py"))
    if card.arch not in known:  # a name from a card never becomes a path
        raise CardError(
            f"{card.name}: arch: there is no architecture named {card.arch!r}",
            hint=f"known architectures: {', '.join(known)}",
        )
    try:
        module = importlib.import_module(f"{__name__}.{card.arch}.network")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "dgiqa":
            raise
        raise RuntimeMissing(
            f"the network of {card.name} needs {error.name}, which is not installed",
            hint="pip install 'dgiqa[torch]'",
        ) from error
    try:
        return cast("nn.Module", module.build(card))
    except (TypeError, ValueError) as error:
        raise CardError(f"{card.name}: settings: {card.settings} don't fit {card.arch} ({error})") from error


def of_size(card: ModelCard, paper: Callable[..., nn.Module], mobile: Callable[..., nn.Module]) -> nn.Module:
    """The network that the setting ``size`` chooses, the paper's if it is left out, made with the other settings.

    Raises:
        ValueError: another size.
    """
    settings = dict(card.settings)
    size = settings.pop("size", "paper")
    if size not in ("paper", "mobile"):
        raise ValueError(f"size is paper or mobile, not {size!r}")
    return (mobile if size == "mobile" else paper)(**settings)


def _built_in() -> dict[str, Path]:
    """Full name to path of every built-in card, sorted by name."""
    paths = {f"{path.parent.name}.{path.stem}": path for path in _FOLDER.glob("*/*.toml")}
    return dict(sorted(paths.items()))


def _own_card(path: Path) -> ModelCard:
    if not path.is_file():
        raise ModelNotFound(
            f"there is no model card at {path}",
            hint="give the path of a .toml file, or a name that `dgiqa models` lists",
        )
    return read_card(path.resolve())
