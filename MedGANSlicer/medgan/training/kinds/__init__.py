"""What can be trained: one file for each kind."""

from __future__ import annotations

from medgan.models import ModelCard
from medgan.settings import TrainKind, TrainSettings
from medgan.training.kinds.autoencoder import Autoencoder
from medgan.training.kinds.base import Batch, Exported, Facts, Kind
from medgan.training.kinds.classify import Classify
from medgan.training.kinds.enhance import Enhance
from medgan.training.kinds.from_noise import FromNoise
from medgan.training.kinds.label_to_volume import LabelToVolume
from medgan.training.kinds.segment import Segment
from medgan.training.kinds.translate import Translate
from medgan.training.kinds.unpaired import Unpaired

__all__ = ["Batch", "Exported", "Facts", "Kind", "make_kind"]

_KINDS = {
    TrainKind.ENHANCE: Enhance,
    TrainKind.LABEL_TO_VOLUME: LabelToVolume,
    TrainKind.FROM_NOISE: FromNoise,
    TrainKind.SEGMENT: Segment,
    TrainKind.AUTOENCODER: Autoencoder,
    TrainKind.CLASSIFY: Classify,
}


def make_kind(settings: TrainSettings, facts: Facts, start: ModelCard | None = None) -> Kind:
    """The kind that the settings name, with networks for this data: untrained (seed torch before), or a model's.

    Raises ``ValueError`` with one sentence for settings, data and model that do not go together.
    """
    if settings.kind is TrainKind.TRANSLATE:
        return (Translate if facts.paired else Unpaired).make(settings, facts, start)
    return _KINDS[settings.kind].make(settings, facts, start)  # type: ignore[attr-defined, no-any-return]
