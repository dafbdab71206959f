"""Which models a person can choose: every one that there is, and the shipped ones one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medgan import models
from medgan.bundle import RESTORES, ModelCard

JOINT = "+"

SHIPPED_CHAINS = (("noise", "resolution"), ("noise", "blur"), ("noise", "blur", "resolution"))
"""What the chains that are offered restore, in the order of execution."""


def choices(cards: Mapping[str, ModelCard]) -> dict[str, tuple[ModelCard, ...]]:
    """The models that run one after the other, by the text that the setting ``model`` has for them."""
    offered: dict[str, tuple[ModelCard, ...]] = {name: (card,) for name, card in cards.items()}
    shipped = [card for card in cards.values() if isShipped(card)]
    shipped.sort(key=lambda card: RESTORES.index(card.restores))
    offered = {**{card.name: (card,) for card in shipped}, **offered}
    for chain in SHIPPED_CHAINS:
        parts = [next((card for card in shipped if card.restores == each), None) for each in chain]
        found = tuple(card for card in parts if card is not None)
        if len(found) == len(chain):
            offered[nameOf(found)] = found
    return offered


def isShipped(card: ModelCard) -> bool:
    """Whether a model came with the extension."""
    return card.folder.parent == Path(models.SHIPPED).resolve()  # a card's folder is resolved


def nameOf(cards: tuple[ModelCard, ...] | list[ModelCard]) -> str:
    """The text of the setting ``model`` for these models, in the order in which they run."""
    return JOINT.join(card.name for card in inOrder(cards))


def cardsOf(text: str, cards: Mapping[str, ModelCard]) -> tuple[ModelCard, ...]:
    """The models that a text of the setting names, in the order in which they run; none if one is missing."""
    if text in cards:
        return (cards[text],)
    found = [cards.get(part.strip()) for part in text.split(JOINT)]
    return inOrder([card for card in found if card is not None]) if None not in found else ()


def inOrder(cards: tuple[ModelCard, ...] | list[ModelCard]) -> tuple[ModelCard, ...]:
    return tuple(sorted(cards, key=lambda card: RESTORES.index(card.restores)))
