"""Taking away the thickness of slices: more slices along one axis, or twice the voxels along all three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from medgan.gridplan import AXES, LARGEST_RATIO, planned
from medgan.inference import autocast
from medgan.models import ModelCard, ModelError
from medgan.networks.superres import SliceNet
from medgan.progress import part
from medgan.restoration.step import State, Step, Work
from medgan.settings import EnhanceSettings
from medgan.slices import SliceOperator, along, expected_error, finer_grid
from medgan.volume import spacing_of

if TYPE_CHECKING:
    from medgan.recipes.training import PatchSource

BYTES_PER_FINE_VOXEL = 400
"""Measured peak memory of the network for each voxel of its result (float32)."""


MIRRORED = ((2, 3, 4), (2,))
"""Axes of (B, C, D, H, W) along which the slices are mirrored, beside the slices as they are."""


@dataclass(frozen=True)
class Plan:
    """Which array axes (0: k) are divided anew, by which operators, in this order."""

    axes: tuple[int, ...]
    operators: tuple[SliceOperator, ...]


def plan(shape: tuple[int, ...], ijk_to_ras: np.ndarray, settings: EnhanceSettings) -> Plan:
    """What super-resolution would do to a volume of that [k, j, i] shape and grid. Raises ``ValueError``."""
    size, spacing = shape[::-1], spacing_of(ijk_to_ras)
    grid = planned(size, spacing, settings.axis, settings.ratio, settings.slice_gap_mm)
    operators = {}
    for axis in map(AXES.index, grid.axes):
        width = 1.0 - settings.slice_gap_mm / spacing[axis]
        operators[2 - axis] = SliceOperator(size[axis], grid.size[axis], width, settings.slice_profile)
    return Plan(*zip(*sorted(operators.items()), strict=True))


def prepare(state: State, card: ModelCard, work: Work) -> Step:
    """A step that fills in between slices. What the slices determine is kept exactly (see medgan.slices)."""
    chosen = plan(state.array.shape, state.ijk_to_ras, work.settings)
    spacing = spacing_of(state.ijk_to_ras)[::-1]
    coarser = spacing[chosen.axes[0]] / min(spacing)
    if not work.settings.ratio and coarser > 1.01 * LARGEST_RATIO:
        work.tell(
            f"The slices lie {coarser:.3g} times as far apart as the finest voxels; {LARGEST_RATIO:g}, the largest "
            "ratio, was used, so the voxels are not isotropic."
        )
    grid = state.ijk_to_ras
    for axis, operator in zip(chosen.axes, chosen.operators, strict=True):
        grid = finer_grid(grid, axis, operator.coarse, operator.fine)

    def start(array: np.ndarray) -> np.ndarray:
        for axis, operator in zip(chosen.axes, chosen.operators, strict=True):
            array = along(operator.restore, array, axis)
        return array

    def degrade(array: np.ndarray) -> np.ndarray:
        for axis, operator in reversed(list(zip(chosen.axes, chosen.operators, strict=True))):
            array = along(operator.measure, array, axis)
        return array

    def apply(given: State, network: nn.Module) -> np.ndarray:
        strength = work.settings.strength
        array, progress = given.array, work.progress
        for number, (axis, operator) in enumerate(zip(chosen.axes, chosen.operators, strict=True), 1):
            work.progress = part(progress, (number - 1) / len(chosen.axes), number / len(chosen.axes))
            count = f" {number} of {len(chosen.axes)}" if len(chosen.axes) > 1 else ""
            plain = along(operator.restore, array, axis)
            if strength == 0.0:
                array = plain
                continue
            slices = np.moveaxis(given.normalisation.apply(array), axis, 0)[:, None]  # N, 1, H, W: slices as channels
            label = f"Super-resolution{count}:"
            predictor = _predictor(network, operator, max(1e-4, expected_error(slices[:, 0], 0, operator.ratio)))
            fine = work.tiles(predictor, slices, BYTES_PER_FINE_VOXEL * operator.fine, label, operator.fine)
            target = given.normalisation.invert(np.moveaxis(fine[:, 0], 0, axis))
            # Values below 0 stay: setting them to 0 would brighten the slices they belong to.
            array = plain + np.float32(strength) * (target - plain)
        work.progress = progress
        return np.ascontiguousarray(array)

    details = {
        "axis": "all" if len(chosen.axes) == 3 else "kji"[chosen.axes[0]],
        "ratio": chosen.operators[0].ratio,
        "slice_thickness_share": chosen.operators[0].width,
        "spacing_mm_before": list(spacing_of(state.ijk_to_ras)),
        "spacing_mm_after": list(spacing_of(grid)),
    }
    return Step(card, details, grid, apply, start, degrade, state.noise, _patches_of(state, chosen))


def check_memory(state: State, work: Work) -> None:
    """Raise ``MemoryRefused`` before the work when the memory does not suffice for it, one axis after the other."""
    chosen = plan(state.array.shape, state.ijk_to_ras, work.settings)
    shape = list(state.array.shape)
    for axis, operator in zip(chosen.axes, chosen.operators, strict=True):
        others = [side for each, side in enumerate(shape) if each != axis]
        work.check((1, *others), BYTES_PER_FINE_VOXEL * operator.fine, operator.fine)
        shape[axis] = operator.fine


def _patches_of(state: State, chosen: Plan) -> Callable[[torch.device], PatchSource] | None:
    """The sharp axes of a volume teach what its thick slices hide (Shocher et al. 2018, arXiv 1712.06087; Remedios et
    al. 2023, SMORE): patches cut along them are averaged as the slices were."""
    if len(chosen.axes) > 1:
        sharp: tuple[int, ...] = (0, 1, 2)
    else:
        spacing = spacing_of(state.ijk_to_ras)[::-1]
        sharp = tuple(a for a in range(3) if a != chosen.axes[0] and spacing[a] < 0.9 * spacing[chosen.axes[0]])
    operator = chosen.operators[0]
    coarse = max(6, round(32 / operator.ratio))
    fine = round(coarse * operator.ratio)
    sharp = tuple(axis for axis in sharp if state.array.shape[axis] >= fine)
    if not sharp:
        return None

    def make(device: torch.device) -> PatchSource:
        from medgan.recipes.superres import OwnSlices

        scaled = state.normalisation.apply(state.array)
        expected = max(1e-4, expected_error(scaled, chosen.axes[0], operator.ratio))
        own = SliceOperator(coarse, fine, operator.width, operator.profile)
        return OwnSlices(torch.from_numpy(scaled).to(device), sharp, own, expected)

    return make


def mirror_averaged(network: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
    """The mean of a network's answers for (B, C, D, H, W) and for it mirrored in two ways: fewer errors for three
    times the work. (Moving the network's grid, which serves the other two models, helps less here.)"""
    answer = network(volume)
    for axes in MIRRORED:
        answer = answer + network(volume.flip(axes)).flip(axes)
    return answer / (1 + len(MIRRORED))


def _predictor(
    network: nn.Module, operator: SliceOperator, level: float
) -> Callable[[torch.device], Callable[[Tensor], Tensor]]:
    if not isinstance(network, SliceNet):
        raise ModelError(
            f"The network {type(network).__name__} does not take thick slices; super-resolution needs medgan.SliceNet."
        )

    def make(device: torch.device) -> Callable[[Tensor], Tensor]:
        network.to(device)
        expected = torch.tensor([level], dtype=torch.float32, device=device)

        def predict(tile: Tensor) -> Tensor:  # (1, N, 1, H, W) -> (1, F, 1, H, W)
            with autocast(device, on_cpu=True):
                answer = mirror_averaged(lambda slices: network(slices, expected, operator), tile.transpose(1, 2))
            return answer.float().transpose(1, 2)

        return predict

    return make
