"""From a scan to what a trained network of ours wants, as its card says, and the network's answer back on the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import medgan
from medgan.grids import same_grid
from medgan.inference import LARGEST_TILE, ChosenDevice, Normalisation, autocast, fill_not_finite, run_with_fallback
from medgan.models import ModelCard, ModelError, build_network, load_state
from medgan.noise import intensity_range, padding_as_air
from medgan.progress import Progress
from medgan.segmentation.description import HOUNSFIELD
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.synthesis.cards import find
from medgan.volume import LabelMap, Volume

BYTES_PER_VOXEL = {
    "medgan.TranslateNet": 700,
    "medgan.ContrastNet": 700,
    "medgan.LabelNet": 1100,
    "medgan.RenderNet": 450,
    "medgan.AutoencoderNet": 300,
}
"""Measured peak memory for each voxel of a tile (float32), and a third more."""

BYTES_PER_VOXEL_UNKNOWN = 4000


@dataclass
class Run:
    """One run: the model, its network, where it computes, and what it has told the person so far."""

    card: ModelCard
    network: nn.Module
    chosen: ChosenDevice
    memory_limit_bytes: int
    told: list[str]

    def tiles(
        self,
        call: Callable[[nn.Module, Tensor], Tensor],
        array: np.ndarray,
        progress: Progress,
        largest: int = LARGEST_TILE,
    ) -> np.ndarray:
        """The answer to float32 channels (C, D, H, W): an array (C', D, H, W) on the CPU. ``call`` is the network's way
        of taking a tile (1, C, D, H, W). ``largest``: voxels times channels of a tile on a CPU."""

        def make(device: torch.device) -> Callable[[Tensor], Tensor]:
            network = self.network.to(device)

            def predict(tile: Tensor) -> Tensor:
                with autocast(device):
                    return call(network, tile).float()

            return predict

        per_voxel = BYTES_PER_VOXEL.get(self.card.network, BYTES_PER_VOXEL_UNKNOWN)
        result, self.chosen, told = run_with_fallback(
            make, array, per_voxel, self.chosen, self.memory_limit_bytes, progress, channels=len(array), largest=largest
        )
        self.told += told
        return result

    def report(self, task: str, settings: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What every result says of how it was made; plain JSON values."""
        return {
            "task": task,
            "model": self.card.name,
            "model_version": self.card.version,
            "model_sha256": {key: weight.sha256 for key, weight in self.card.weights.items()},
            "settings": dict(settings),
            "seed": settings.get("seed", 0),
            "package_version": medgan.__version__,
            "device": self.chosen.name,
            "device_reason": self.chosen.reason,
            "seconds": round(seconds, 2),
            "messages": list(self.told),
            "synthetic": True,
        }


def opened(model: str, tasks: Sequence[str], verb: str, chosen: ChosenDevice, memory_limit_gb: float) -> Run:
    """The model, ready to run. Raises :class:`ModelError` for one whose task is another."""
    if not model:
        raise ModelError(f"No model was named; 'medgan models' lists them, 'medgan train' makes one that {verb}.")
    card = find(model)
    if card.task not in tasks:
        wanted = " or ".join(f"'{task}'" for task in tasks)
        raise ModelError(f"Model '{card.name}' is for the task '{card.task}'; choose one for {wanted}.")
    if not card.weights:  # a method, no model
        return Run(card, nn.Identity(), chosen, int(memory_limit_gb * 1e9), [])
    key = "faithful" if "faithful" in card.weights else next(iter(card.weights))
    network = build_network(card, load_state(card, key))
    return Run(card, network, chosen, int(memory_limit_gb * 1e9), [])


@dataclass(frozen=True)
class Scan:
    """Float32 channels (C, D, H, W) of 0 to 1 on the working grid; ``normalisations``: of each channel.

    ``broken``: voxels of the source that were no finite numbers.
    """

    channels: np.ndarray
    source: Grid
    working: Grid
    normalisations: tuple[Normalisation, ...]
    broken: np.ndarray

    def back(self, array: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """An array (D, H, W) of the working grid on the grid of the scan."""
        return resampled(array, self.working, self.source, fill)


def prepared(volumes: Sequence[Volume], run: Run) -> Scan:
    """The channels as the network saw them in training: its orientation, spacing and unit."""
    source = Grid(volumes[0].shape, volumes[0].ijk_to_ras)
    working = network_grid(source, run.card)
    channels, normalisations = [], []
    missing = np.zeros(volumes[0].shape, bool)
    for volume in volumes:
        filled, broken = fill_not_finite(volume.array)
        filled = padding_as_air(filled)
        missing |= broken
        normal = normalisation_of(filled, run.card)
        channels.append(np.clip(resampled(normal.apply(filled), source, working), 0.0, 1.0))
        normalisations.append(normal)
    if missing.any():
        run.told.append(f"{int(missing.sum())} voxels were not finite numbers; the model saw values filled in.")
    return Scan(np.stack(channels), source, working, tuple(normalisations), missing)


def network_grid(source: Grid, card: ModelCard) -> Grid:
    """The grid on which the model works. Raises :class:`ModelError` for a card that says none that can be."""
    spacing, orientation = card.details.get("spacing_mm"), card.details.get("orientation")
    try:
        wanted = None if spacing is None else [float(step) for step in spacing]
        if wanted is not None and (len(wanted) != 3 or not min(wanted) > 0):
            raise ValueError
        return working_grid(source, wanted, orientation or None)
    except (TypeError, ValueError):
        raise ModelError(
            f"Model '{card.name}': its spacing {spacing!r} and orientation {orientation!r} describe no grid; "
            "mend its metadata.json."
        ) from None


def normalisation_of(array: np.ndarray, card: ModelCard) -> Normalisation:
    """From the unit of a finite scan to the network's, as the card says."""
    kind = card.details.get("normalise", "range")
    if kind == "hounsfield":
        low, high = (float(number) for number in card.details.get("window", HOUNSFIELD))
    elif kind == "percentiles":
        low, high = (float(number) for number in np.percentile(array.ravel()[:: max(1, array.size // 2_000_000)],
                                                               (0.5, 99.5)))  # fmt: skip
    else:
        low, high = intensity_range(array)
    return Normalisation(low, high if high - low > 1e-6 * max(abs(low), abs(high)) else low + 1.0)


def usual_range(card: ModelCard, key: str) -> Normalisation | None:
    """The intensities that were 0 and 1 in the training volumes; None when the card does not say."""
    pair = card.details.get("ranges", {}).get(key)
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not float(pair[1]) > float(pair[0]):
        return None
    return Normalisation(float(pair[0]), float(pair[1]))


def channels_of(inputs: Mapping[str, Volume | LabelMap], card: ModelCard, count: int, what: str) -> list[Volume]:
    """The volumes "volume", "volume 2", ... Raises ``ValueError`` for another number than the model takes."""
    named = ["volume", *(f"volume {number}" for number in range(2, count + 2))]
    volumes = [found for name in named if isinstance(found := inputs.get(name), Volume)]
    if not volumes:
        raise ValueError(f"{what} needs a scalar volume, given as 'volume'.")
    if len(volumes) != count:
        raise ValueError(
            f"Model '{card.name}' takes {count} channels, {len(volumes)} were given; choose as many volumes."
        )
    for volume in volumes[1:]:
        if not same_grid(volume.shape, volume.ijk_to_ras, volumes[0].shape, volumes[0].ijk_to_ras):
            raise ValueError("The channels of one scan must lie on one grid; resample them onto the first one.")
    return volumes
