"""Slices of healthy heads, and the same ones with simulated anomalies, for the recipe ``anomaly``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from medgan.anomaly_mirror import Plane, reflected, symmetry_plane
from medgan.anomaly_slices import MEDIAN, TOP, standardised
from medgan.degradation import normal, uniform
from medgan.generation import Ranges, at_places, mirrored_codes, random_places, rendered
from medgan.networks.healthy import CONTEXT, SPACING_MM
from medgan.recipes.data import read_manifest
from medgan.recipes.parts import BRAIN, Head
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.volume import read_volume

VIEW = (96, 128, 112)
"""Voxels of 1.5 mm of a head that is kept, the brain in its middle."""

REAL = dict.fromkeys(("oms_long12_s1_T1W", "oms_long12_s1_T2W", "oms_long12_s1_FLAIR"), "oms_long12_s1_FLAIR")
"""Scans that take part, and the FLAIR scan that shows where lesions are to be left out."""

RANGES = Ranges(
    rotation_degrees=8.0, scale=0.1, shift_mm=5.0, bend_mm=3.0, presets=("T1", "T2", "FLAIR"), preset_share=0.95,
    stripped_share=0.45, thick_share=0.5, thickest_mm=5.0, noise=0.025, bias=0.2,
)  # fmt: skip

VISIBLE = 0.05
"""Change of a pixel (0.5 is the median of the brain) from which on it counts as anomalous."""


@dataclass
class Healthy:
    """A head without anomalies (D, H, W): float16 intensities, the same seen from the other side, where the brain is,
    and what is not to be learned from."""

    image: Tensor
    other: Tensor
    brain: Tensor
    ignored: Tensor


@dataclass
class Batch:
    """``seen`` (B, C, H, W): altered slices and other side; ``clean``, ``altered`` (1: anomalous, 0: not, -1: so-so),
    ``brain``, ``ignored``: (B, 1, H, W)."""

    seen: Tensor
    clean: Tensor
    altered: Tensor
    brain: Tensor
    ignored: Tensor


@dataclass
class Scan:
    """A real scan at 1.5 mm with the axes S, A, R: intensities, brain, lesions to leave out (D, H, W)."""

    image: Tensor
    brain: Tensor
    ignored: Tensor
    middle: tuple[float, float, float]


def load_scans(manifest: Path) -> list[Scan]:
    """The real scans of ``REAL`` that the data folder has."""
    rows = {Path(row["file"]).name.removesuffix(".nii.gz"): row for row in read_manifest(manifest)}
    lesions: dict[str, tuple[Grid, np.ndarray]] = {}
    found = []
    for stem in sorted(REAL, key=lambda stem: stem != REAL[stem]):  # those that show lesions come first
        if stem not in rows or REAL[stem] not in rows:
            continue
        volume = read_volume(manifest.parent / rows[stem]["file"])
        source = Grid(volume.shape, volume.ijk_to_ras)
        grid = working_grid(source, (SPACING_MM,) * 3, "RAS")
        array = resampled(volume.array, source, grid)
        brain = brain_of(array)
        array = standardised(array, brain)
        if stem == REAL[stem]:
            lesions[stem] = grid, bright_spots(array, brain)
        ignored = resampled(lesions[REAL[stem]][1].astype(np.float32), lesions[REAL[stem]][0], grid) > 0.1
        middle = tuple(float(np.ptp(where) / 2 + where.min()) for where in np.nonzero(brain))
        tensors = (torch.from_numpy(each) for each in (array, brain, ignored))
        found.append(Scan(*tensors, middle))  # type: ignore[call-arg, arg-type]
    return found


def brain_of(array: np.ndarray) -> np.ndarray:
    """Where the model brain-parts finds the brain, on voxels of 1.5 mm with the axes S, A, R (bool)."""
    from medgan.models import build_network, find, load_state
    from medgan.networks.parts import part_of

    card = find("brain-parts")
    network = build_network(card, load_state(card, "faithful"))
    image = torch.from_numpy(array)[None, None]
    sides = [round(side * SPACING_MM / 2) for side in array.shape]
    half = F.interpolate(image, size=sides, mode="trilinear", align_corners=False)
    half = F.pad(half, [n for side in reversed(sides) for n in (0, -side % 16)])
    box = [slice(0, side) for side in half.shape[2:]]
    with torch.no_grad():
        for look in range(3):
            near = part_of(half, box)
            low, high = torch.quantile(near.flatten(), torch.tensor([0.005, 0.995])).tolist()
            rough = network.rough(((near - low) / max(high - low, 1e-6)).clamp(0.0, 1.0))  # type: ignore[operator]
            if look < 2:
                box = network._brain(rough, box, half.shape[2:])  # type: ignore[operator]
    whole = torch.zeros_like(half)
    part_of(whole, box)[...] = torch.softmax(rough[:, :-1], 1)[:, 1:-3].sum(1, keepdim=True)
    inside = F.interpolate(
        whole[:, :, : sides[0], : sides[1], : sides[2]], size=array.shape, mode="trilinear", align_corners=False
    )
    parts, count = ndimage.label(inside[0, 0].numpy() > 0.5)
    if not count:
        return np.zeros(array.shape, bool)
    largest = 1 + int(np.argmax(ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))))
    return np.asarray(ndimage.binary_closing(parts == largest, iterations=2))


def bright_spots(array: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """What is much brighter than the brain about it (bool): in FLAIR, lesions and a little more."""
    weight = ndimage.gaussian_filter(brain.astype(np.float32), 6.0)
    around = ndimage.gaussian_filter(np.where(brain, array, 0.0), 6.0) / np.maximum(weight, 1e-3)
    above = np.where(brain, array - around, 0.0)
    spread = 1.4826 * float(np.median(np.abs(above[brain]))) if brain.any() else 1.0
    return np.asarray(ndimage.binary_dilation(above > 3.0 * spread))


def midplane(codes: Tensor) -> Plane:
    """The plane between the structures of the left and those of the right (FreeSurfer codes)."""
    held = codes.numpy()
    left = np.argwhere(np.isin(held, [2, 3, 10, 12, 8]))[::7]
    right = np.argwhere(np.isin(held, [41, 42, 49, 51, 47]))[::7]
    if not len(left) or not len(right):
        return Plane((0.0, 0.0, 1.0), (codes.shape[2] - 1) / 2)
    apart = right.mean(axis=0) - left.mean(axis=0)
    unit = apart / np.linalg.norm(apart)
    return Plane(tuple(unit), float(unit @ (right.mean(axis=0) + left.mean(axis=0)) / 2))


def drawn(head: Head, generator: torch.Generator, ranges: Ranges = RANGES) -> Healthy:
    """A random scan of a label map, sometimes without skull."""
    places, mirrored = random_places(VIEW, head.middle, SPACING_MM, generator, ranges)
    codes = at_places(head.codes, places).round().long()
    if mirrored:
        codes = mirrored_codes(codes)
    if uniform(0.0, 1.0, generator) < ranges.stripped_share:
        codes = torch.where(codes >= 500, 0, codes)
        if uniform(0.0, 1.0, generator) < 0.5:
            codes = torch.where(codes == 24, 0, codes)
    brain = torch.isin(codes, torch.tensor(BRAIN))
    image = standardised(rendered(codes, SPACING_MM, generator, ranges).numpy(), brain.numpy())
    return kept(image, midplane(codes), brain, torch.zeros_like(brain), generator)


def varied(scan: Scan, generator: torch.Generator) -> Healthy:
    """A real scan, bent, unevenly bright and a little noisier."""
    scaled = Ranges(rotation_degrees=8.0, scale=0.1, shift_mm=3.0, bend_mm=2.0)
    places, _ = random_places(VIEW, scan.middle, 1.0, generator, scaled)
    image = at_places(scan.image, places, "bilinear")
    brain, ignored = (at_places(mask.float(), places) > 0.5 for mask in (scan.brain, scan.ignored))
    coarse = torch.randn(1, 1, 4, 4, 4, generator=generator) * uniform(0.0, 0.1, generator)
    image = image * torch.exp(F.interpolate(coarse, size=VIEW, mode="trilinear", align_corners=True)[0, 0])
    image = (image / TOP).clamp(0.0, 1.0) ** math.exp(uniform(-0.25, 0.25, generator))
    image = (image + uniform(0.0, 0.015, generator) * normal(image, generator)).clamp_min(0.0)
    array = standardised(image.numpy(), brain.numpy())
    return kept(array, symmetry_plane(array, brain.numpy(), SPACING_MM), brain, ignored, generator)


def kept(image: np.ndarray, plane: Plane, brain: Tensor, ignored: Tensor, generator: torch.Generator) -> Healthy:
    """With another median than the right one, as it is found in use, and the other side in a plane a little off."""
    image = np.clip(image * math.exp(0.07 * float(torch.randn((), generator=generator))), 0.0, TOP)
    off = float(torch.randn((), generator=generator))
    other = reflected(image, Plane(plane.normal, plane.offset + 0.7 * off))
    return Healthy(torch.from_numpy(image).half(), torch.from_numpy(other).half(), brain, ignored)


class Pool:
    """Healthy heads at hand: drawn ones and real ones. Number n is the same in every run with that seed."""

    def __init__(self, heads: list[Head], scans: list[Scan], size: int, real_share: float, seed: int) -> None:
        self.heads, self.scans, self.size, self.seed = heads, scans, size, seed
        self.real_share = real_share if scans else 0.0
        self.made, self.held = 0, list[Healthy]()

    def fill(self, count: int) -> None:
        """Have the heads ``count - size`` to ``count - 1``."""
        for number in range(max(self.made, count - self.size), count):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            if uniform(0.0, 1.0, generator) < self.real_share:
                self.held.append(varied(self.scans[number % len(self.scans)], generator))
            else:
                self.held.append(drawn(self.heads[number % len(self.heads)], generator))
            self.made = number + 1
        del self.held[: -self.size]

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        """Slices of as many heads, most of them altered."""
        rows = [self._row(generator) for _ in range(count)]
        return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _row(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        head = self.held[int(torch.randint(len(self.held), (), generator=generator))]
        filled = torch.nonzero(head.brain.flatten(1).sum(1) > 60)[:, 0]
        place = int(torch.randint(VIEW[0], (), generator=generator))
        if len(filled) and uniform(0.0, 1.0, generator) < 0.95:
            place = int(filled[int(torch.randint(len(filled), (), generator=generator))])
        around = [min(max(place + step, 0), VIEW[0] - 1) for step in CONTEXT]
        clean, brain = head.image[around].float(), head.brain[around]
        other, there = head.other[place][None].float(), head.brain[place][None]
        altered = clean
        if uniform(0.0, 1.0, generator) < 0.8:
            altered = with_anomalies(clean, brain, generator)
        if uniform(0.0, 1.0, generator) < 0.25:
            other = with_anomalies(other, there, generator)
        middle = len(CONTEXT) // 2
        change = (altered - clean)[middle].abs()
        label = torch.where(change > VISIBLE, 1.0, torch.where(change > 0.3 * VISIBLE, -1.0, 0.0))
        own = slice(middle, middle + 1)
        return torch.cat([altered, other]), clean[own], label[None], brain[own].float(), head.ignored[place][None]


def with_anomalies(slab: Tensor, brain: Tensor, generator: torch.Generator) -> Tensor:
    """(n, H, W) slices with some blobs of other intensity, texture or content, inside the brain."""
    result = slab
    for _ in range(2 + int(torch.randint(5, (), generator=generator))):
        places = torch.nonzero(brain)
        if not len(places):
            break
        centre = places[int(torch.randint(len(places), (), generator=generator))]
        shape = blob(centre, slab.shape, generator) * brain
        result = torch.lerp(result, content(result, brain, centre, generator), shape)
    return result.clamp(0.0, TOP)


def blob(centre: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """(n, H, W) from 0 to 1: a bent ellipsoid with a radius of 2 to 11 mm, sometimes 25, and a soft edge."""
    largest = 25.0 if uniform(0.0, 1.0, generator) < 0.15 else 11.0
    radius = math.exp(uniform(math.log(2.0), math.log(largest), generator)) / SPACING_MM
    steps = torch.tensor(CONTEXT if shape[0] > 1 else (0,), dtype=torch.float32)
    z = (steps - steps[int(centre[0])])[:, None, None]
    y = (torch.arange(shape[1]) - centre[1])[None, :, None].float()
    x = (torch.arange(shape[2]) - centre[2])[None, None, :].float()
    angle = uniform(0.0, math.pi, generator)
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    long, high = math.exp(uniform(0.0, 0.9, generator)), math.exp(uniform(-0.5, 0.5, generator))
    distance = ((along / long) ** 2 + across**2 + (z / high) ** 2).sqrt() / radius
    if uniform(0.0, 1.0, generator) < 0.8:
        cells = [max(2, round(side / max(3.0, 1.2 * radius))) for side in shape[1:]]
        rough = torch.randn(1, 1, *cells, generator=generator)
        distance = distance + uniform(0.0, 0.5, generator) * F.interpolate(
            rough, size=tuple(shape[1:]), mode="bilinear", align_corners=True
        )[0]  # fmt: skip
    edge = math.exp(uniform(math.log(0.3), math.log(2.0), generator)) / radius
    return torch.sigmoid((1.0 - distance) / (0.5 * edge)) * uniform(0.7, 1.0, generator)


def content(slab: Tensor, brain: Tensor, centre: Tensor, generator: torch.Generator) -> Tensor:
    """What lies in a blob: brighter or darker tissue, one intensity, noise, or another place of the slices."""
    kind = uniform(0.0, 1.0, generator)
    sign = 1.0 if uniform(0.0, 1.0, generator) < 0.6 else -1.0
    strength = math.exp(uniform(math.log(0.15), math.log(0.9), generator))
    if kind < 0.4:
        new = slab + sign * MEDIAN * strength
    elif kind < 0.85:
        level = float(slab[tuple(centre)]) + sign * MEDIAN * strength
        new = torch.full_like(slab, max(0.0, level))
    elif kind < 0.9:
        down, right = (int(torch.randint(-40, 41, (), generator=generator)) for _ in range(2))
        return torch.roll(slab, (down, right), (1, 2))
    else:
        new = slab * math.exp(sign * strength)
    if uniform(0.0, 1.0, generator) < 0.5:
        grain = int(torch.randint(1, 5, (), generator=generator))
        cells = [max(2, side // grain) for side in slab.shape[1:]]
        noise = torch.randn(1, slab.shape[0], *cells, generator=generator)
        new = new + uniform(0.0, 0.12, generator) * F.interpolate(
            noise, size=tuple(slab.shape[1:]), mode="bilinear", align_corners=False
        )[0]  # fmt: skip
    return new
