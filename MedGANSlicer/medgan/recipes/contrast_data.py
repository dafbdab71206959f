"""Pairs to learn contrasts from: scans of one head in T1, T2 and FLAIR, and such triples made from label maps.

All intensities have the median of the foreground at 0.5 (:func:`medgan.synthesis.contrast.unit_of`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import bias_field, gaussian_blur, normal, pick, uniform
from medgan.generation import tissue_of
from medgan.networks.contrast import CONTRASTS
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.synthesis.contrast import unit_of
from medgan.volume import read_volume

TRAINING = {
    "mni26": ("mr/oms_mni26_T1.nii.gz", "mr/oms_mni26_T2.nii.gz", "mr/oms_mni26_FLAIR.nii.gz"),
    "long12": ("mr/oms_long12_s1_T1W.nii.gz", "mr/oms_long12_s1_T2W.nii.gz", "mr/oms_long12_s1_FLAIR.nii.gz"),
}
VALIDATION = {
    "long01": ("mr/oms_long01_s1_T1W.nii.gz", "mr/oms_long01_s1_T2W.nii.gz", "mr/oms_long01_s1_FLAIR.nii.gz"),
}
"""Files of the data folder that show one head, in the order of ``CONTRASTS``."""

SHARES = {"mni26": 0.5, "long12": 0.2}
"""How often a crop comes from each triple; from label maps otherwise."""

MEANS = {
    "white": (0.57, 0.43, 0.49), "deep": (0.53, 0.43, 0.50), "grey": (0.43, 0.55, 0.55), "fluid": (0.15, 1.10, 0.19),
    "vessel": (0.3, 0.25, 0.3), "eye": (0.2, 1.2, 0.2), "soft": (0.45, 0.55, 0.42), "muscle": (0.4, 0.3, 0.33),
    "skin": (0.9, 0.75, 0.45), "cortical": (0.1, 0.1, 0.1), "cancellous": (0.7, 0.55, 0.4), "air": (0.0, 0.0, 0.0),
}  # fmt: skip
"""Intensity of the tissues in the three contrasts: measured in the brains of TRAINING, else usual ones."""


@dataclass
class Crop:
    """source and target (s, s, s), and their contrasts as places in ``CONTRASTS``."""

    source: Tensor
    target: Tensor
    source_code: int
    target_code: int


def load_triples(folder: Path, named: Mapping[str, tuple[str, ...]], step_mm: float = 1.0) -> dict[str, Tensor]:
    """(3, D, H, W) float16 of every head, on one grid along its axes, cut to what is not background."""
    found = {}
    for name, files in named.items():
        volumes = [read_volume(folder / file) for file in files]
        grid = working_grid(Grid(volumes[2].shape, volumes[2].ijk_to_ras), (step_mm,) * 3, "RAS")
        arrays = []
        for volume in volumes:
            unit = unit_of(volume.array)
            arrays.append(resampled(volume.array * unit, Grid(volume.shape, volume.ijk_to_ras), grid).clip(0.0, 4.0))
        everywhere = np.stack(arrays)
        where = np.nonzero(everywhere.min(axis=0) > 0.05)
        box = tuple(slice(max(0, int(axis.min()) - 6), int(axis.max()) + 7) for axis in where)
        found[name] = torch.from_numpy(everywhere[(slice(None), *box)].astype(np.float16))
    return found


class Pairs:
    """Endless crops, the same ones for the same generator state."""

    def __init__(self, triples: dict[str, Tensor], maps: list[np.ndarray], side: int) -> None:
        self.triples, self.side = triples, side
        self.maps = [torch.from_numpy(labels) for labels in maps]

    def crop(self, generator: torch.Generator) -> Crop:
        """One crop; its source with another unit, curve, unevenness, noise and slices than it has."""
        source_code = pick(len(CONTRASTS), generator)
        target_code = (source_code + 1 + pick(len(CONTRASTS) - 1, generator)) % len(CONTRASTS)
        place, name = uniform(0.0, 1.0, generator), ""
        for each, share in SHARES.items():
            place -= share
            if place < 0:
                name = each
                break
        if name and name in self.triples:
            triple = self._cut(self.triples[name], generator).float()
            source, target = triple[source_code], triple[target_code]
        else:
            source, target = self._drawn(source_code, target_code, generator)
        if uniform(0.0, 1.0, generator) < 0.5:
            source, target = source.flip(2), target.flip(2)
        return Crop(worsened(source, generator), target.clamp(0.0, 2.0), source_code, target_code)

    def _cut(self, volume: Tensor, generator: torch.Generator) -> Tensor:
        """A box (C, s, s, s) of (C, D, H, W), at times a little larger or smaller than it was; not of background."""
        size = [min(round(self.side * uniform(0.9, 1.15, generator)), side) for side in volume.shape[1:]]
        box = volume[:, :0]
        for _ in range(4):
            start = [pick(side - length + 1, generator) for side, length in zip(volume.shape[1:], size, strict=True)]
            box = volume[(slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))]
            if float((box[0] > 0.05).float().mean()) > 0.4:
                break
        if box.dtype == torch.int16:
            return F.interpolate(box[None].float(), size=[self.side] * 3, mode="nearest")[0].to(torch.int16)
        whole = F.interpolate(box[None].float(), size=[self.side] * 3, mode="trilinear", align_corners=False)
        return whole[0]

    def _drawn(self, source_code: int, target_code: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A pair from a label map: usual intensities in the target, those and others in the source."""
        labels = self._cut(self.maps[pick(len(self.maps), generator)][None], generator)[0].long()
        if uniform(0.0, 1.0, generator) < 0.5:  # the skull taken away
            labels = torch.where(labels >= 500, torch.zeros_like(labels), labels)
        codes, index = torch.unique(labels, return_inverse=True)
        means = torch.tensor([MEANS[tissue_of(int(code)) or "soft"] for code in codes])
        wobble = 0.06 * torch.randn(len(codes), generator=generator) * (means[:, source_code] > 0)
        shown = [means[:, source_code] + wobble, means[:, target_code]]
        pair = []
        for mean in shown:
            image = mean[index] + 0.06 * (mean > 0)[index] * mean[index] * normal(mean[index], generator)
            pair.append(gaussian_blur(image, [0.6] * 3).clamp_min(0.0))
        return pair[0], pair[1]


def worsened(image: Tensor, generator: torch.Generator) -> Tensor:
    """The same scan with other settings and on another scanner; what is 0 stays 0."""
    inside = image > 0
    image = 0.5 * uniform(0.9, 1.1, generator) * (2.0 * image) ** math.exp(uniform(-0.2, 0.2, generator))
    if uniform(0.0, 1.0, generator) < 0.5:
        image = image * bias_field(image.shape, uniform(0.0, 0.15, generator), generator)
    if uniform(0.0, 1.0, generator) < 0.3:
        sigma = [0.0, 0.0, 0.0]
        sigma[pick(3, generator)] = uniform(0.5, 1.6, generator)
        image = gaussian_blur(image, sigma)
    if uniform(0.0, 1.0, generator) < 0.5:
        image = image + uniform(0.0, 0.04, generator) * normal(image, generator)
    return torch.where(inside, image.clamp_min(0.0), torch.zeros_like(image))
