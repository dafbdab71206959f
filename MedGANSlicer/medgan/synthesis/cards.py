"""What can make volumes: models, and a method that needs none. Imports without torch."""

from __future__ import annotations

from pathlib import Path

import medgan
from medgan import models
from medgan.bundle import ModelCard

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


def find(model: str | Path) -> ModelCard:
    """The card of a model or method that is named. Raises :class:`medgan.models.ModelError`."""
    return VARIATIONS if str(model) == VARIATIONS.name else models.find(model)
