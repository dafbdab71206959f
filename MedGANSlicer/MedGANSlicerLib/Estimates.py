"""How long a run will take on this machine: from what earlier runs took, else a rough guess."""

from __future__ import annotations

import os

from medgan.settings import EnhanceSettings

START_S = 8.0
"""Starting the child process and loading PyTorch."""

_GUESS_PER_CORE = 25_000.0
_MOST_CORES = 8


def settingsKey(model: str, device: str, uncertainty: bool = False) -> str:
    """Under which the speed of a model or a chain on a device is kept in the application's settings."""
    kind = "/uncertainty" if uncertainty else ""
    return f"MedGAN/voxelsPerSecond/{model.replace('/', '_')}/{device}{kind}"


def passes(settings: EnhanceSettings, varied: bool) -> int:
    """How often the models work on the volume: for an uncertainty map also on its three mirror images.

    ``varied``: whether a model has weights of other characters, with which they then work too.
    """
    if not settings.uncertainty or settings.strength == 0.0:
        return 1
    return 3 + (len({settings.character, 0.0, 1.0}) if varied else 1)


def guessedSpeed(runs: int = 1) -> float:
    """Voxels of the result a second on this machine's processor, for so many runs of a model; a mere guess."""
    return _GUESS_PER_CORE * min(os.cpu_count() or 1, _MOST_CORES) / runs


def seconds(voxels: int, speed: float) -> float:
    return START_S + voxels / max(speed, 1.0)


def timeText(duration_s: float) -> str:
    """A duration as a person says it: "20 s", "3 min", "2 h 10 min"."""
    if duration_s < 90:
        return f"{max(1, round(duration_s)) if duration_s < 10 else round(duration_s / 5) * 5} s"
    minutes = round(duration_s / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def secondsLeft(fraction: float, elapsed_s: float) -> float | None:
    """Time to go from the share done; None while that says nothing yet."""
    if fraction < 0.05 or elapsed_s < 2:
        return None
    return elapsed_s * (1 - fraction) / fraction
