"""Settings of the map of anomalies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


@dataclass
class AnomalySettings(Settings):
    """What a person chooses for a map of anomalies and its regions."""

    model: str = "anomaly"
    """Name of a model in the catalogue (an own one: ``medgan train autoencoder DATA``), or its bundle folder."""

    threshold: Annotated[float, Bounds(0.0, 1000.0)] = 0.0
    """Value of the map from which on a voxel belongs to a region; 0: what the model says."""

    smallest_ml: Annotated[float, Bounds(0.0, 1000.0)] = 0.05
    """Smaller regions are left out."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""
