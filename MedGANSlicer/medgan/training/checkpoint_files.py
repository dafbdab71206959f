"""The names of a run's checkpoints, and whether there is one. Imports without torch."""

from __future__ import annotations

from pathlib import Path

NAME, PREVIOUS, TEMPORARY = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.tmp"


def has_checkpoint(folder: Path) -> bool:
    """Whether a training can go on from what is in the folder: for a moment, only the checkpoint before is there."""
    return any((folder / name).is_file() for name in (NAME, PREVIOUS))
