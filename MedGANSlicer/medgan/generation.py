"""Images made from label maps: random shapes, contrasts and scanners (domain randomisation).

A network that has only seen such images takes a scan of any contrast and resolution for one more of them (SynthSeg:
Billot et al., Med Image Anal 86:102789, 2023). Label maps hold FreeSurfer codes; other vocabularies work as well,
every code is then a tissue of its own. All functions draw their random numbers from the generator they are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import bias_field, gaussian_blur, normal, uniform
from medgan.freesurfer import PAIRS

RIGHT_TO_LEFT = {right: left for left, right, *_ in PAIRS}
"""FreeSurfer codes of the right side and those of the left: both sides of a brain look alike."""

_TISSUE = {
    "white": (2, 7, 16, 25, 28, 85, 512, 530),
    "deep": (10, 11, 12, 13),
    "grey": (3, 8, 17, 18, 26),
    "fluid": (4, 5, 14, 15, 24, 72, 136, 137),
    "vessel": (30, 502, 514),
    "eye": (506,),
    "soft": (507, 509),
    "muscle": (508,),
    "skin": (511,),
    "cortical": (515,),
    "cancellous": (516,),
    "air": (0,),
}

_TISSUE_OF = {code: tissue for tissue, codes in _TISSUE.items() for code in codes}

CONTRASTS = {
    "T1": {"white": 0.78, "deep": 0.66, "grey": 0.54, "fluid": 0.14, "vessel": 0.35, "eye": 0.15, "soft": 0.5,
           "muscle": 0.4, "skin": 0.75, "cortical": 0.08, "cancellous": 0.6, "air": 0.0},
    "T2": {"white": 0.32, "deep": 0.38, "grey": 0.48, "fluid": 0.95, "vessel": 0.12, "eye": 0.95, "soft": 0.5,
           "muscle": 0.22, "skin": 0.55, "cortical": 0.06, "cancellous": 0.45, "air": 0.0},
    "FLAIR": {"white": 0.5, "deep": 0.57, "grey": 0.66, "fluid": 0.12, "vessel": 0.2, "eye": 0.14, "soft": 0.55,
              "muscle": 0.35, "skin": 0.65, "cortical": 0.07, "cancellous": 0.45, "air": 0.0},
    "CT": {"white": 0.50, "deep": 0.56, "grey": 0.57, "fluid": 0.36, "vessel": 0.62, "eye": 0.36, "soft": 0.2,
           "muscle": 0.62, "skin": 0.3, "cortical": 1.0, "cancellous": 0.95, "air": 0.0},
}  # fmt: skip
"""Mean intensity of the tissues in four kinds of scan, 0 to 1, by name of the tissue; CT in a brain window."""


@dataclass(frozen=True)
class Ranges:
    """How far random images may differ from one another."""

    rotation_degrees: float = 15.0
    scale: float = 0.15
    shear: float = 0.02
    shift_mm: float = 15.0
    bend_mm: float = 3.5
    presets: tuple[str, ...] = tuple(CONTRASTS)
    preset_share: float = 0.5
    stripped_share: float = 0.25
    thick_share: float = 0.5
    thickest_mm: float = 6.0
    noise: float = 0.08
    bias: float = 0.3
    swollen_share: float = 0.0
    """Share of the heads whose fluid spaces are made wider or narrower than those of the label map."""


def random_places(
    shape: Sequence[int], centre: Sequence[float], step: float, generator: torch.Generator, ranges: Ranges
) -> tuple[Tensor, bool]:
    """Where the voxels of a random view of a label map come from, and whether the view is mirrored left to right.

    shape: (D, H, W) of the view; centre: about which voxel of the source (k, j, i) it lies; step: its voxels in voxels
    of the source. Returns (D, H, W, 3) places in voxels of the source in the order k, j, i. Affine map, smooth bending
    of ``bend_mm`` (standard deviation, source of 1 mm).
    """
    device = generator.device
    axes = [(torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2) * step for n in shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    turn = torch.eye(3, device=device)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = math.radians(uniform(-ranges.rotation_degrees, ranges.rotation_degrees, generator))
        one = torch.eye(3, device=device)
        one[first, first] = one[second, second] = math.cos(angle)
        one[first, second], one[second, first] = -math.sin(angle), math.sin(angle)
        turn = turn @ one
    size = torch.tensor([1.0 + uniform(-ranges.scale, ranges.scale, generator) for _ in range(3)], device=device)
    shear = torch.eye(3, device=device) + ranges.shear * (1 - torch.eye(3, device=device)) * torch.randn(
        3, 3, generator=generator, device=device
    )
    mirrored = uniform(0.0, 1.0, generator) < 0.5
    matrix = turn @ shear @ torch.diag(size)
    if mirrored:
        matrix = torch.diag(torch.tensor([1.0, 1.0, -1.0], device=device)) @ matrix
    shift = [uniform(-ranges.shift_mm, ranges.shift_mm, generator) for _ in range(3)]
    middle = torch.tensor([place + by for place, by in zip(centre, shift, strict=True)], device=device)
    places = places @ matrix.T + middle
    for knots, share in ((5, 0.7), (10, 0.3)):  # broad and finer bending
        coarse = torch.randn(1, 3, knots, knots, knots, generator=generator, device=device) * ranges.bend_mm * share
        bent = F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)
        places = places + bent[0].permute(1, 2, 3, 0)
    return places, mirrored


SWELLING_MM = {
    (4, 43, 136, 163): (-3.0, 12.0),
    (5, 44, 137, 164): (-1.0, 7.0),
    (14, 72): (-1.0, 4.0),
    (24,): (-1.0, 2.5),
}
"""How far the borders of fluid spaces are moved outwards at random: lateral and inferior ventricles, third ventricle,
and the fluid around the brain, which widens where the brain shrinks."""


def random_swelling(generator: torch.Generator) -> Tensor:
    """(600,) by how many mm each FreeSurfer code is to swell; left and right differ by up to a quarter."""
    swelling = torch.zeros(600, device=generator.device)
    for codes, (least, most) in SWELLING_MM.items():
        by = uniform(least, most, generator)
        for code in codes:
            swelling[code] = by * uniform(0.75, 1.0, generator)
    return swelling


def swollen(places: Tensor, labels: Tensor, swelling_mm: Tensor, reach_mm: float, step_mm: float) -> Tensor:
    """Places of a view (D, H, W, 3) whose codes are ``labels`` (D, H, W), changed so that structures swell.

    Borders move along the gradient of the structures blurred by ``reach_mm``, those of large ones by ``swelling_mm``
    (600,) of their code, those of thin ones less; what lies around is pushed away and thinned, nothing is torn.
    """
    weight = F.avg_pool3d(swelling_mm[labels.clamp_max(599)][None, None], 2)[0, 0]
    soft = gaussian_blur(weight, [reach_mm / (2.0 * step_mm)] * 3)
    inwards = torch.stack(torch.gradient(soft)) * (math.sqrt(2.0 * math.pi) * reach_mm / (2.0 * step_mm))  # mm
    shift = F.interpolate(inwards[None], size=tuple(labels.shape), mode="trilinear", align_corners=False)
    size = torch.tensor(labels.shape, device=places.device, dtype=torch.float32)
    axes = [torch.linspace(-1.0, 1.0, n, device=places.device) for n in labels.shape]
    own = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    half_way = shift[0].permute(1, 2, 3, 0) / step_mm / (size - 1)  # half of it, in units of half the view
    there = own + half_way
    for field in (shift, places.permute(3, 0, 1, 2)[None]):
        found = F.grid_sample(field, there.flip(-1)[None], padding_mode="border", align_corners=True)[0]
        there = there + found.permute(1, 2, 3, 0) / step_mm / (size - 1)
    return found.permute(1, 2, 3, 0)


def at_places(source: Tensor, places: Tensor, mode: str = "nearest") -> Tensor:
    """(D, H, W) values of a volume (d, h, w) at places in its voxels, 0 outside."""
    size = torch.tensor(source.shape, device=source.device, dtype=torch.float32)
    grid = (2.0 * places / (size - 1) - 1.0).flip(-1)[None]
    found = F.grid_sample(source.float()[None, None], grid, mode=mode, padding_mode="zeros", align_corners=True)
    return found[0, 0]


def mirrored_codes(labels: Tensor) -> Tensor:
    """FreeSurfer codes with left and right exchanged."""
    swap = torch.arange(int(max(600, int(labels.max()) + 1)), device=labels.device)
    for right, left in RIGHT_TO_LEFT.items():
        swap[right], swap[left] = left, right
    return swap[labels]


def tissue_of(code: int) -> str:
    """The tissue that a FreeSurfer code stands for, a key of each of ``CONTRASTS``; '' for other codes."""
    return _TISSUE_OF.get(RIGHT_TO_LEFT.get(code, code), "")


def random_means(codes: Tensor, generator: torch.Generator, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Mean and texture (standard deviation) of every code (N,), 0 to 1: like one of CONTRASTS, or anything at all."""
    device, count = codes.device, len(codes)
    tied = torch.tensor([RIGHT_TO_LEFT.get(int(code), int(code)) for code in codes], device=device)
    first = torch.stack([(tied == code).nonzero()[0, 0] for code in tied]) if count else tied
    mean = torch.rand(count, generator=generator, device=device)
    spread = torch.rand(count, generator=generator, device=device) * uniform(0.02, 0.1, generator)
    like_preset = uniform(0.0, 1.0, generator) < ranges.preset_share
    name = ranges.presets[int(torch.randint(len(ranges.presets), (), generator=generator, device=device))]
    wobble = torch.randn(count, generator=generator, device=device) * uniform(0.0, 0.08, generator)
    if like_preset:
        for index, code in enumerate(tied.tolist()):
            if tissue_of(code):
                mean[index] = CONTRASTS[name][tissue_of(code)] + wobble[index]
    if like_preset or uniform(0.0, 1.0, generator) < 0.8:  # air is dark in nearly every scan
        mean[codes == 0] = 0.0
        spread[codes == 0] = 0.01
    return mean[first].clamp(0.0, 1.0), spread[first]


