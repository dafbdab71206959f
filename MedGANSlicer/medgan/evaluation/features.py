"""Volumes as points in the space of the shipped feature network, in which sets of volumes are compared.

A volume is brought to 0..1, cut into overlapping crops of 32 voxels a side at its own sampling, and each crop becomes
128 numbers (see the card of the bundle "features"); the volume is the mean of its crops. Each number has the standard
deviation 1 over the crops of the training volumes, so a distance of 1 is small and one of 10 is large.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medgan.progress import Progress, silent
from medgan.volume import Volume

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medgan.inference import ChosenDevice

MODEL = "features"
SIDE = 32
"""Side of a crop in voxels, as in training; a shorter axis is reflected."""

MOST_CROPS = 64
"""Crops of one volume at most, spread over it."""

BATCH = 8
_CT_RANGE = (-1024.0, 3071.0)


def features(volumes: Iterable[Volume], progress: Progress = silent) -> np.ndarray:
    """(N, 128) float64, one row a volume; the same volume gives the same row, whatever its neighbours.

    A factor on the intensity does not matter. Raises ``ModelError`` when the bundle is missing or changed,
    ``ValueError`` for a volume that is mostly not finite, ``Cancelled`` when progress says so.
    """
    held = list(volumes) if not isinstance(volumes, Sequence) else volumes
    rows = []
    for number, volume in enumerate(held):
        progress(number / len(held), f"Features of volume {number + 1} of {len(held)}")
        rows.append(crop_features(volume).mean(axis=0))
    progress(1.0, "Features")
    return np.stack(rows) if rows else np.zeros((0, 128))


def crop_features(volume: Volume) -> np.ndarray:
    """(n, 128) float64: one row for each of the volume's crops, 64 at most."""
    import torch

    from medgan.inference import run_or_on_cpu

    held, chosen = _network()

    def rows(device: torch.device) -> np.ndarray:
        network = held.to(device)
        with torch.inference_mode():
            seen = (torch.from_numpy(batch)[:, None].to(device) for batch in _batches(normalised(volume.array)))
            return np.concatenate([network(batch).cpu().double().numpy() for batch in seen])

    return run_or_on_cpu(rows, chosen)[0]


def normalised(array: np.ndarray) -> np.ndarray:
    """The array in 0..1 as the network was trained: robust darkest 0, robust brightest 1, NaN filled, float32."""
    from medgan.inference import fill_not_finite, robust_normalisation

    filled = fill_not_finite(array)[0]
    if filled.min() < -500.0:  # Hounsfield units: what lies outside them is metal or padding
        filled = np.clip(filled, *_CT_RANGE)
    return np.clip(robust_normalisation(filled).apply(filled), 0.0, 1.5)


def crops(array: np.ndarray) -> list[np.ndarray]:
    """The overlapping crops that stand for an array in 0..1: those of a regular grid that are not mostly background.

    Judged by the mean of a crop, which noise and blur hardly change; at most ``MOST_CROPS``, spread over the array.
    """
    short = [(0, max(0, SIDE - side)) for side in array.shape]
    if any(after for _, after in short):
        array = np.pad(array, short, mode="symmetric")
    corners = np.stack(np.meshgrid(*(_starts(side) for side in array.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    found = [array[k : k + SIDE, j : j + SIDE, i : i + SIDE] for k, j, i in corners]
    mean = np.array([float(crop.mean()) for crop in found])
    darkest, full = float(mean.min()), float(np.percentile(mean, 90))
    kept = np.flatnonzero(mean >= darkest + 0.4 * (full - darkest)) if darkest < 0.5 * full else np.arange(len(found))
    chosen = kept[np.unique(np.linspace(0, len(kept) - 1, min(MOST_CROPS, len(kept))).round().astype(int))]
    return [found[number] for number in chosen]


def _starts(side: int) -> np.ndarray:
    """Where crops begin along an axis: half a crop apart or less, from the first voxel to the last."""
    count = 1 + int(np.ceil((side - SIDE) / (SIDE / 2)))
    return np.linspace(0, side - SIDE, count).round().astype(int)


def _batches(array: np.ndarray) -> Iterator[np.ndarray]:
    found = crops(array)
    for first in range(0, len(found), BATCH):
        yield np.ascontiguousarray(np.stack(found[first : first + BATCH]), dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _network() -> tuple[nn.Module, ChosenDevice]:
    """The shipped network, and the best device for it; held, because volumes come one at a time."""
    from medgan.inference import choose_device
    from medgan.models import build_network, find, load_state
    from medgan.settings import Device

    card = find(MODEL)
    state = {name: tensor.float() for name, tensor in load_state(card, "faithful").items()}
    return build_network(card, state), choose_device(Device.AUTO)
