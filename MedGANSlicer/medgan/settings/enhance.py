"""Settings of enhancement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


class Axis(Enum):
    """Along which voxel axis super-resolution works. AUTO takes the coarsest, ALL doubles all three."""

    AUTO = "auto"
    I = "i"  # noqa: E741
    J = "j"
    K = "k"
    ALL = "all"

    def label(self) -> str:
        names = {"auto": "Automatic (coarsest)", "i": "First (i)", "j": "Second (j)", "k": "Slices (k)"}
        return names.get(self.value, "All three")


class SliceProfile(Enum):
    """What a slice averages along its normal: a sharp-edged slab, or a Gaussian whose full width at half maximum is
    the slice thickness."""

    BOXCAR = "boxcar"
    GAUSSIAN = "gaussian"

    def label(self) -> str:
        return {"boxcar": "Slab", "gaussian": "Gaussian"}[self.value]


SETTINGS_FOR = {"blur": ("blur_sigma",), "resolution": ("axis", "ratio", "slice_profile", "slice_gap_mm")}
"""Settings that only models which restore this heed."""


@dataclass
class EnhanceSettings(Settings):
    """What a person chooses for the enhancement of one volume."""

    model: str = "denoise"
    """Name of a model in the catalogue (``medgan models``), the path of a bundle folder, or several joined by ``+``
    (``denoise+superres``); they run in the order noise, blur, resolution, whatever the order they are named in."""

    strength: Annotated[float, Bounds(0.0, 1.0)] = 1.0
    """Share of the change that is applied: 0 returns the input exactly, 1 is the full result."""

    character: Annotated[float, Bounds(0.0, 1.0)] = 0.2
    """0: most faithful (lowest error). 1: most natural texture (adversarial weights)."""

    noise_sigma: Annotated[float, Bounds(0.0, 1e9)] = 0.0
    """Standard deviation of the noise in the unit of the input; 0 estimates it."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same voxels."""

    axis: Axis = Axis.AUTO
    """Super-resolution: the voxel axis along which the volume is coarse."""

    ratio: Annotated[float, Bounds(0.0, 8.0)] = 0.0
    """Super-resolution: new voxels for each old one along the axis, 1.2 to 8; 0 makes the voxels isotropic."""

    slice_profile: SliceProfile = SliceProfile.BOXCAR
    """Super-resolution: how a slice averages along its normal."""

    slice_gap_mm: Annotated[float, Bounds(0.0, 100.0)] = 0.0
    """Super-resolution: unmeasured distance between neighbouring slices; slice thickness is spacing minus gap."""

    blur_sigma: Annotated[float, Bounds(0.0, 3.0)] = 0.0
    """Deblurring: standard deviation of the blur in voxels; 0 estimates it."""

    uncertainty: bool = False
    """Also make a map of how far the model disagrees with itself (mirrored volumes, both sets of weights)."""

    fit_minutes: Annotated[float, Bounds(0.0, 600.0)] = 0.0
    """Minutes spent to fit the model to this volume before it is used (super-resolution, deblurring); 0: none."""

    fit_from_scratch: bool = False
    """Fit an untrained network instead of the model's weights."""
