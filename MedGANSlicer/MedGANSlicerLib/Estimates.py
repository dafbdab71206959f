"""How long a run will take on this machine: from what earlier runs took, else a rough guess."""

from __future__ import annotations

import os

START_S = 8.0
"""Starting the child process and loading PyTorch."""

_GUESS_PER_CORE = 25_000.0
_MOST_CORES = 8
_UNCERTAINTY_PASSES = 4


def settingsKey(model: str, device: str, uncertainty: bool = False) -> str:
    """Under which the speed of a model or a chain on a device is kept in the application's settings."""
    kind = "/uncertainty" if uncertainty else ""
    return f"MedGAN/voxelsPerSecond/{model.replace('/', '_')}/{device}{kind}"


def guessedSpeed(steps: int = 1, uncertainty: bool = False) -> float:
    """Voxels of the result a second on this machine's processor, for a chain of so many models; a mere guess."""
    passes = steps * (_UNCERTAINTY_PASSES if uncertainty else 1)
    return _GUESS_PER_CORE * min(os.cpu_count() or 1, _MOST_CORES) / passes


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
