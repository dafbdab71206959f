"""Slices of healthy heads, and the same ones with simulated anomalies, for the recipe ``anomaly``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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

KINDS = ("T1", "T2", "FLAIR")

REAL, WATCHED = "oms_long12_s1", "oms_long01_s1"
"""Patients whose scans take part, and whose scans are looked at to choose and to check."""

RANGES = Ranges(
    rotation_degrees=8.0, scale=0.1, shift_mm=5.0, bend_mm=3.0, presets=("T1", *KINDS), preset_share=0.95,
    stripped_share=0.45, thick_share=0.5, thickest_mm=5.0, noise=0.025, bias=0.2,
)  # fmt: skip

VISIBLE = 0.05
"""Change of a pixel (0.5 is the median of the brain) from which on it counts as anomalous."""

BRIGHT_SHARE = {"T1": 0.25, "T2": 0.75, "FLAIR": 0.8}
"""How often an anomaly is brighter than its place: what happens to tissue in such a scan, and now and then not."""

DEEP_MM = 8.0
"""Half of the anomalies begin so far inside the brain: in white matter, about the ventricles, in deep grey matter."""


@dataclass
class Healthy:
    """A head without anomalies (D, H, W): float16 intensities, the same seen from the other side, where the brain is,
    where it is deep, and what is not to be learned from. ``kind``: one of ``KINDS``."""

    image: Tensor
    other: Tensor
    brain: Tensor
    deep: Tensor
    ignored: Tensor
    kind: str


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
    kind: str


def load_scans(manifest: Path, patient: str = REAL) -> list[Scan]:
    """T1, T2 and FLAIR of a patient, if the data folder has them; the FLAIR scan shows what is to be left out."""
    rows = {Path(row["file"]).name.removesuffix(".nii.gz"): row for row in read_manifest(manifest)}
    stems = {f"{patient}_FLAIR": "FLAIR", f"{patient}_T1W": "T1", f"{patient}_T2W": "T2"}
    if f"{patient}_FLAIR" not in rows:
        return []
    spots: tuple[Grid, np.ndarray] | None = None
    found = []
    for stem, kind in stems.items():
        if stem not in rows:
            continue
        volume = read_volume(manifest.parent / rows[stem]["file"])
        source = Grid(volume.shape, volume.ijk_to_ras)
        grid = working_grid(source, (SPACING_MM,) * 3, "RAS")
        array = resampled(volume.array, source, grid)
        brain = brain_of(array)
        array = standardised(array, brain)
        if spots is None:
            spots = grid, bright_spots(array, brain)
        ignored = resampled(spots[1].astype(np.float32), spots[0], grid) > 0.1
        middle = tuple(float(np.ptp(where) / 2 + where.min()) for where in np.nonzero(brain))
        tensors = (torch.from_numpy(each) for each in (array, brain, ignored))
        found.append(Scan(*tensors, middle, kind))  # type: ignore[call-arg, arg-type]
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
    """A random scan of a label map, of one of the ranges' kinds, sometimes without skull."""
    kind = ranges.presets[int(torch.randint(len(ranges.presets), (), generator=generator))]
    ranges = replace(ranges, presets=(kind,))
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
    return kept(image, midplane(codes), brain, torch.zeros_like(brain), kind, generator)


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
    if uniform(0.0, 1.0, generator) < 0.4:  # as scans without their skull are: also without some of the rim
        image = image * (brain if uniform(0.0, 1.0, generator) < 0.5 else ~eroded(~brain, 2))
    array = standardised(image.numpy(), brain.numpy())
    return kept(array, symmetry_plane(array, brain.numpy(), SPACING_MM), brain, ignored, scan.kind, generator)


def kept(
    image: np.ndarray, plane: Plane, brain: Tensor, ignored: Tensor, kind: str, generator: torch.Generator
) -> Healthy:
    """With another median than the right one, as it is found in use, and the other side in a plane a little off."""
    wide = 0.25 if uniform(0.0, 1.0, generator) < 0.2 else 0.07  # before the brain is found its median is a guess
    image = np.clip(image * math.exp(wide * float(torch.randn((), generator=generator))), 0.0, TOP)
    off = float(torch.randn((), generator=generator))
    other = reflected(image, Plane(plane.normal, plane.offset + 0.7 * off))
    seen, mirrored = (torch.from_numpy(each).half() for each in (image, other))
    return Healthy(seen, mirrored, brain, eroded(brain, round(DEEP_MM / SPACING_MM)), ignored, kind)


