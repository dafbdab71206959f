"""A volume from a label map, whatever its labels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from medgan.inference import autocast
from medgan.models import ModelError
from medgan.networks.label_to_volume import LabelNet
from medgan.networks.render import MULTIPLE, RenderNet, style_of
from medgan.progress import Progress, part
from medgan.segmentation.grid import Grid, around, resampled
from medgan.settings import SynthesizeSettings
from medgan.synthesis.labels_calibrate import calibrated
from medgan.synthesis.labels_intensities import Intensities, Statistics, intensities_of
from medgan.synthesis.labels_scanner import as_scanned
from medgan.synthesis.labels_shape import moved, random_deformation
from medgan.synthesis.scan import Run, network_grid
from medgan.synthesis.texture import coloured_noise
from medgan.volume import LabelMap, Volume

Call = Callable[[nn.Module, Tensor], Tensor]

LARGEST = 30_000_000
"""Voxels times channels of a tile on a CPU: RenderNet works at half of the resolution, so they may be large."""

MARGIN = 6
"""Voxels around the labels in which the network makes the background."""

SOFT = 0.7
"""Voxels by which labels are smoothed (standard deviation) before the network sees them."""

AIR = 32
"""Side of the piece of background by which all that is farther from the labels goes."""


def from_labels(
    inputs: Mapping[str, Volume | LabelMap], settings: SynthesizeSettings, seed: int, run: Run, progress: Progress
) -> tuple[Volume, LabelMap, dict[str, Any]]:
    """The volume that a seed gives on the grid of ``inputs["labels"]``, its labels (moved, if that was asked for), and
    what is to be said of it.

    Intensities are those that the settings ask for (see medgan.synthesis.labels_intensities); ``inputs["reference"]``
    lies under the labels as they were given. Raises ``ValueError`` for inputs that do not go together.
    """
    labels, reference = inputs.get("labels"), inputs.get("reference")
    if not isinstance(labels, LabelMap):
        raise ValueError("Making a volume from labels needs a label map, given as 'labels'.")
    if not labels.array.any():
        raise ValueError("The label map is empty; it needs at least one label besides the background.")
    look = intensities_of(labels, reference if isinstance(reference, Volume) else None, settings, seed, run)
    said: dict[str, Any] = {"intensity_unit": look.unit, "intensities": look.told()}
    spacing = labels.spacing_mm[::-1]
    if settings.deformation_mm > 0:
        progress(0.0, "Moving the labels")
        rng = np.random.default_rng([seed, 1])
        deformation = random_deformation(labels.shape, spacing, settings.deformation_mm, rng)
        labels, said["folding"] = moved(labels, deformation), deformation.report()
    else:
        labels = LabelMap(labels.array.copy(), labels.ijk_to_ras.copy(), dict(labels.labels))
    result = painted(labels, look, seed, run, part(progress, 0.05, 0.9))
    values, index = indexed(labels, look.statistics)
    wanted = np.array([look.statistics[int(value)] for value in values])
    distributions = {n: look.distributions[int(v)] for n, v in enumerate(values) if int(v) in look.distributions}
    result = np.clip(calibrated(result, index, wanted, distributions), 0.0, None)
    result = as_scanned(result, spacing, settings, seed, look.scale is None or look.scale.low == 0.0)
    if look.scale is not None:
        result = look.scale.invert(result)
    return Volume(result, labels.ijk_to_ras.copy(), {}, "float32"), labels, said


def in_turn(inputs: Mapping[str, Volume | LabelMap], number: int) -> dict[str, Volume | LabelMap]:
    """The inputs with the label map whose turn it is for volume ``number`` (from 0) as "labels"."""
    maps = [inputs[name] for n in range(1, len(inputs) + 1) if (name := f"labels {n}" if n > 1 else "labels") in inputs]
    return {**inputs, **({"labels": maps[number % len(maps)]} if maps else {})}


def painted(labels: LabelMap, look: Intensities, seed: int, run: Run, progress: Progress) -> np.ndarray:
    """The answer of the model on the grid of the labels, in the network's unit."""
    source = Grid(labels.shape, labels.ijk_to_ras)
    working = network_grid(source, run.card)
    edge = look.statistics.get(0, (0.0, 0.0))
    told = condition(labels, look.statistics)
    if isinstance(run.network, RenderNet):
        told = softened(told)
    maps = [resampled(held, source, working, fill) for held, fill in zip(told, edge, strict=True)]
    if isinstance(run.network, RenderNet):
        noise, call = _coloured(working, look, seed)
        answer = _around_body(maps, noise, edge, call, run, progress)
    elif isinstance(run.network, LabelNet):
        noise, call = _white(working, run.network, seed)
        answer = run.tiles(call, np.stack([*maps, noise]), progress)[0]
    else:
        raise ModelError(f"Model '{run.card.name}' has the network {run.card.network}, which takes no label map.")
    return resampled(answer, working, source, edge[0])


