"""Every settings dataclass of the engine. Imports without torch, so that menus fill before it is installed.

A settings object is the parameter pack of the panel, the ``settings`` entry of ``job.json``, the record
beside a checkpoint and the provenance on a result. Bounds stand in ``Annotated`` metadata: the objects
check themselves with them, and the Slicer side turns them into the ranges of its widgets.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """The closed range a number must lie in."""

    minimum: float
    maximum: float


class Device(Enum):
    """Where the network runs. AUTO takes a CUDA GPU, then an Apple GPU, then the CPU."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"

    def label(self) -> str:
        return {"auto": "Automatic", "cuda": "NVIDIA GPU", "mps": "Apple GPU", "cpu": "CPU"}[self.value]


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


class Settings:
    """Base of the settings dataclasses: checks itself, turns into plain JSON and back."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ``ValueError`` naming the first field that is not what it should be."""
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            _check_field(field.name, getattr(self, field.name), hints[field.name])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: enums as their value, everything else as it is."""
        plain = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: value.value if isinstance(value, Enum) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Settings:
        """The object that ``to_dict`` described. Raises ``ValueError`` for an unknown field."""
        hints = typing.get_type_hints(cls)
        unknown = sorted(set(plain) - set(hints))
        if unknown:
            known = ", ".join(hints)
            raise ValueError(f"Unknown setting {', '.join(unknown)} for {cls.__name__}; it has {known}.")
        kinds = {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Enum)}
        return cls(**{name: kinds[name](value) if name in kinds else value for name, value in plain.items()})


def _check_field(name: str, value: Any, hint: Any) -> None:
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    limits = [m for m in typing.get_args(hint)[1:] if isinstance(m, Bounds)]
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (kind in (int, float) and isinstance(value, bool)):
        raise ValueError(f"Setting '{name}' must be {kind.__name__}, not {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Setting '{name}' must be a finite number, not {value!r}.")
    for limit in limits:
        if not limit.minimum <= value <= limit.maximum:
            raise ValueError(
                f"Setting '{name}' must lie between {limit.minimum:g} and {limit.maximum:g}, not {value:g}."
            )


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


SETTINGS: dict[str, type[Settings]] = {"enhance": EnhanceSettings}
"""Settings class of each task, by the task's name."""