def rendered(labels: Tensor, step_mm: float, generator: torch.Generator, ranges: Ranges | None = None) -> Tensor:
    """A random scan (D, H, W), 0 to 1, of a label map: tissues, texture, bias, point spread, thick slices, noise."""
    ranges = ranges or Ranges()
    codes, index = torch.unique(labels, return_inverse=True)
    mean, spread = random_means(codes, generator, ranges)
    image = mean[index] + spread[index] * normal(mean[index], generator)
    image = gaussian_blur(image, [uniform(0.3, 1.0, generator) / step_mm] * 3)
    image = image * bias_field(labels.shape, uniform(0.0, ranges.bias, generator), generator)
    noise = uniform(0.0, ranges.noise, generator)
    if uniform(0.0, 1.0, generator) < ranges.thick_share:
        image = _as_thick_slices(image, step_mm, noise, generator, ranges)
    else:
        image = image + noise * normal(image, generator)
    return normalised(image) ** math.exp(uniform(-0.4, 0.4, generator))


def normalised(image: Tensor) -> Tensor:
    """0.5 and 99.5 % of the voxels at 0 and 1, clamped."""
    low, high = robust_range(image)
    return ((image - low) / (high - low)).clamp(0.0, 1.0)


def robust_range(image: Tensor) -> tuple[float, float]:
    """0.5 and 99.5 % of the voxels (of a regular sample of a large image); never equal."""
    flat = image.flatten()
    flat = flat[:: max(1, flat.numel() // 200_000)]
    low, high = torch.quantile(flat, torch.tensor([0.005, 0.995], device=image.device)).tolist()
    return low, max(high, low + 1e-6)


def _as_thick_slices(image: Tensor, step_mm: float, noise: float, generator: torch.Generator, ranges: Ranges) -> Tensor:
    """The image as a scan with slices of 1.5 to ``thickest_mm`` along one axis shows it, interpolated back."""
    axis = int(torch.randint(3, (), generator=generator, device=generator.device))
    thick = uniform(max(1.5, 1.01 * step_mm), ranges.thickest_mm, generator)
    slab = thick * uniform(0.5, 1.0, generator)  # gaps between slices
    sigma = [0.0, 0.0, 0.0]
    sigma[axis] = 0.42 * slab / step_mm
    image = gaussian_blur(image, sigma)
    few = list(image.shape)
    few[axis] = max(2, round(image.shape[axis] * step_mm / thick))
    small = F.interpolate(image[None, None], size=few, mode="trilinear", align_corners=True)
    small = small + noise * normal(small, generator)
    return F.interpolate(small, size=tuple(image.shape), mode="trilinear", align_corners=True)[0, 0]
