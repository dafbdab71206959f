"""Volumes made to teach recognition: heads from label maps, simple bodies, label maps, and things that are no scan.

There are few real scans, and each part of the body comes in few contrasts among them; made ones break such ties: a head
in CT and PET, a trunk in T1. All are [k, j, i] in RAS order. Random numbers come from the given generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from medgan.degradation import choose, gaussian_blur, normal, pick, uniform
from medgan.generation import CONTRASTS, RIGHT_TO_LEFT, tissue_of

OUTSIDE_BRAIN = 500
"""FreeSurfer-like codes from here on are skull, face and skin."""

HEADS: dict[str, Mapping[str, float]] = {
    "MR T1": CONTRASTS["T1"],
    "MR T2": CONTRASTS["T2"],
    "MR FLAIR": CONTRASTS["FLAIR"],
    "CT": {"white": 29, "deep": 36, "grey": 38, "fluid": 8, "vessel": 55, "eye": 10, "soft": 15, "muscle": 55,
           "skin": 0, "cortical": 1100, "cancellous": 450, "air": -1000},
    "PET": {"white": 0.42, "deep": 0.9, "grey": 0.85, "fluid": 0.12, "vessel": 0.3, "eye": 0.2, "soft": 0.15,
            "muscle": 0.25, "skin": 0.1, "cortical": 0.08, "cancellous": 0.15, "air": 0.0},
}  # fmt: skip
"""Mean intensity of the tissues of a head by kind of scan; CT in HU, the others 0 to 1."""

AIR, FAT, MUSCLE, CORTICAL, MARROW, LUNG, ORGAN, VESSEL, GAS, FLUID, BOWEL, KIDNEY = range(12)

BODIES: dict[str, tuple[float, ...]] = {
    "CT": (-1000, -100, 50, 800, 250, -800, 70, 60, -900, 8, 35, 60),
    "MR T1": (0, 0.95, 0.42, 0.08, 0.75, 0.04, 0.5, 0.3, 0.02, 0.15, 0.4, 0.4),
    "MR T2": (0, 0.6, 0.22, 0.05, 0.5, 0.06, 0.35, 0.12, 0.02, 1.0, 0.55, 0.65),
    "MR FLAIR": (0, 0.3, 0.3, 0.05, 0.35, 0.05, 0.45, 0.15, 0.02, 0.1, 0.45, 0.5),
    "PET": (0, 0.05, 0.18, 0.1, 0.25, 0.07, 0.45, 0.4, 0.05, 0.15, 0.3, 0.8),
}
"""Mean intensity of the twelve tissues of a simple body by kind of scan; CT in HU."""

CONTRAST_OF_TISSUES, BRIGHTNESS_OF_FAT = (0.2, 1.2), (0.5, 2.8)
"""Spin echoes of T1 show white and grey matter nearly alike, and fat far brighter; some sequences have no fat."""

FAT_SATURATED = 0.4
"""Share of the T2 bodies in which fat is dark."""


def painted(labels: Tensor, mean: Mapping[int, float], kind: str, generator: torch.Generator) -> Tensor:
    """An image of integer labels from the mean intensity of each: wobble, texture, point spread, and PET's blur."""
    air = -950.0 if kind == "CT" else 0.01
    unit = 40.0 if kind == "CT" else 1.0
    wobble = unit * uniform(0.0, 0.06, generator)
    level = torch.zeros(int(labels.max()) + 1)
    for value, wanted in mean.items():
        if value < len(level):
            level[value] = wanted + wobble * float(torch.randn((), generator=generator)) * (wanted > air)
    image = level[labels].numpy()
    grain = ndimage.gaussian_filter(_normal(image.shape, generator), uniform(0.3, 1.2, generator))
    image = image + (image > air) * unit * uniform(0.0, 0.06, generator) * grain / max(float(grain.std()), 1e-6)
    blur = uniform(1.2, 2.6, generator) if kind == "PET" else uniform(0.3, 0.8, generator)
    image = ndimage.gaussian_filter(image, blur)
    if kind == "PET":
        noise = ndimage.gaussian_filter(_normal(image.shape, generator), uniform(0.6, 1.5, generator))
        dose = uniform(0.01, 0.1, generator) / max(float(noise.std()), 1e-6)
        image = np.maximum(image + dose * np.sqrt(np.maximum(image, 0.02)) * noise, 0.0)
    return torch.from_numpy(image.astype(np.float32))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> np.ndarray:
    return torch.randn(shape, generator=generator).numpy()


