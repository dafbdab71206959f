"""The checkpoint of a run: written so that there is a whole one at every moment, read so that a torn one is noticed.

A new one is written beside the old under a temporary name, forced to the disk, and only then takes the name; the one
before stays as ``checkpoint.previous.pt``. The file is an ordinary ``torch.save`` of tensors and plain values.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from medgan.training.checkpoint_files import NAME, PREVIOUS, TEMPORARY


class CheckpointError(ValueError):
    """No checkpoint of the folder can be read, with the reason in one sentence."""


def write(state: dict[str, Any], folder: Path) -> None:
    """Make ``state`` the folder's checkpoint. Raises ``OSError`` and leaves the checkpoints that are there if the disk
    is full or can not be written."""
    temporary = folder / TEMPORARY
    try:
        save_whole(state, temporary)
        if (folder / NAME).exists():
            os.replace(folder / NAME, folder / PREVIOUS)
        os.replace(temporary, folder / NAME)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _force_names(folder)


def save_whole(state: dict[str, Any], path: Path) -> None:
    """``torch.save`` that is on the disk when it returns. Raises ``OSError``."""
    with open(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's own words for a write that failed
            raise OSError(f"{path.name} could not be written") from error
        file.flush()
        os.fsync(file.fileno())


def _force_names(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder can not be opened
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def read(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole checkpoint, on the CPU (None where there is none yet), and sentences for the person.

    Raises :class:`CheckpointError` if there are some and none can be read.
    """
    told = []
    there = [folder / name for name in (NAME, PREVIOUS) if (folder / name).exists()]
    for path in there:
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not look at the check sums
                    raise zipfile.BadZipFile("a check sum is wrong")
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not isinstance(state.get("step"), int):
                raise ValueError("it is no checkpoint of a training")
        except MemoryError:
            raise
        except Exception as error:
            told.append(f"Checkpoint {path.name} is damaged and was not used ({str(error).splitlines()[0][:120]}).")
            continue
        return state, told
    if there:
        raise CheckpointError(
            f"No checkpoint in {folder} can be read: both may be damaged. Choose another folder, or remove this one."
        )
    return None, told
