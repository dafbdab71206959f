"""What can make volumes: models, and a method that needs none. Imports without torch."""

from __future__ import annotations

from pathlib import Path

import medgan
from medgan import models
from medgan.bundle import ModelCard
from medgan.settings import SynthesizeSettings
from medgan.settings.synthesize import SETTINGS_FOR

PAINTER = "label-to-volume"
"""The model that makes a volume of the label map of a model of shapes, unless that one's card names another
("painter")."""

VARIATIONS = ModelCard(
    name="variations",
    folder=Path(),
    network="",
    network_arguments={},
    weights={},
    version=medgan.__version__,
    title="Variations of a volume",
    task="variations",
    modality="any",
    description="Others like the loaded volume: what is large stays, what is fine is put together anew from patches "
    "of the volume itself. Learns from that volume alone, needs no weights and no training.",
    licence="Apache-2.0",
    intended_use="Research: more and other texture for training and testing. Not a medical device, not for diagnosis.",
    limits="Fine structures are moved and exchanged: a variation is no second scan of the patient. It shows nothing "
    "that the volume does not hold somewhere, and it does not make a volume anonymous.",
)
"""The card of the method that :mod:`medgan.synthesis.variations` is."""


SHAPES = "medgan.ShapeNet"
"""A model of shapes has its label maps painted by another model."""

CONTRASTS = "medgan.ContrastNet"
"""A model of contrasts makes one of several."""

_WAYS: dict[str, tuple[str, ...]] = {
    "label-to-volume": ("models from label maps",),
    "from-noise": ("models from noise",),
    "variations": ("variations",),
}


def heeded(card: ModelCard) -> set[str]:
    """The settings in ``SETTINGS_FOR`` that a model goes by."""
    ways = _WAYS.get(card.task, ())
    if card.network == SHAPES:
        ways += ("models from label maps",)
    if card.network == CONTRASTS:
        ways += ("translation",)
    return {name for way in ways for name in SETTINGS_FOR[way]}


def idle(card: ModelCard, settings: SynthesizeSettings) -> dict[str, str]:
    """Settings that somebody has made and that a model does not go by, each with a sentence."""
    found: dict[str, str] = {}
    for way, names in SETTINGS_FOR.items():
        for name in names:
            if name not in heeded(card) and getattr(settings, name) != getattr(SynthesizeSettings, name):
                instead = "; set 'contrast'" if name == "target" and "contrast" in heeded(card) else ""
                found.setdefault(name, f"Setting '{name}' is for {way} and has no effect on '{card.name}'{instead}.")
    return found


def find(model: str | Path) -> ModelCard:
    """The card of a model or method that is named. Raises :class:`medgan.models.ModelError`."""
    return VARIATIONS if str(model) == VARIATIONS.name else models.find(model)
