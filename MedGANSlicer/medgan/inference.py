"""Run a network over a whole volume: normalise, choose a device, plan the memory, go through it tile by tile.

Legend for tensor names: B batch, C channels, D H W voxels (k, j, i).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medgan.memory import OUT_OF_MEMORY, free_memory_bytes
from medgan.noise import intensity_range
from medgan.precision import fast_bfloat16
from medgan.progress import Progress
from medgan.settings import Device

Made = TypeVar("Made")

OVERLAP = 16
"""Voxels that neighbouring tiles share; they are blended with Gaussian weights."""

SHORTEST_TILE = 40
"""Side below which a tile would be more overlap than content."""

LARGEST_TILE = 148**3
"""Voxels of a tile in the processor's memory: larger ones gain most networks no speed, and progress is told at each.
Other limits are this one doubled or halved, so that free memory, which is never twice the same, seldom changes the
tiles."""

VOLUME_COPIES = 10
"""Float32 copies of the whole volume alive at once beside the input, when a result is deblurred or compared with it
(see medgan.guards): measured, with what there is of masks. A network's own run takes 6: input, normalised, result,
blending weights and their quotient."""

COPIES_WITH_UNCERTAINTY = 15
"""The same when the network is asked several times: the sums of its answers and of their squares are kept, too."""


class MemoryRefused(ValueError):
    """The volume does not fit, whatever the tile; the sentence says what is needed and what is free."""


@dataclass(frozen=True)
class Normalisation:
    """Linear map between the unit of a volume and the network's: ``low`` becomes 0, ``high`` becomes 1."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        return self.high - self.low

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Float32 array in the network's unit."""
        return ((array - np.float32(self.low)) / np.float32(self.scale)).astype(np.float32)

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Float32 array back in the volume's unit."""
        return (array * np.float32(self.scale) + np.float32(self.low)).astype(np.float32)


def robust_normalisation(array: np.ndarray) -> Normalisation:
    """The normalisation of a volume from its robust intensity range (see medgan.noise.intensity_range).

    A volume whose range is empty (constant) is given a range as large as its value, or of 1, so that the map stays
    invertible.
    """
    low, high = intensity_range(array)
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        high = low + (abs(low) or 1.0)
    return Normalisation(low, high)