def _around_body(
    maps: list[np.ndarray], noise: np.ndarray, edge: tuple[float, float], call: Call, run: Run, progress: Progress
) -> np.ndarray:
    """The network's answer around all that is not background; what is far from it gets noise of the mean and the level
    that the network gives to background alone."""
    box = around((np.abs(maps[0] - edge[0]) > 1e-4) | (np.abs(maps[1] - edge[1]) > 1e-4), MARGIN)
    channels = np.stack([part[box] for part in (*maps, noise)])
    sides = channels.shape[1:]
    # Tiles that start at multiples agree where they overlap; so the last one has to end at one as well.
    if any(side % MULTIPLE for side in sides):
        channels = np.pad(channels, [(0, 0), *((0, -side % MULTIPLE) for side in sides)], mode="edge")
    answer = run.tiles(call, channels, progress, LARGEST)[0][tuple(slice(0, side) for side in sides)]
    if answer.shape == noise.shape:
        return answer
    air = tuple(slice(0, AIR) for _ in range(3))
    alone = np.stack([np.full(noise[air].shape, value, np.float32) for value in edge])
    with torch.inference_mode():
        tile = torch.from_numpy(np.concatenate([alone, noise[air][None]]))[None].to(run.chosen.device)
        far = call(run.network, tile).float()
    whole = noise * np.float32(far.std()) / np.float32(max(float(noise[air].std()), 1e-6)) + np.float32(far.mean())
    whole[box] = answer
    return whole


def condition(labels: LabelMap, statistics: Statistics) -> np.ndarray:
    """(2, D, H, W) mean and standard deviation of the label of each voxel; every label has statistics."""
    values, index = indexed(labels, statistics)
    table = np.array([statistics[int(value)] for value in values], np.float32)
    return np.stack([table[:, 0][index], table[:, 1][index]])


def softened(channels: np.ndarray) -> np.ndarray:
    """Maps without the steps of voxels that belong to one label or the other: a scanner's point spread is wider."""
    return np.stack([ndimage.gaussian_filter(held, SOFT, mode="nearest", radius=2) for held in channels])


def indexed(labels: LabelMap, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """The values of labels in order, and of each voxel the place of its own among them."""
    values = np.array(sorted(statistics))
    kind = np.uint8 if len(values) <= 256 else np.int32
    if values[-1] - values[0] >= 100_000:  # looking a value up in a table is faster than searching
        return values, np.searchsorted(values, labels.array).astype(kind)
    table = np.zeros(values[-1] - values[0] + 1, kind)
    table[values - values[0]] = np.arange(len(values))
    places = labels.array if values[0] == 0 else labels.array.astype(np.int64) - values[0]
    return values, table[places]


def _coloured(working: Grid, look: Intensities, seed: int) -> tuple[np.ndarray, Call]:
    """Noise with the spectrum of the look, and the network's way of taking a tile."""
    noise = coloured_noise(working.shape, look.shares, np.random.default_rng([seed, 2]))
    spacing = np.linalg.norm(working.ijk_to_ras[:3, :3], axis=0)[::-1].copy()
    style = style_of(torch.tensor(look.shares), torch.from_numpy(spacing).float())[None]

    def call(network: nn.Module, tile: Tensor) -> Tensor:
        # Rounding to bfloat16 changes a voxel by about a hundredth of the noise.
        with autocast(tile.device, on_cpu=True):
            answer: Tensor = network(tile[:, :2], tile[:, 2:], style.to(tile))
        return answer

    return noise, call


def _white(working: Grid, network: LabelNet, seed: int) -> tuple[np.ndarray, Call]:
    rng = torch.Generator().manual_seed(seed)
    style = torch.randn(1, network.style_length, generator=rng)
    noise = torch.randn(working.shape, generator=rng).numpy()

    def call(network: nn.Module, tile: Tensor) -> Tensor:
        answer: Tensor = network(tile[:, :2], tile[:, 2:], style.to(tile))
        return answer

    return noise, call
