"""A head through the network that restores what is healthy: the map of anomalies and the restored scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from medgan.anomaly_mirror import reflected, symmetry_plane
from medgan.anomaly_slices import Scale, at, scale_of
from medgan.inference import check_room, fill_not_finite, run_or_on_cpu
from medgan.networks.healthy import CONTEXT, SPACING_MM, STRIDE, HealthyNet
from medgan.progress import Progress, part
from medgan.segmentation.grid import Grid, around, working_grid
from medgan.segmentation.grid import resampled as on_grid
from medgan.synthesis.scan import Run
from medgan.volume import Volume

BYTES_OF_A_PIXEL, BYTES_OF_A_VOXEL = 6000, 60
"""What the network needs for a pixel of the slices at hand, and the rest for a voxel of the working grid (measured)."""

SLICES = 4
"""Slices that go through the network together."""

MARGIN_MM = 12.0
"""Of what is looked at around the brain."""

LEAST_BRAIN_ML = 150.0
"""With less found the scan is hardly a head."""

SMOOTHING_MM = 1.2
"""Standard deviation of the Gaussian that smooths the map: single pixels are noise."""


@dataclass
class Found:
    """On the grid of the scan: the map (0..1), the restored scan in its unit, where the brain is (0..1), which voxels
    were no finite numbers. ``brain_ml`` 0: hardly any brain was found."""

    anomaly: np.ndarray
    restored: np.ndarray
    brain: np.ndarray
    broken: np.ndarray
    brain_ml: float


@dataclass
class Head:
    """What the network sees of a scan, on voxels of 1.5 mm with the axes S, A, R (D, H, W): the brain and what is about
    it, the same from the other side, and where the brain is (bool)."""

    slices: np.ndarray
    other: np.ndarray
    inside: np.ndarray
    scale: Scale
    source: Grid
    working: Grid

    def back(self, array: np.ndarray) -> np.ndarray:
        """On the grid of the scan, 0 outside."""
        return on_grid(array, self.working, self.source)


def mapped(volume: Volume, work: Run, progress: Progress) -> Found:
    """The map of one scan. Raises ``ValueError`` for a damaged one, ``MemoryRefused`` for a too large one."""
    array, broken = fill_not_finite(volume.array)
    if broken.any():
        work.told.append(f"{int(broken.sum())} voxels were not finite numbers; the model saw values filled in.")
    head = looked_at(volume.like(array, "float32"), work, part(progress, 0.0, 0.3))
    brain_ml = float(head.inside.sum()) * head.working.voxel_ml
    if brain_ml < LEAST_BRAIN_ML:
        work.told.append(
            f"Only {brain_ml:.0f} ml look like a brain, so this is hardly an MR scan of a whole head; the model was "
            "trained on nothing else, so its map means little here."
        )
    answer = through(head.slices, head.other, work, part(progress, 0.3, 0.95), call=both_ways)
    progress(0.96, "Bringing the map onto the grid of the scan")
    score, healthy, where = answer
    where = np.where(ndimage.binary_dilation(head.inside, iterations=2), where, 0.0)
    soft = np.clip(head.back(where), 0.0, 1.0)
    restored = np.where(soft > 0, soft * head.scale.invert(head.back(healthy)) + (1.0 - soft) * array, array)
    score = np.where(broken, 0.0, np.clip(head.back(smoothed(score * (where > 0.5))), 0.0, 1.0))
    brain_ml = brain_ml if brain_ml >= LEAST_BRAIN_ML else 0.0
    return Found(score.astype(np.float32), restored.astype(np.float32), soft, broken, brain_ml)


def looked_at(volume: Volume, work: Run, progress: Progress) -> Head:
    """The part of a finite scan with the brain. Raises ``MemoryRefused``."""
    source = Grid(volume.shape, volume.ijk_to_ras)
    working = working_grid(source, (SPACING_MM,) * 3, "RAS")
    _check_room(working, work)
    image = on_grid(volume.array, source, working)
    progress(0.05, "Looking for the brain")
    brain = brain_of(image, work, part(progress, 0.05, 0.85))
    box = around(brain, math.ceil(MARGIN_MM / SPACING_MM))
    scale = scale_of(image, brain)
    slices, inside = scale.apply(image[box]), brain[box]
    progress(0.88, "Looking for the plane of symmetry")
    other = reflected(slices, symmetry_plane(slices, inside, SPACING_MM))
    return Head(slices, other, inside, scale, source, working.box(box))


def smoothed(score: np.ndarray) -> np.ndarray:
    """The map without single pixels."""
    return np.asarray(ndimage.gaussian_filter(score, SMOOTHING_MM / SPACING_MM))


def brain_of(image: np.ndarray, work: Run, progress: Progress) -> np.ndarray:
    """Where the brain is (bool) in a scan on the working grid: every third slice is asked, and the brightness of what
    was found once more as the measure."""
    inside = None
    for look in range(2):
        step = 3 if len(image) > 12 else 1
        slices = scale_of(image, inside).apply(image)
        asked = np.arange(0, len(slices), step)
        said = through(slices, slices, work, part(progress, look / 2, (look + 1) / 2), asked)[2]
        whole = on_lines(said, asked, len(slices))
        inside = largest_piece(whole > 0.5)
        if inside.sum() * SPACING_MM**3 / 1000.0 < LEAST_BRAIN_ML:
            break
    assert inside is not None
    return inside


def on_lines(said: np.ndarray, asked: np.ndarray, length: int) -> np.ndarray:
    """Slices between those that were asked, linear."""
    place = np.interp(np.arange(length), asked, np.arange(len(asked)))
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(asked) - 1)
    share = (place - low).astype(np.float32)[:, None, None]
    return np.asarray((1.0 - share) * said[low] + share * said[high])


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece without its thin bridges to others, and without holes."""
    core = ndimage.binary_erosion(mask)
    parts, count = ndimage.label(core)
    if not count:
        return mask
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_dilation(parts == largest, iterations=2) & mask))