def fill_not_finite(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The array with NaN and infinite voxels replaced by their 6 neighbours' mean, and where they were (bool).

    Where they are many, those that reach a face of the volume are its outside (brain tools and scanners mark it so)
    and become as dark as the darkest voxel. Raises ``ValueError`` when more than a tenth of the voxels within is not
    finite: such a volume is broken.
    """
    broken = ~np.isfinite(array)
    count = int(broken.sum())
    if count == 0:
        return array, broken
    filled = np.where(broken, np.nan, array).astype(np.float32)
    left = broken
    if count > array.size // 10:
        outside = _reaching_a_face(broken)
        left = broken & ~outside
        count, voxels = int(left.sum()), int(array.size - outside.sum())
        if count > voxels // 10 or not voxels:
            raise ValueError(
                f"{int(broken.sum())} of {array.size} voxels are not finite numbers; the volume is damaged, not noisy."
            )
        filled[outside] = np.nanmin(filled)
    for _ in range(8):
        places = np.argwhere(left)
        if not len(places):
            break
        total, weight = np.zeros(len(places)), np.zeros(len(places))
        for axis, step in itertools.product(range(3), (-1, 1)):
            near = places.copy()
            near[:, axis] += step
            valid = (near[:, axis] >= 0) & (near[:, axis] < array.shape[axis])
            value = filled[tuple(np.where(valid[:, None], near, places).T)]
            known = valid & np.isfinite(value)
            total[known] += value[known]
            weight[known] += 1
        filled[tuple(places.T)] = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
        left = np.isnan(filled)
    return np.where(left, np.float32(np.nanmedian(filled)), filled), broken


def _reaching_a_face(mask: np.ndarray) -> np.ndarray:
    """Those voxels of a mask [k, j, i] that are connected to a face of the volume through voxels of the mask."""
    labels, count = ndimage.label(mask)
    faces = [labels.take(place, axis) for axis in range(3) for place in (0, -1)]
    reached = np.zeros(count + 1, dtype=bool)
    reached[np.unique(np.concatenate([face.ravel() for face in faces]))] = True
    reached[0] = False
    return reached[labels]


@dataclass(frozen=True)
class ChosenDevice:
    """A torch device, how to name it to a person, and why it was taken (a sentence, or empty when asked for)."""

    device: torch.device
    name: str
    reason: str = ""


def choose_device(wanted: Device, number: int | None = None) -> ChosenDevice:
    """The device asked for, or the best one that there is; falls back to the CPU and says why.

    ``number``: the NVIDIA GPU that this process shall use, where it shares several with others.
    """
    if wanted in (Device.AUTO, Device.CUDA) and torch.cuda.is_available():
        fault = _fault_of_cuda(number)
        if fault:
            return cpu_device(f"The NVIDIA GPU can not compute now ({fault}); the CPU is used.")
        return ChosenDevice(torch.device("cuda"), torch.cuda.get_device_name())
    if wanted in (Device.AUTO, Device.MPS) and torch.backends.mps.is_available():
        return ChosenDevice(torch.device("mps"), "Apple GPU")
    found = {Device.CUDA: "no NVIDIA GPU that this PyTorch can use", Device.MPS: "no Apple GPU"}
    reason = "" if wanted is Device.CPU else f"There is {found.get(wanted, 'no usable GPU')}; the CPU is used."
    return cpu_device(reason)


def _fault_of_cuda(number: int | None) -> str:
    """Why the GPU that PyTorch sees can not compute (full, busy, too old for this build), or an empty string."""
    try:
        if number is not None:
            torch.cuda.set_device(number)
        torch.cuda.mem_get_info()
        torch.ones(8, device="cuda").add(1.0).cpu()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return ""


def cpu_device(reason: str = "") -> ChosenDevice:
    """The processor, with the number of threads that torch uses."""
    threads = torch.get_num_threads()
    return ChosenDevice(torch.device("cpu"), f"CPU ({threads} thread{'s' if threads > 1 else ''})", reason)


def autocast(device: torch.device, on_cpu: bool = False) -> torch.autocast:
    """Mixed precision where it is known to help: on NVIDIA GPUs that are fast with bfloat16; others compute in float32.

    Not in float16: what the networks of others answer may be larger than it can hold, and old GPUs are slow with it.
    ``on_cpu``: also on processors that are fast with bfloat16, for networks that keep in float32 what must not be
    rounded; others might change their answers there, so they compute in float32 on every CPU.
    """
    wanted = on_cpu or device.type != "cpu"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and fast_bfloat16(device))


def in_ram(device: torch.device) -> bool:
    """Whether a device computes in the memory that holds the volumes, too: a processor and an Apple GPU."""
    return device.type in ("cpu", "mps")


def free_bytes(chosen: ChosenDevice) -> int:
    """Bytes that are free where the network would run."""
    if chosen.device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return free_memory_bytes()


def check_room(needed: int, memory_limit_bytes: int, what: str) -> None:
    """Raise :class:`MemoryRefused` when RAM, or the limit (0: none), has no room for the bytes that ``what`` needs."""
    free = free_memory_bytes()
    free = min(memory_limit_bytes or free, free)
    if needed > 0.8 * free:
        raise MemoryRefused(
            f"{what} needs at least {needed / 0.8e9:.3g} GB of memory and {free / 1e9:.3g} GB may be used; crop it or "
            "free memory."
        )


@dataclass(frozen=True)
class TilePlan:
    """Tile (D, H, W) in voxels, overlap as a share of each side, and the memory the run was planned with."""

    tile: tuple[int, int, int]
    overlap: tuple[float, float, float]
    volume_bytes: int

    @property
    def voxels(self) -> int:
        return math.prod(self.tile)


def plan_tiles(
    shape: Sequence[int],
    bytes_per_voxel: int,
    free: int,
    in_ram: bool,
    most_voxels: int = 0,
    channels: int = 1,
    largest: int = LARGEST_TILE,
    copies: int = VOLUME_COPIES,
    free_beside: int | None = None,
) -> TilePlan:
    """The equal tiles that cover a volume with the least work in the memory that is free.

    ``bytes_per_voxel``: what the network needs for a voxel of a tile. ``most_voxels``: a further limit on the
    tile (0: none). ``channels``: of the whole volume. ``largest``: voxels times channels of a tile, if ``in_ram``.
    ``copies``: of the whole volume that are alive at once: in the same memory if ``in_ram``, else beside it in the
    processor's, of which ``free_beside`` bytes are free. Raises :class:`MemoryRefused` when not even the smallest tile
    fits.
    """
    volume_bytes = math.prod(shape) * channels * 4 * copies
    room = 0.8 * free - (volume_bytes if in_ram else 0)
    smallest = math.prod(min(SHORTEST_TILE, side) for side in shape)
    limit = int(room / bytes_per_voxel)
    if limit >= smallest:
        limit = max(_rung(limit, max(largest // channels, smallest), in_ram), smallest)
    limit = min(limit, most_voxels or limit)
    if free_beside is not None and volume_bytes > 0.8 * free_beside:
        limit, in_ram, free = 0, True, free_beside
    if limit < smallest:
        needed = (volume_bytes if in_ram else 0) + smallest * bytes_per_voxel
        raise MemoryRefused(
            f"The volume of {shape[2]} x {shape[1]} x {shape[0] * channels} voxels needs at least "
            f"{needed / 0.8e9:.2f} GB of memory and {free / 1e9:.2f} GB are free; "
            "close other programs or crop the volume."
        )
    best: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    for counts in itertools.product(
        *(range(1, max(1, math.ceil((side - OVERLAP) / (SHORTEST_TILE - OVERLAP))) + 1) for side in shape)
    ):
        tile = tuple(_tile_side(side, count) for side, count in zip(shape, counts, strict=True))
        work = math.prod(tile) * math.prod(counts)
        if math.prod(tile) <= limit and (best is None or work < best[0]):
            best = (work, tile, counts)
    assert best is not None
    _, tile, counts = best
    overlap = tuple(
        0.0 if count == 1 else 1.0 - _interval(side, part, count) / part
        for side, part, count in zip(shape, tile, counts, strict=True)
    )
    return TilePlan(tile, overlap, volume_bytes)  # type: ignore[arg-type]


def planned(
    shape: Sequence[int],
    bytes_per_voxel: int,
    chosen: ChosenDevice,
    memory_limit_bytes: int,
    most_voxels: int = 0,
    channels: int = 1,
    largest: int = LARGEST_TILE,
    copies: int = VOLUME_COPIES,
) -> tuple[TilePlan, int]:
    """The plan for what is free on a device now, and how many bytes that are. Raises :class:`MemoryRefused`."""
    shared = in_ram(chosen.device)
    free = free_bytes(chosen)
    free = min(memory_limit_bytes or free, free)
    beside = None if shared else free_memory_bytes()
    try:
        return plan_tiles(shape, bytes_per_voxel, free, shared, most_voxels, channels, largest, copies, beside), free
    except MemoryRefused as refused:
        if shared and 0 < memory_limit_bytes <= free:
            said = str(refused).split(" and ")[0]
            raise MemoryRefused(f"{said} and the limit is {free / 1e9:.3g} GB; raise it or crop the volume.") from None
        raise


def _rung(limit: int, largest: int, in_ram: bool) -> int:
    """``largest`` voxels, halved until the limit holds them; in a GPU's own memory doubled as long as it does."""
    doublings = math.floor(math.log2(limit / largest))
    return int(largest * 2.0 ** (min(doublings, 0) if in_ram else doublings))


def _tile_side(side: int, count: int) -> int:
    """Side of ``count`` equal tiles with the usual overlap, rounded up to what the network's grid takes best."""
    if count == 1:
        return side
    return min(side, max(SHORTEST_TILE, 4 * math.ceil((side + (count - 1) * OVERLAP) / count / 4)))


def _interval(side: int, part: int, count: int) -> float:
    """Distance from tile to tile that covers the side; half a voxel off whole numbers, against rounding."""
    return math.ceil((side - part) / (count - 1)) + 0.25


def run_tiled(
    predict: Callable[[Tensor], Tensor],
    array: np.ndarray,
    plan: TilePlan,
    device: torch.device,
    progress: Progress,
    label: str = "",
) -> np.ndarray:
    """The network's answer for a whole float32 array, [k, j, i] or [channel, k, j, i], on the same grid.

    ``predict`` maps (1, C, D, H, W) to a new tensor (1, C', D, H, W). Tiles are blended by MONAI's sliding window
    with Gaussian weights, results gather on the CPU. ``progress`` is called after each tile and may raise
    ``Cancelled``.
    """
    counts = [
        1 if share == 0 else math.ceil((side - part) / int(part * (1 - share))) + 1
        for side, part, share in zip(array.shape[-3:], plan.tile, plan.overlap, strict=True)
    ]
    total, done = math.prod(counts), 0

    def predict_and_tell(tile: Tensor) -> Tensor:
        nonlocal done
        result = predict(tile)
        done += 1
        progress(min(1.0, done / total), f"{label} tile {done} of {total}".strip())
        return result

    progress(0.0, f"{label} tile 1 of {total}".strip())
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(array)).reshape(1, -1, *array.shape[-3:])
        whole: Any = predict_and_tell(image.to(device)) if total == 1 else _sliding_window()(
            image, plan.tile, 1, predict_and_tell, overlap=plan.overlap, roi_weight_map=_blending_weights(plan.tile),
            sw_device=device, device=torch.device("cpu"), progress=False,
        )  # fmt: skip
        result: np.ndarray = whole[0].float().cpu().numpy()
        return result[0] if array.ndim == 3 else result


