"""Settings of segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


@dataclass
class SegmentSettings(Settings):
    """What a person chooses for the segmentation of one volume."""

    model: str = "brain-parts"
    """Name of a model in the catalogue (``medgan models``) or the path of a bundle folder."""

    flips: bool = False
    """Also run the network on the mirrored volume, with left and right exchanged in its answer, and take the mean."""

    clean_up: bool = True
    """Give pieces that can not be part of a structure to the next best label."""

    coarse: bool = False
    """Few tissues instead of many structures, where the model has both."""

    uncertainty: bool = False
    """Also make a map of how unsure the model is at each voxel, 0 to 1."""

    spacing_mm: Annotated[float, Bounds(0.0, 20.0)] = 0.0
    """Spacing of the voxels that the network sees; 0: what the model says."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same voxels."""