def head(labels: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """A head of a label map of about 2 mm as a scan of this kind shows it; "MR": of a contrast that has no name."""
    share = {"CT": 0.1, "PET": 0.3}.get(kind, 0.4)
    if uniform(0, 1, generator) < share:  # brain alone
        labels = torch.where(labels >= OUTSIDE_BRAIN, 0, labels)
    codes = [int(code) for code in np.flatnonzero(np.bincount(labels.flatten().numpy()))]
    if kind == "MR":
        tied = {RIGHT_TO_LEFT.get(code, code): uniform(0.05, 1.0, generator) if code else 0.0 for code in codes}
        mean = {code: tied[RIGHT_TO_LEFT.get(code, code)] for code in codes}
    else:
        table = HEADS[kind]
        if kind.startswith("MR"):  # sequences and contrast agent
            dimmest, brightest = BRIGHTNESS_OF_FAT
            fat = math.exp(uniform(math.log(dimmest), math.log(brightest), generator))
            table = weighted(table, uniform(*CONTRAST_OF_TISSUES, generator), fat)
        shift = {name: uniform(-0.07, 0.07, generator) * (40 if kind == "CT" else 1) for name in table}
        mean = {code: table[tissue_of(code) or "soft"] + shift[tissue_of(code) or "soft"] for code in codes}
        mean[0] = table["air"]
    if kind == "CT" and uniform(0, 1, generator) < 0.15:  # stored without its air
        mean[0] = uniform(-200, 0, generator)
    return painted(labels, mean, kind, generator)


def weighted(table: Mapping[str, float], contrast: float, fat: float) -> dict[str, float]:
    """Means of a head whose white and grey matter differ so many times as much, and whose fat is so much brighter."""
    middle = (table["white"] + table["grey"]) / 2.0
    tissues = {name: middle + contrast * (table[name] - middle) for name in ("white", "deep", "grey")}
    return {**table, **tissues, **{name: fat * table[name] for name in ("soft", "skin", "cancellous")}}


def body(part: str, kind: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A simple "chest", "abdomen" or "limb" as a scan of this kind shows it, its labels, and (D,) which slices are
    chest (1) or abdomen (0)."""
    labels, chest = simple_body(part, generator)
    table = list(BODIES[kind])
    if kind == "MR T2" and uniform(0, 1, generator) < FAT_SATURATED:
        table[FAT], table[MARROW] = 0.12, 0.2
    if kind == "CT" and uniform(0, 1, generator) < 0.5:  # contrast agent
        table[VESSEL], table[KIDNEY], table[ORGAN] = uniform(120, 350, generator), uniform(100, 250, generator), 110
    if kind == "PET" and uniform(0, 1, generator) < 0.5:
        table[FLUID] = uniform(1.0, 3.0, generator)
    return painted(labels, dict(enumerate(table)), kind, generator), labels, chest


def simple_body(
    part: str, generator: torch.Generator, size: tuple[int, int, int] = (48, 88, 88)
) -> tuple[Tensor, Tensor]:
    """Labels of a made-up part of the body, and (D,) the share of chest in each slice."""
    rand = lambda low, high: uniform(low, high, generator)  # noqa: E731
    axes = [torch.linspace(0, 1, size[0]), *(torch.linspace(-1.1, 1.1, side) for side in size[1:])]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    bend = F.interpolate(torch.randn(1, 3, 5, 6, 6, generator=generator) * rand(0.01, 0.05), size=size,
                         mode="trilinear", align_corners=True)[0]  # fmt: skip
    z, y, x = z + 0.5 * bend[0], y + bend[1], x + bend[2]
    labels = torch.zeros(size, dtype=torch.long)

    def blob(cz: float, cy: float, cx: float, rz: float, ry: float, rx: float) -> Tensor:
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1

    if part == "limb":
        _limbs(labels, z, y, x, rand)
        return labels, torch.zeros(size[0])
    wide, deep = rand(0.85, 1.0), rand(0.55, 0.75)
    power = rand(2.0, 2.8)
    radius = ((x.abs() / wide) ** power + (y.abs() / deep) ** power) ** (1 / power)
    fat, wall = rand(0.04, 0.22), rand(0.05, 0.1)
    labels[radius < 1] = FAT
    labels[radius < 1 - fat] = MUSCLE
    inside = radius < 1 - fat - wall
    labels[inside] = FAT
    diaphragm = {"chest": rand(-0.3, 0.25), "abdomen": rand(0.8, 1.4)}[part]
    above = z - 0.25 * torch.exp(-(x**2 + y**2) / 0.2) * rand(0.3, 1.0) > diaphragm
    lung = inside & above & ((x.abs() - 0.15) > 0.1 * y.abs())
    labels[inside & above] = ORGAN if rand(0, 1) < 0.3 else FAT
    labels[lung] = LUNG
    vessels = gaussian_blur(torch.randn(size, generator=generator), [0.8] * 3)
    labels[lung & (vessels > vessels.std() * 2.2)] = VESSEL
    labels[blob(diaphragm + 0.3, 0.1, -0.12, 0.3, 0.32, 0.32) & inside & above] = VESSEL if rand(0, 1) < 0.5 else ORGAN
    angle = torch.atan2(y, x)
    ring = (radius > 1 - fat - wall * 0.8) & (radius < 1 - fat - 0.2 * wall)
    labels[ring & (z > diaphragm - 0.25) & (torch.sin(rand(30, 45) * (z + 0.12 * torch.cos(angle))) > 0.5)] = CORTICAL
    below = inside & ~above
    liver = blob(diaphragm - 0.15, 0.05, 0.4 * wide, 0.35, 0.5, 0.5) & below
    labels[liver] = ORGAN
    labels[blob(diaphragm - 0.15, -0.1, -0.55 * wide, 0.25, 0.2, 0.2) & below] = ORGAN
    for side in (-1, 1):
        labels[blob(diaphragm - 0.45 + rand(-0.05, 0.05), -0.25 * deep, side * 0.38, 0.2, 0.14, 0.12) & below] = KIDNEY
        labels[blob(diaphragm - 0.8, -0.4 * deep, side * 0.2, 0.7, 0.13, 0.1) & below] = MUSCLE
    for _ in range(int(rand(10, 40))):
        cz, cy, cx = rand(0, diaphragm), rand(-0.1, 0.7) * deep, rand(-0.7, 0.7) * wide
        r = rand(0.05, 0.14)
        loop = blob(cz, cy, cx, rand(0.06, 0.2), r, r * rand(0.8, 2)) & below & ~liver
        labels[loop] = BOWEL
        if rand(0, 1) < 0.4:
            labels[loop & (y > cy + rand(-0.1, 0.1))] = GAS
    hips = diaphragm - rand(0.75, 1.2)
    for side in (-1, 1):
        wing = ((x * side - 0.55 + 0.5 * (z - hips)) - 0.25 * y).abs() < 0.06
        labels[wing & (z < hips) & (y.abs() < 0.45) & (radius < 1 - fat)] = CORTICAL
        joint = blob(hips - 0.35, 0.0, side * 0.6, 0.12, 0.16, 0.16)
        labels[joint] = MARROW
    labels[blob(hips - 0.35, 0.25, 0.0, 0.15, 0.2, 0.25) & inside] = FLUID
    spine = (x**2 + (y + 0.55 * deep) ** 2) ** 0.5
    disc = torch.sin(rand(25, 40) * z) > 0.8
    labels[spine < 0.16] = MARROW
    labels[(spine < 0.16) & (spine > 0.13)] = CORTICAL
    labels[(spine < 0.15) & disc] = MUSCLE
    labels[(x.abs() < 0.05) & (y < -0.55 * deep - 0.2) & (radius < 0.95 - fat) & ~disc] = CORTICAL
    labels[(x**2 + (y + 0.55 * deep + 0.2) ** 2) ** 0.5 < 0.05] = FLUID
    labels[((x + 0.08) ** 2 + (y + 0.55 * deep - 0.24) ** 2) ** 0.5 < rand(0.05, 0.1)] = VESSEL
    return labels, above[:, inside.any(dim=0)].float().mean(dim=1).gt(0.3).float()


def _limbs(labels: Tensor, z: Tensor, y: Tensor, x: Tensor, rand: Callable[[float, float], float]) -> None:
    """One or two limbs along k: fat, muscles with planes of fat between them, and one or two bones with marrow."""
    two = rand(0, 1) < 0.3
    for centre in (-0.55, 0.55) if two else (rand(-0.1, 0.1),):
        size = rand(0.4, 0.5) if two else rand(0.7, 1.0)
        radius = (((x - centre) / size) ** 2 + (y / (size * rand(0.8, 1.1))) ** 2) ** 0.5 / (
            1 - rand(-0.3, 0.3) * (z - 0.5)
        )
        labels[radius < 1] = FAT
        flesh = radius < 1 - rand(0.06, 0.35)
        labels[flesh] = MUSCLE
        for _ in range(int(rand(2, 6))):
            turn, shift = rand(0, math.pi), rand(-0.3, 0.3) * size
            seam = ((x - centre) * math.cos(turn) + y * math.sin(turn) - shift - 0.1 * z).abs() < 0.018
            labels[flesh & seam] = FAT
        for _ in range(1 if rand(0, 1) < 0.7 else 2):
            by, bx, wide = rand(-0.3, 0.3) * size, centre + rand(-0.3, 0.3) * size, rand(0.12, 0.22) * size
            widths = wide * (1 + rand(0, 0.8) * (2 * z - 1).clamp_min(0) ** 2)
            bone = ((x - bx) ** 2 + (y - by) ** 2) ** 0.5
            labels[bone < widths] = CORTICAL
            labels[bone < widths * rand(0.5, 0.7)] = MARROW
        if rand(0, 1) < 0.3:
            lump = (
                ((z - rand(0.3, 0.7)) / 0.25) ** 2
                + ((x - centre - rand(-0.3, 0.3)) / 0.3) ** 2
                + ((y - rand(-0.3, 0.3)) / 0.3) ** 2
            )
            labels[(lump < 1) & flesh] = ORGAN if rand(0, 1) < 0.5 else FLUID


def some_labels(generator: torch.Generator, size: tuple[int, int, int] = (32, 80, 80)) -> Tensor:
    """A label map of nothing in particular: random regions, blobs or nested shells."""
    knots = pick(8, generator) + 3
    fields = torch.randn(1, pick(10, generator) + 2, knots, knots, knots, generator=generator)
    smooth = F.interpolate(fields, size=size, mode="trilinear", align_corners=True)[0]
    labels = smooth.argmax(dim=0)
    if uniform(0, 1, generator) < 0.6:  # in a background
        labels = torch.where(smooth.amax(dim=0) > uniform(0.3, 1.4, generator), labels + 1, 0)
    if uniform(0, 1, generator) < 0.3:
        labels = (labels == int(labels.flatten()[pick(labels.numel(), generator)])).long()
    return labels


def no_scan(generator: torch.Generator, scans: list[Tensor], size: tuple[int, int, int] = (24, 80, 80)) -> Tensor:
    """Something that is no scan: noise, textures, patterns, drawings, pictures, scrambled scans and their negatives."""
    kind = choose(
        [(name, 1.0) for name in ("noise", "clouds", "pattern", "drawing", "leaves", "scrambled", "negative", "fan")],
        generator,
    )
    if kind == "noise":
        image = torch.randn(size, generator=generator)
        return image if uniform(0, 1, generator) < 0.5 else image.abs() ** uniform(0.5, 3, generator)
    if kind == "clouds":
        return clouds(size, uniform(0.5, 3.5, generator), generator)
    if kind == "pattern":
        turn = torch.randn(3, generator=generator) * uniform(0.02, 0.4, generator)
        z, y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in size), indexing="ij")
        wave = torch.sin(z * turn[0] + y * turn[1] + x * turn[2])
        other = torch.sin(y * turn[2] - x * turn[1]) if uniform(0, 1, generator) < 0.6 else torch.ones(size)
        image = wave * other if uniform(0, 1, generator) < 0.7 else z * turn[0] + y * turn[1] + x * turn[2]
        return torch.sign(image) if uniform(0, 1, generator) < 0.3 else image
    if kind in ("drawing", "leaves"):
        return drawing(size, generator, kind == "leaves")
    if kind == "negative" and scans:
        source = scans[pick(len(scans), generator)].float()
        brightest = source.flatten()[::97].quantile(0.995)
        return brightest - source.minimum(brightest)
    if kind == "scrambled" and scans:
        source = scans[pick(len(scans), generator)].float()
        sides = [8 * max(1, side // 8) for side in source.shape[1:]]
        slices = source[:: max(1, source.shape[0] // size[0]), : sides[0], : sides[1]]
        blocks = F.unfold(slices[:, None], 8, stride=8)
        blocks = blocks[..., torch.randperm(blocks.shape[-1], generator=generator)]
        return F.fold(blocks, (sides[0], sides[1]), 8, stride=8)[:, 0]
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")  # like ultrasound
    far, angle = torch.hypot(x, y + 1.1), torch.atan2(x, y + 1.1)
    grain = gaussian_blur(torch.randn(size, generator=generator), [0.7, 0.6, 1.5]).abs()
    return grain * (0.3 + clouds(size, 3.0, generator).clamp(-0.3, 2)) * ((far < 2.0) & (angle.abs() < 0.7))


def clouds(size: tuple[int, int, int], steep: float, generator: torch.Generator) -> Tensor:
    """Random texture whose spectrum falls with the frequency to the power ``steep``; mean 0, standard deviation 1."""
    white = torch.fft.rfftn(torch.randn(size, generator=generator))
    steps = [torch.fft.fftfreq(side) for side in size[:-1]] + [torch.fft.rfftfreq(size[-1])]
    frequency = torch.stack(torch.meshgrid(*steps, indexing="ij")).square().sum(dim=0).sqrt()
    image = torch.fft.irfftn(white / (frequency + 0.01) ** (steep / 2 + 0.5), s=size)
    return (image - image.mean()) / image.std().clamp_min(1e-6)


def drawing(size: tuple[int, int, int], generator: torch.Generator, pictures: bool) -> Tensor:
    """Overlapping balls and boxes with shading, grain or stripes: a phantom, or, with ``pictures``, like photographs of
    many things (another one in each slice or the same in all)."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    image = torch.full(size, uniform(0, 1, generator)) if pictures else torch.zeros(size)
    for _ in range(40 if pictures else pick(8, generator) + 1):
        c = [uniform(-1, 1, generator) for _ in range(3)]
        r = [uniform(0.05, 0.6, generator) for _ in range(3)]
        if pictures:
            r[0] = 10.0 if uniform(0, 1, generator) < 0.7 else r[0]
        offs = [(z - c[0]) / r[0], (y - c[1]) / r[1], (x - c[2]) / r[2]]
        box = uniform(0, 1, generator) < 0.5
        inside = torch.stack(offs).abs().amax(dim=0) < 1 if box else torch.stack(offs).square().sum(dim=0) < 1
        shade = (
            uniform(0, 1, generator) + uniform(-0.4, 0.4, generator) * offs[1] + uniform(-0.4, 0.4, generator) * offs[2]
        )
        if uniform(0, 1, generator) < 0.4:
            shade = shade + 0.2 * torch.sin(uniform(3, 40, generator) * offs[1] + uniform(3, 40, generator) * offs[2])
        image = torch.where(inside, shade, image)
    return image + uniform(0, 0.08, generator) * normal(image, generator)


def another_contrast(hounsfield: np.ndarray, kind: str, generator: torch.Generator) -> np.ndarray:
    """A CT volume with its tissues as bright as they are in another kind of scan; its noise comes along."""
    jitter = lambda value: float(np.clip(value + uniform(-0.08, 0.08, generator), 0, 1))  # noqa: E731
    fat, soft, bright, bone = {
        "MR T1": (0.95, 0.4, 0.55, 0.1),
        "MR T2": (0.6 if uniform(0, 1, generator) > FAT_SATURATED else 0.12, 0.3, 0.6, 0.08),
        "PET": (0.05, 0.25, 0.5, 0.12),
    }[kind]
    places = [-1000, -600, -140, -70, 10, 60, 130, 260, 900]
    return np.interp(hounsfield, places, [0, 0.05, jitter(fat), jitter(fat), jitter(soft), jitter(soft), jitter(bright),
                                          jitter(bone), jitter(bone)]).astype(np.float32)  # fmt: skip
