"""From normalised channels to the probability of every label: the network, mirrored views, tiles and memory.

Legend for tensor names: B batch, C channels, L labels (background first), D H W voxels (k, j, i).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.bundle import ModelCard, ModelError
from medgan.inference import (
    SHORTEST_TILE,
    ChosenDevice,
    MemoryRefused,
    TilePlan,
    autocast,
    check_room,
    cpu_device,
    free_bytes,
    in_ram,
    is_out_of_memory,
    let_go,
    plan_tiles,
    run_tiled,
)
from medgan.labeltable import alike
from medgan.progress import Progress, part
from medgan.segmentation.description import Description, Part

PROBE_SIDE = 32
"""Side in voxels of the cube on which a network's need of memory is measured."""

_SIDES = {"left": "right", "right": "left", "lh": "rh", "rh": "lh"}


@dataclass
class Runner:
    """A network, what its bundle says, and where it runs. ``told`` gathers sentences on what had to be changed."""

    network: nn.Module
    description: Description
    model: str
    chosen: ChosenDevice
    memory_limit_bytes: int
    told: list[str] = field(default_factory=list)
    before: dict[str, ModelCard] = field(default_factory=dict)
    """The models by which the volumes went before this network saw them."""
    _plans: dict[tuple[str, int], TilePlan] = field(default_factory=dict)
    """By device and limit of the tile, so that a volume and its mirror image are cut alike."""

    def probabilities(self, image: np.ndarray, mirror_axis: int | None, progress: Progress) -> np.ndarray:
        """(L, D, H, W) probabilities that add up to 1, from float32 channels (C, D, H, W) in the network's unit.

        ``mirror_axis``: 0, 1 or 2, the axis of D, H, W that runs from left to right; the mean of the volume's and
        its mirror image's answer is returned. None: the volume alone. Raises :class:`MemoryRefused`, ``ModelError``.
        """
        shares = 1 if mirror_axis is None else 2
        answer = self._tiled(image, part(progress, 0.0, 1 / shares), shares)
        if mirror_axis is not None:
            flipped = np.ascontiguousarray(np.flip(image, mirror_axis + 1))
            other = np.flip(self._tiled(flipped, part(progress, 0.5, 1.0), shares), mirror_axis + 1)
            for here, there in enumerate(exchanged_channels(self.description)):
                answer[here] = 0.5 * (answer[here] + other[there])
        return exclusive(answer, self.description)

    def _tiled(self, image: np.ndarray, progress: Progress, copies: int) -> np.ndarray:
        """The answer for the whole volume: in one piece if it fits, in tiles, or in tiles on the CPU."""
        most_voxels = 0
        while True:
            plan: TilePlan | None = None
            if most_voxels:
                let_go(self.chosen.device)  # of what the larger tiles took
            on_cpu = self.chosen.device.type == "cpu"
            free = free_bytes(self.chosen)
            free = min(self.memory_limit_bytes or free, free)
            try:
                network = self.network.to(self.chosen.device)
                key = self.chosen.device.type, most_voxels
                if key not in self._plans:
                    per_voxel = bytes_per_voxel(network, self.description, self.model, self.chosen.device)
                    self._plans[key] = self._plan(image.shape, per_voxel, free, most_voxels, copies)
                plan = self._plans[key]
                return run_tiled(self._predictor(network), image, plan, self.chosen.device, progress, "Segmenting:")
            except MemoryRefused:
                if on_cpu:
                    raise
                self.told.append(
                    f"{self.chosen.name} has too little free memory ({free / 1e9:.2f} GB); the CPU was used."
                )
            except (MemoryError, RuntimeError) as error:
                lacks = isinstance(error, NotImplementedError) and not on_cpu
                if not lacks and not is_out_of_memory(error):
                    raise
                smallest = math.prod(min(SHORTEST_TILE, side) for side in image.shape[1:])
                before = 0 if plan is None else plan.voxels  # 0: there was no room for the network alone
                if not lacks and before > smallest:
                    most_voxels = max(smallest, before // 2)
                    self.told.append(f"Memory ran out with tiles of {before} voxels; smaller ones were used.")
                    continue
                if on_cpu:
                    raise MemoryRefused(
                        f"Memory ran out even with the smallest tiles, though {free / 1e9:.2f} GB were reported free; "
                        "close other programs or crop the volume."
                    ) from error
                why = "lacks an operation that the model needs" if lacks else "ran out of memory"
                self.told.append(f"{self.chosen.name} {why}; the CPU was used.")
            self.chosen, most_voxels = cpu_device(), 0

    def _plan(self, shape: Sequence[int], per_voxel: int, free: int, most_voxels: int, copies: int) -> TilePlan:
        """One tile when that fits: no network knows less for seeing the whole."""
        sides, outputs, shared = shape[1:], self.description.outputs, in_ram(self.chosen.device)
        voxels = math.prod(sides)
        # The answers that are kept, and in tiles the sums and weights of the blending.
        whole = voxels * 4 * (outputs * copies + shape[0])
        blending = voxels * 4 * (outputs + 1)
        at_once = (not most_voxels or voxels <= most_voxels) and (whole * shared + voxels * per_voxel) <= 0.8 * free
        if not shared:  # the answers lie in RAM
            check_room(
                whole if at_once else whole + blending,
                0,
                f"Segmenting {sides[2]} x {sides[1]} x {sides[0]} voxels into {outputs} labels",
            )
        if at_once:
            return TilePlan(tuple(sides), (0.0, 0.0, 0.0), whole)  # type: ignore[arg-type]
        needed = (whole + blending) if shared else 0
        try:
            return plan_tiles(sides, per_voxel, int(free - needed / 0.8), False, most_voxels)
        except MemoryRefused:
            smallest = math.prod(min(SHORTEST_TILE, side) for side in sides)
            least = (needed + smallest * per_voxel) / 0.8
            limit = "the limit is" if 0 < self.memory_limit_bytes <= free else "free are"
            raise MemoryRefused(
                f"A volume of {sides[2]} x {sides[1]} x {sides[0]} voxels needs at least {least / 1e9:.2f} GB of "
                f"memory for the {outputs} labels of '{self.model}', and {limit} {free / 1e9:.3g} GB; crop the volume "
                "or free memory."
            ) from None

    def _predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        def predict(tile: Tensor) -> Tensor:
            with autocast(tile.device):
                answer = answer_of(network, tile, self.description, self.model)
            return activated(answer.float().contiguous(), self.description)

        return predict


def answer_of(network: nn.Module, tile: Tensor, description: Description, model: str) -> Tensor:
    """What the network says of (1, C, D, H, W), padded as it needs it. Raises ``ModelError`` for a wrong shape."""
    sides = tile.shape[2:]
    pads = [n for side in reversed(sides) for n in (0, -side % description.multiple)]
    padded = F.pad(tile, pads, mode="replicate") if any(pads) else tile
    turned = padded.permute(0, 1, 4, 3, 2) if description.axes == "ijk" else padded
    answer = network(turned)
    answer = answer[0] if isinstance(answer, list | tuple) else answer  # deep supervision: the finest comes first
    expected = (1, description.outputs, *turned.shape[2:])
    if answer.shape != expected:
        raise ModelError(
            f"Model '{model}' answers with shape {tuple(answer.shape)} where its labels and the volume ask for "
            f"{expected}; its metadata and its network do not belong together."
        )
    answer = answer.permute(0, 1, 4, 3, 2) if description.axes == "ijk" else answer
    return answer[:, :, : sides[0], : sides[1], : sides[2]]


def activated(answer: Tensor, description: Description) -> Tensor:
    """Probabilities from the network's answer (1, L, D, H, W), in its place: it is the largest tensor of a run."""
    if description.activation == "sigmoid":
        return answer.sigmoid_()
    if description.activation == "softmax":
        answer.sub_(answer.logsumexp(1, keepdim=True))
    return answer.exp_()


def exclusive(answer: np.ndarray, description: Description) -> np.ndarray:
    """(L, D, H, W) probabilities with background first that add up to 1.

    The channels of a sigmoid network may overlap (whole tumour, tumour core): where several are likely, the one
    with the fewest voxels counts first.
    """
    if description.activation != "sigmoid":
        return answer
    parts = answer[1:] if description.background else answer
    result = np.zeros((len(parts) + 1, *parts.shape[1:]), np.float32)
    left = np.ones(parts.shape[1:], np.float32)
    for channel in sorted(range(len(parts)), key=lambda n: int(np.count_nonzero(parts[n] > 0.5))):
        result[channel + 1] = left * parts[channel]
        left *= 1.0 - parts[channel]
    result[0] = left
    return result


def exchanged_channels(description: Description) -> list[int]:
    """For each channel of the answer the one that means the same on the other side of the body; itself if none."""
    first = 1 if description.background else 0
    return [*range(first), *(first + n for n in partners(description.parts))]


def partners(parts: Sequence[Part]) -> list[int]:
    """For each part the one on the other side, by "left" and "right" in their names; itself where there is none."""
    place = {alike(part.label.name): n for n, part in enumerate(parts)}
    return [place.get(_other_side(part.label.name), n) for n, part in enumerate(parts)]


def may_be_mirrored(parts: Sequence[Part]) -> bool:
    """Whether every part that belongs to one side has its partner: else a mirrored body is another body."""
    names = {alike(part.label.name) for part in parts}
    return all(_other_side(name) in names for name in names)


def _other_side(name: str) -> str:
    return " ".join(_SIDES.get(word, word) for word in alike(name).split())


def bytes_per_voxel(network: nn.Module, description: Description, model: str, device: torch.device) -> int:
    """About what the network holds at once for each voxel of a tile, measured on a small cube."""
    side = max(PROBE_SIDE, description.multiple)
    held = 0

    def count(module: nn.Module, given: object, answer: object) -> None:
        nonlocal held
        if isinstance(answer, Tensor):
            held += answer.numel() * answer.element_size()

    hooks = [module.register_forward_hook(count) for module in network.modules() if not list(module.children())]
    try:
        with torch.inference_mode(), autocast(device):
            answer_of(network, torch.zeros(1, len(description.channels), side, side, side, device=device), description,
                      model)  # fmt: skip
    finally:
        for hook in hooks:
            hook.remove()
    # Half of what all layers make is freed on the way; the answer, its probabilities and their copies are not.
    return int(0.5 * held / side**3) + 16 * description.outputs + 8 * len(description.channels)
