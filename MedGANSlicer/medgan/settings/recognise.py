"""Settings of recognition."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


class Saliency(Enum):
    """How the reasons of an answer are shown as a volume."""

    NONE = "none"
    GRAD_CAM = "grad-cam"
    OCCLUSION = "occlusion"

    def label(self) -> str:
        return {"none": "None", "grad-cam": "Grad-CAM", "occlusion": "Occlusion (slow)"}[self.value]


@dataclass
class RecogniseSettings(Settings):
    """What a person chooses for recognising one volume."""

    model: str = "recognise"
    """Name of a model that recognises or classifies (``medgan models``), or the path of a bundle folder."""

    saliency: Saliency = Saliency.NONE
    """Also make a map of the places that spoke for an answer, 0 to 1."""

    target: str = ""
    """The answer that the map explains, by its name ("MR FLAIR", "head", a class of one's own); empty: the model's own
    first answer."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""