def _sliding_window() -> Callable[..., Any]:
    """MONAI's, whose import takes seconds: only for what needs more than one tile."""
    from monai.inferers import sliding_window_inference

    return sliding_window_inference  # type: ignore[no-any-return]


def _blending_weights(tile: Sequence[int]) -> Tensor:
    """(1, 1, D, H, W) Gaussian weights with an eighth of each side as standard deviation.

    MONAI's own are cut off at 0.001, which gives the outermost voxels, where a tile knows least, too much to
    say near the edges of a tile: a faint seam.
    """
    curves = []
    for side in tile:
        place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        curves.append(torch.exp(-0.5 * (place / (0.125 * side)) ** 2))
    return torch.einsum("i,j,k->ijk", *curves).float()[None, None]


def run_with_fallback(
    make_predict: Callable[[torch.device], Callable[[Tensor], Tensor]],
    array: np.ndarray,
    bytes_per_voxel: int,
    chosen: ChosenDevice,
    memory_limit_bytes: int,
    progress: Progress,
    label: str = "",
    channels: int = 1,
    largest: int = LARGEST_TILE,
    copies: int = VOLUME_COPIES,
) -> tuple[np.ndarray, ChosenDevice, list[str]]:
    """:func:`run_tiled` that meets a lack of memory with a smaller tile, then with the CPU, then with a refusal.

    ``channels``: the larger of the numbers of channels that go in and come out; ``bytes_per_voxel`` counts all of them.
    Returns the result, the device that made it, and sentences on what had to be changed.
    """
    told: list[str] = []
    most_voxels = 0
    while True:
        on_cpu = chosen.device.type == "cpu"
        try:
            plan, free = planned(
                array.shape[-3:], bytes_per_voxel, chosen, memory_limit_bytes, most_voxels, channels, largest, copies
            )
        except MemoryRefused:
            if on_cpu:
                raise
            free = min(memory_limit_bytes or free_bytes(chosen), free_bytes(chosen))
            told.append(f"{chosen.name} has too little free memory ({free / 1e9:.2f} GB); the CPU was used.")
            chosen, most_voxels = cpu_device(), 0
            continue
        try:
            result = run_tiled(make_predict(chosen.device), array, plan, chosen.device, progress, label)
            return result, chosen, told
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, NotImplementedError) and not on_cpu:
                told.append(f"{chosen.name} lacks an operation that the model needs; the CPU was used.")
                chosen, most_voxels = cpu_device(), 0
                continue
            if not is_out_of_memory(error):
                raise
        let_go(chosen.device)
        smallest = math.prod(min(SHORTEST_TILE, side) for side in array.shape[-3:])
        if plan.voxels > smallest:
            told.append(f"Memory ran out with tiles of {plan.voxels} voxels; smaller ones were used.")
            most_voxels = max(smallest, plan.voxels // 2)
        elif not on_cpu:
            told.append(f"Memory of {chosen.name} ran out with the smallest tile; the CPU was used.")
            chosen, most_voxels = cpu_device(), 0
        else:
            raise MemoryRefused(
                f"Memory ran out even with tiles of {plan.voxels} voxels, though {free / 1e9:.2f} GB were reported "
                "free; close other programs or crop the volume."
            )


def run_or_on_cpu(work: Callable[[torch.device], Made], chosen: ChosenDevice) -> tuple[Made, ChosenDevice, list[str]]:
    """What ``work`` makes on a device; on the CPU where a GPU has too little memory for it or lacks an operation.

    For what is not done in tiles. Returns it, the device that made it, and sentences on what had to be changed.
    """
    told: list[str] = []
    if chosen.device.type != "cpu":
        try:
            return work(chosen.device), chosen, told
        except (MemoryError, RuntimeError) as error:
            lacks = isinstance(error, NotImplementedError)
            if not lacks and not is_out_of_memory(error):
                raise
        let_go(chosen.device)
        why = "lacks an operation that the model needs" if lacks else "ran out of memory"
        told.append(f"{chosen.name} {why}; the CPU was used.")
        chosen = cpu_device()
    return work(chosen.device), chosen, told


def let_go(device: torch.device) -> None:
    """Give memory back that torch keeps on a GPU for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, CUDA, Apple's GPU or Python says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(words in text for words in OUT_OF_MEMORY)


def set_deterministic(seed: int) -> None:
    """Same seed, same voxels: seeds torch, and asks CUDA for repeatable kernels that do not round float32."""
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # else convolutions keep 10 bits, less than the noise of a good scan
