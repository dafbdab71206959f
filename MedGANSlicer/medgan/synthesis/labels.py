"""A volume from a label map, whatever its labels are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.inference import Normalisation, fill_not_finite
from medgan.models import ModelError
from medgan.networks.label_to_volume import LabelNet
from medgan.progress import Progress
from medgan.segmentation.grid import Grid, resampled
from medgan.settings import Contrast, SynthesizeSettings
from medgan.synthesis.scan import Run, network_grid, normalisation_of, usual_range
from medgan.training.data_grid import grid_difference
from medgan.volume import LabelMap, Volume

MEANS = (0.12, 0.9)
SPREADS = (0.01, 0.06)
"""Intensities that a label gets when nobody says which it has."""

NAMED = 5
"""Labels that a message names."""

Statistics = dict[int, tuple[float, float]]
"""Mean and standard deviation of each label value, in the network's unit."""


def from_labels(
    inputs: Mapping[str, Volume | LabelMap], settings: SynthesizeSettings, seed: int, run: Run, progress: Progress
) -> tuple[Volume, dict[str, Any]]:
    """The volume that a seed gives on the grid of ``inputs["labels"]``, and what its intensities mean.

    They are measured under the labels of ``inputs["reference"]`` if there is one, else those of the model's training,
    else random. Raises ``ValueError`` for inputs that do not go together.
    """
    labels, reference = inputs.get("labels"), inputs.get("reference")
    if not isinstance(labels, LabelMap):
        raise ValueError("Making a volume from labels needs a label map, given as 'labels'.")
    if not isinstance(run.network, LabelNet):
        raise ModelError(f"Model '{run.card.name}' has the network {run.card.network}, which takes no label map.")
    values = [int(value) for value in np.unique(labels.array)]
    if values == [0]:
        raise ValueError("The label map is empty; it needs at least one label besides the background.")
    scale = usual_range(run.card, "image")
    unit = "typical of the volumes that the model was trained on" if scale else "0 is the darkest, 1 the brightest"
    if isinstance(reference, Volume):
        statistics, scale = measured(labels, reference, run)
        unit = "that of the reference"
    else:
        statistics = chosen(values, labels, settings.contrast, seed, run)
    source = Grid(labels.shape, labels.ijk_to_ras)
    working = network_grid(source, run.card)
    condition = _condition(labels.array, values, statistics)
    edge = statistics.get(0, (0.0, 0.0))
    maps = [resampled(part, source, working, fill) for part, fill in zip(condition, edge, strict=True)]
    rng = torch.Generator().manual_seed(seed)
    style = torch.randn(1, run.network.style_length, generator=rng)
    noise = torch.randn(working.shape, generator=rng).numpy()

    def call(network: nn.Module, tile: Tensor) -> Tensor:
        answer: Tensor = network(tile[:, :2], tile[:, 2:], style.to(tile))
        return answer

    answer = run.tiles(call, np.stack([*maps, noise]), progress)[0]
    result = np.clip(resampled(answer, working, source, edge[0]), 0.0, None)
    if scale is not None:
        result = scale.invert(result)
    volume = Volume(result, labels.ijk_to_ras.copy(), {}, "float32")
    told = {str(value): {"mean": round(mean, 5), "sd": round(sd, 5)} for value, (mean, sd) in statistics.items()}
    return volume, {"intensity_unit": unit, "intensities": told}


def measured(labels: LabelMap, reference: Volume, run: Run) -> tuple[Statistics, Normalisation]:
    """What each label has in a reference volume on the same grid, and the way back to the reference's unit."""
    differs = grid_difference(reference.shape, reference.ijk_to_ras, labels.shape, labels.ijk_to_ras)
    if differs:
        raise ValueError(f"Reference and label map lie on two grids ({differs}); resample one of them onto the other.")
    filled, _ = fill_not_finite(reference.array)
    normal = normalisation_of(filled, run.card)
    image = np.clip(normal.apply(filled), 0.0, 1.0)
    values, index = np.unique(labels.array, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index)
    mean = np.bincount(index, weights=image.reshape(-1)) / count
    square = np.bincount(index, weights=(image.reshape(-1) - mean[index]) ** 2) / count
    return {int(v): (float(m), float(s)) for v, m, s in zip(values, mean, np.sqrt(square), strict=True)}, normal


def chosen(values: list[int], labels: LabelMap, contrast: Contrast, seed: int, run: Run) -> Statistics:
    """What each label usually has, from the card; random numbers, the same for seed and label, for the others."""
    known: Statistics = {}
    if contrast is Contrast.USUAL:
        for entry in run.card.details.get("intensities", ()):
            known[int(entry["value"])] = (float(entry["mean"]), float(entry["sd"]))
    result, new = {}, []
    for value in values:
        if value in known:
            result[value] = known[value]
        elif value == 0:
            result[value] = (0.0, SPREADS[0])
        else:
            rng = np.random.default_rng([seed, abs(value), int(value < 0)])
            result[value] = (float(rng.uniform(*MEANS)), float(rng.uniform(*SPREADS)))
            label = labels.labels.get(value)
            new.append(label.name if label and label.name else str(value))
    if new and contrast is Contrast.USUAL:
        more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
        run.told.append(
            f"The model has not seen the labels {', '.join(new[:NAMED])}{more}; they got random intensities, "
            "a reference volume would give them true ones."
        )
    return result


def _condition(array: np.ndarray, values: list[int], statistics: Statistics) -> np.ndarray:
    """(2, D, H, W) mean and standard deviation of the label of each voxel."""
    table = np.array([statistics[value] for value in values], np.float32)
    index = np.searchsorted(np.array(values), array)
    return np.stack([table[:, 0][index], table[:, 1][index]])
