"""What every settings dataclass has: bounds, checks, plain JSON and back."""

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
                f"Setting '{name}' must lie between {limit.minimum:.15g} and {limit.maximum:.15g}, not {value:.15g}."
            )
