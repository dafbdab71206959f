"""What network each kind of training begins with, and which models it can go on from. Imports no torch."""

from __future__ import annotations

from medgan.bundle import MONAI_PREFIX, ModelCard
from medgan.settings import Restores, TrainKind

NETWORKS = {
    TrainKind.TRANSLATE: "medgan.TranslateNet",
    TrainKind.LABEL_TO_VOLUME: "medgan.LabelNet",
    TrainKind.FROM_NOISE: "medgan.NoiseNet",
    TrainKind.SEGMENT: "monai.networks.nets.UNet",
    TrainKind.AUTOENCODER: "medgan.AutoencoderNet",
    TrainKind.CLASSIFY: "medgan.ClassNet",
}
RESTORING = {
    Restores.NOISE: "medgan.DenoiseNet",
    Restores.BLUR: "medgan.DeblurNet",
    Restores.RESOLUTION: "medgan.SliceNet",
}

OWN_ONLY = (TrainKind.LABEL_TO_VOLUME, TrainKind.FROM_NOISE)
"""Kinds whose networks are fed with more than images, so that none of MONAI's is of use."""


def network_of(kind: TrainKind, restores: Restores = Restores.NOISE) -> str:
    """The network, as cards name it."""
    return RESTORING[restores] if kind is TrainKind.ENHANCE else NETWORKS[kind]


def refusal(card: ModelCard, kind: TrainKind, restores: Restores = Restores.NOISE) -> str:
    """Why a training can not go on from a model, in one sentence; '' where it can."""
    if card.task != kind.value:
        return (
            f"Model '{card.name}' is for the task '{card.task}'; to train '{kind.value}', start from a model of that "
            "task."
        )
    if kind is TrainKind.ENHANCE and card.restores != restores.value:
        return (
            f"Model '{card.name}' restores the {card.restores}, not the {restores.value}; set 'restores' to "
            f"{card.restores}."
        )
    of_monai = card.network.startswith(MONAI_PREFIX) and kind not in OWN_ONLY
    if card.network != network_of(kind, restores) and not of_monai:
        return (
            f"Model '{card.name}' has a network ({card.network}) that can not be trained further here; start from a "
            "model that you trained, or from none."
        )
    return ""