def eroded(mask: Tensor, voxels: int) -> Tensor:
    """What is true (D, H, W) with nothing false in the cube of so many voxels about it."""
    outside = (~mask).float()[None, None]
    for axis in range(3):
        sides = [1, 1, 1]
        sides[axis] = 2 * voxels + 1
        outside = F.max_pool3d(outside, sides, 1, [side // 2 for side in sides])
    return outside[0, 0] < 0.5


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
        pictures = torch.cat([head.image[around], head.other[place][None]]).float()
        masks = torch.cat([head.brain[around], head.deep[around], head.ignored[place][None]]).float()
        pictures, masks = turned(pictures, masks, generator)
        clean, other = pictures[: len(CONTEXT)], pictures[len(CONTEXT) :]
        brain, deep = masks[: len(CONTEXT)] > 0.5, masks[len(CONTEXT) : -1] > 0.5
        clean, other = other_contrast(clean, other, generator)
        bright = BRIGHT_SHARE[head.kind]
        middle = len(CONTEXT) // 2
        own = slice(middle, middle + 1)
        altered = clean
        if uniform(0.0, 1.0, generator) < 0.8:
            altered = with_anomalies(clean, brain, deep, bright, generator)
        turn = uniform(0.0, 1.0, generator)
        if turn < 0.4:  # the other side shows these anomalies, too: in the mirror they are no reason to mark anything
            other = (other + in_mirror((altered - clean)[own], brain[own])).clamp(0.0, TOP)
        elif turn < 0.8:
            other = with_anomalies(other, brain[own], deep[own], bright, generator)
        change = (altered - clean)[middle].abs()
        label = torch.where(change > VISIBLE, 1.0, torch.where(change > 0.3 * VISIBLE, -1.0, 0.0))
        altered, clean, other = imaged(altered, clean, other, generator)
        return torch.cat([altered, other]), clean[own], label[None], brain[own].float(), masks[-1:] > 0.1


def in_mirror(change: Tensor, brain: Tensor) -> Tensor:
    """A change of a slice (1, H, W), mirrored about the middle of its brain from left to right."""
    columns = torch.nonzero(brain)[:, 2].float()
    if not len(columns):
        return torch.zeros_like(change)
    shift = round(2.0 * float(columns.mean()) - (brain.shape[2] - 1))
    return torch.roll(change.flip(2), shift, 2) * brain


def turned(pictures: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Slices and their masks (n, H, W) mirrored, turned and stretched in their plane, all in the same way."""
    if uniform(0.0, 1.0, generator) < 0.5:
        pictures, masks = pictures.flip(2), masks.flip(2)
    if uniform(0.0, 1.0, generator) < 0.5:
        return pictures, masks
    angle = math.radians(uniform(-10.0, 10.0, generator))
    tall, wide = (math.exp(uniform(-0.12, 0.12, generator)) for _ in range(2))
    ratio = pictures.shape[1] / pictures.shape[2]
    matrix = torch.tensor(
        [[math.cos(angle) * wide, -math.sin(angle) * ratio * tall, 0.0],
         [math.sin(angle) / ratio * wide, math.cos(angle) * tall, 0.0]]
    )  # fmt: skip
    both = torch.cat([pictures, masks])[None]
    grid = F.affine_grid(matrix[None], list(both.shape), align_corners=False)
    both = F.grid_sample(both, grid, align_corners=False)[0]
    return both[: len(pictures)], both[len(pictures) :]


def other_contrast(clean: Tensor, other: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The slices of a scanner with another curve of intensities, the median where it was, and unevenly bright."""
    if uniform(0.0, 1.0, generator) < 0.6:
        power = math.exp(uniform(-0.3, 0.3, generator))
        clean, other = (MEDIAN * (each / MEDIAN) ** power for each in (clean, other))
    if uniform(0.0, 1.0, generator) < 0.5:
        coarse = uniform(0.0, 0.12, generator) * torch.randn(1, 1, 3, 3, generator=generator)
        bias = torch.exp(F.interpolate(coarse, size=clean.shape[1:], mode="bilinear", align_corners=True)[0])
        clean, other = clean * bias, other * bias.flip(2)
    return clean.clamp(0.0, TOP), other.clamp(0.0, TOP)


def imaged(altered: Tensor, clean: Tensor, other: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The same blur and noise for all: anomalies are seen through the scanner, too."""
    stack = torch.cat([altered, clean, other])[:, None]
    if uniform(0.0, 1.0, generator) < 0.5:
        place = torch.arange(-2.0, 3.0)
        line = torch.exp(-0.5 * (place / uniform(0.3, 0.9, generator)) ** 2)
        line = line / line.sum()
        stack = F.conv2d(F.pad(stack, (2, 2, 2, 2), mode="replicate"), torch.outer(line, line)[None, None])
    altered, clean, other = stack[:, 0].split([len(altered), len(clean), len(other)])
    if uniform(0.0, 1.0, generator) < 0.5:
        sigma = uniform(0.0, 0.05, generator)
        noise = sigma * normal(clean, generator)
        altered, clean, other = altered + noise, clean + noise, other + sigma * normal(other, generator)
    return altered.clamp(0.0, TOP), clean.clamp(0.0, TOP), other.clamp(0.0, TOP)


@dataclass
class Blob:
    """(n, H, W): distance from the centre in radii of a bent ellipsoid. ``edge``: how soft it ends, in radii."""

    distance: Tensor
    edge: float
    radius: float

    def within(self, radii: float = 1.0) -> Tensor:
        """1 inside so many radii, 0 outside, a soft edge between."""
        return torch.sigmoid((radii - self.distance) / self.edge)


def with_anomalies(slab: Tensor, brain: Tensor, deep: Tensor, bright: float, generator: torch.Generator) -> Tensor:
    """(n, H, W) slices with anomalies of other intensity, texture or content inside the brain: single ones, with a rim
    or a halo, and groups of spots. ``bright``: how often they are brighter than their place."""
    result = slab
    for _ in range(1 + int(torch.randint(5, (), generator=generator))):
        places = torch.nonzero(deep if deep.any() and uniform(0.0, 1.0, generator) < 0.5 else brain)
        if not len(places):
            break
        centre = places[int(torch.randint(len(places), (), generator=generator))]
        sign = 1.0 if uniform(0.0, 1.0, generator) < bright else -1.0
        spots = 2 + int(torch.randint(5, (), generator=generator)) if uniform(0.0, 1.0, generator) < 0.15 else 1
        strength = math.exp(uniform(math.log(0.15), math.log(0.9), generator))
        for spot in range(spots):
            if spot:
                aside = torch.randint(-9, 10, (2,), generator=generator)
                centre = torch.cat([centre[:1], (centre[1:] + aside).clamp_min(0)])
                centre = torch.minimum(centre, torch.tensor(slab.shape) - 1)
            shape = blob(centre, slab.shape, 4.0 if spots > 1 else 0.0, generator)
            new = content(result, brain, centre, sign * strength, generator)
            cover = shape.within() * uniform(0.7, 1.0, generator) * brain
            turn = uniform(0.0, 1.0, generator)
            if turn < 0.2 and shape.radius > 2.5:  # about it a halo
                cover = torch.maximum(cover, uniform(0.2, 0.5, generator) * shape.within(1.6) * brain)
            around = result
            result = torch.lerp(result, new, cover)
            if 0.2 <= turn < 0.35 and shape.radius > 2.5:  # inside its rim it is like its place, or the other way
                core = around - uniform(0.0, 0.8, generator) * sign * strength * MEDIAN
                result = torch.lerp(result, core, shape.within(uniform(0.5, 0.8, generator)) * brain)
    return result.clamp(0.0, TOP)


def blob(centre: Tensor, shape: torch.Size, largest_mm: float, generator: torch.Generator) -> Blob:
    """A bent ellipsoid with a radius of 2 to 11 mm, sometimes 25, or up to ``largest_mm`` if that is not 0."""
    largest = largest_mm or (25.0 if uniform(0.0, 1.0, generator) < 0.15 else 11.0)
    radius = math.exp(uniform(math.log(1.5 if largest_mm else 2.0), math.log(largest), generator)) / SPACING_MM
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
    return Blob(distance, 0.5 * edge, radius)


def content(slab: Tensor, brain: Tensor, centre: Tensor, change: float, generator: torch.Generator) -> Tensor:
    """What lies in a blob: brighter or darker tissue, one intensity, noise, or another place of the slices.
    ``change``: of the intensity, as a share of the median of the brain."""
    kind = uniform(0.0, 1.0, generator)
    if kind < 0.45:
        new = slab + MEDIAN * change
    elif kind < 0.85:
        level = float(slab[tuple(centre)]) + MEDIAN * change
        new = torch.full_like(slab, max(0.0, level))
    elif kind < 0.9:
        down, right = (int(torch.randint(-40, 41, (), generator=generator)) for _ in range(2))
        return torch.roll(slab, (down, right), (1, 2))
    else:
        new = slab * math.exp(change)
    if uniform(0.0, 1.0, generator) < 0.5:
        grain = int(torch.randint(1, 5, (), generator=generator))
        cells = [max(2, side // grain) for side in slab.shape[1:]]
        noise = torch.randn(1, slab.shape[0], *cells, generator=generator)
        new = new + uniform(0.0, 0.12, generator) * F.interpolate(
            noise, size=tuple(slab.shape[1:]), mode="bilinear", align_corners=False
        )[0]  # fmt: skip
    return new