def through(
    slices: np.ndarray,
    other: np.ndarray,
    work: Run,
    progress: Progress,
    asked: np.ndarray | None = None,
    call: Callable[[HealthyNet, torch.Tensor], torch.Tensor] = HealthyNet.__call__,
) -> np.ndarray:
    """(3, n, H, W) float32: what the network says of the slices that are asked (all unless told): probability of an
    anomaly, restored slice, probability of the brain. ``call``: another way of asking the network."""
    asked = np.arange(len(slices)) if asked is None else asked
    answer = np.zeros((3, len(asked), *slices.shape[1:]), np.float32)
    start = 0
    while start < len(asked):
        these = asked[start : start + SLICES]
        progress(start / len(asked), f"Slice {start + 1} of {len(asked)}")
        seen = np.stack([*(at(slices, these + step) for step in CONTEXT), at(other, these)], axis=1)

        def ask(device: torch.device, seen: np.ndarray = seen) -> np.ndarray:
            network = work.network.to(device)
            assert isinstance(network, HealthyNet)
            with torch.inference_mode():
                return call(network, padded(torch.from_numpy(seen).to(device))).float().cpu().numpy()

        said, work.chosen, told = run_or_on_cpu(ask, work.chosen)
        work.told += told
        answer[:, start : start + len(these)] = said.transpose(1, 0, 2, 3)[:, :, : seen.shape[2], : seen.shape[3]]
        start += len(these)
    return answer


def both_ways(network: HealthyNet, seen: torch.Tensor) -> torch.Tensor:
    """The mean of the answers to the slices as they are and mirrored left to right."""
    return 0.5 * (network(seen) + network(seen.flip(3)).flip(3))


def padded(seen: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) with its far sides extended to multiples of what the network takes, two at least."""
    pads = [n for side in reversed(seen.shape[2:]) for n in (0, max(2 * STRIDE, side + -side % STRIDE) - side)]
    return F.pad(seen, pads, mode="replicate") if any(pads) else seen


def _check_room(working: Grid, work: Run) -> None:
    depth, height, width = working.shape
    needed = math.prod(working.shape) * BYTES_OF_A_VOXEL + SLICES * (height + 16) * (width + 16) * BYTES_OF_A_PIXEL
    check_room(needed, work.memory_limit_bytes, f"The scan, {width} x {height} x {depth} voxels at 1.5 mm,")
