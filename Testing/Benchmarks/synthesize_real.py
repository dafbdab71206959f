"""The real volumes that synthesis is measured against, and the label maps that are found in them.

Brains alone, 1 mm, along the axes of the patient: the skull is taken off everywhere, because the held-out scans come
without one. Of each patient T1, T2 and FLAIR lie on one grid.

- held out: the stroke patient, whom no training has seen; the figures compare with his scans.
- other: the patient of the MS study, whose scans label-to-volume was trained on; what two real patients differ by.

No drawings by people are among the data. ``classes`` finds a label map with nothing but numbers in all three contrasts
together, ``tissues`` names three of them; both are stated with the figures that they serve.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medgan.noise import intensity_range
from medgan.recipes.data import is_label_map, read_manifest
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.volume import LabelMap, Volume, read_volume

CONTRASTS = ("T1", "T2", "FLAIR")
PATIENTS = {"held out": "mr/stroke_{}.nii.gz", "other": "mr/oms_mni26_{}.nii.gz"}
MARGIN = 4
"""Voxels of air around a brain."""

FLUID, GREY, WHITE = 1, 2, 3
TISSUES = {
    FLUID: (4, 5, 14, 15, 24, 43, 44, 72),
    GREY: (3, 8, 10, 11, 12, 17, 18, 26, 42, 47, 49, 50, 51, 53, 54, 58),
    WHITE: (2, 7, 16, 28, 41, 46, 60, 13, 52),
}
"""FreeSurfer codes of the three tissues; the pallidum is as bright as white matter in most scans."""

OUTER_FLUID = 24

FIRST_OUTSIDE = 500
"""Codes from here on lie outside the brain."""


@dataclass
class Patient:
    """T1, T2 and FLAIR of a brain on one grid, float32, 0 outside of it."""

    scans: dict[str, Volume]
    brain: np.ndarray


@functools.lru_cache(maxsize=4)
def patient(data: Path, name: str) -> Patient:
    """The scans of one of PATIENTS, cut to the brain."""
    volumes = {contrast: read_volume(data / PATIENTS[name].format(contrast)) for contrast in CONTRASTS}
    volumes = {contrast: upright(volume) for contrast, volume in volumes.items()}
    brain = np.logical_and.reduce([volume.array > 0 for volume in volumes.values()])
    brain = largest(ndimage.binary_opening(brain, iterations=2))
    box = box_of(brain)
    return Patient({contrast: cut(volume, box, brain) for contrast, volume in volumes.items()}, brain[box])


def upright(volume: Volume, step_mm: float = 1.0) -> Volume:
    """The volume along the axes of the patient."""
    source = Grid(volume.shape, volume.ijk_to_ras)
    grid = working_grid(source, (step_mm,) * 3, "RAS")
    return Volume(resampled(volume.array, source, grid), grid.ijk_to_ras)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, its holes filled."""
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return ndimage.binary_fill_holes(parts == sizes.argmax())


def box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """What holds a mask and MARGIN voxels around it."""
    found = np.nonzero(mask)
    return tuple(
        slice(max(0, int(each.min()) - MARGIN), min(side, int(each.max()) + MARGIN + 1))
        for each, side in zip(found, mask.shape, strict=True)
    )


def cut(volume: Volume, box: tuple[slice, ...], mask: np.ndarray) -> Volume:
    """The volume within a box, 0 outside a mask."""
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ [part.start for part in reversed(box)]
    return Volume(np.where(mask, volume.array, 0.0)[box].astype(np.float32), matrix)


def heads(data: Path, names: tuple[str, ...]) -> list[LabelMap]:
    """The brains of label maps of heads, FreeSurfer codes, cut to what is not empty."""
    found = []
    for name in names:
        volume = read_volume(data / "labels" / f"{name}.nii.gz")
        source = Grid(volume.shape, volume.ijk_to_ras)
        grid = working_grid(source, None, "RAS")  # turned only, so no label is mixed with another
        codes = np.rint(resampled(volume.array, source, grid)).astype(np.int32)
        brain = brain_of(codes)
        box = box_of(brain)
        found.append(LabelMap(np.where(brain, codes, 0)[box], grid.box(box).ijk_to_ras))
    return found


def brain_of(codes: np.ndarray) -> np.ndarray:
    """What a brain extraction leaves of a head of FreeSurfer codes: brain, ventricles, and the fluid in its folds."""
    members = [code for codes_of in TISSUES.values() for code in codes_of if code != OUTER_FLUID]
    return largest(ndimage.binary_closing(np.isin(codes, members), iterations=3)) & (codes < FIRST_OUTSIDE)


def unit(volume: Volume, like: Volume | None = None) -> np.ndarray:
    """The brain in 0..1 by its robust range, or by that of another brain, whose unit it has."""
    low, high = intensity_range((like or volume).array)
    return np.clip((volume.array - low) / max(high - low, 1e-6), 0.0, 1.5 if like else 1.0).astype(np.float32)


def classes(who: Patient, count: int = 7, smooth_mm: float = 0.6) -> LabelMap:
    """A label map of a brain: groups of what T1, T2 and FLAIR look like together (k-means), 0 outside."""
    rows = np.stack(
        [ndimage.gaussian_filter(unit(volume), smooth_mm)[who.brain] for volume in who.scans.values()], axis=1
    )
    labels = np.zeros(who.brain.shape, np.int16)
    labels[who.brain] = grouped(rows, np.quantile(rows, (np.arange(count) + 0.5) / count, axis=0)) + 1
    return LabelMap(labels, who.scans["T1"].ijk_to_ras)


def tissues(who: Patient) -> np.ndarray:
    """Fluid, grey and white matter: three Gaussians in T1, T2 and FLAIR together; what is bright in FLAIR stays 0."""
    rows = np.stack([ndimage.gaussian_filter(unit(who.scans[name]), 0.5)[who.brain] for name in CONTRASTS], axis=1)
    some = rows[:: max(1, len(rows) // 30_000)].astype(np.float64)
    order = np.argsort(some[:, 0])
    first = np.array_split(order, (int(0.12 * len(order)), int(0.55 * len(order))))
    share = np.zeros((len(some), 3))
    for tissue, members in enumerate(first):
        share[members, tissue] = 1.0
    for _ in range(40):
        logs = _log_densities(some, some, share)
        share = np.exp(logs - logs.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
    labels = np.zeros(who.brain.shape, np.uint8)
    labels[who.brain] = np.argmax(_log_densities(rows.astype(np.float64), some, share), axis=1) + 1
    flair = unit(who.scans["FLAIR"])
    lesion = ndimage.binary_opening(flair > np.quantile(flair[labels == GREY], 0.98), iterations=1)
    labels[ndimage.binary_dilation(lesion, iterations=2)] = 0
    return labels


def _log_densities(rows: np.ndarray, some: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N, 3) how likely each row is under the Gaussians that ``some`` belong to with these shares."""
    found = []
    for weight in share.T:
        total = weight.sum()
        mean = weight @ some / total
        centred = some - mean
        spread = (weight[:, None] * centred).T @ centred / total + 1e-4 * np.eye(some.shape[1])
        away = rows - mean
        distance = np.einsum("nd,de,ne->n", away, np.linalg.inv(spread), away)
        found.append(np.log(total / len(some)) - 0.5 * (distance + np.linalg.slogdet(spread)[1]))
    return np.stack(found, axis=1)


def grouped(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Which centre each row (N, D) is nearest to, after k-means from these centres (on a sample of the rows)."""
    some = rows[:: max(1, len(rows) // 20_000)]
    for _ in range(25):
        nearest = _nearest(some, centres)
        centres = np.stack([some[nearest == n].mean(axis=0) if (nearest == n).any() else centre
                            for n, centre in enumerate(centres)])  # fmt: skip
    return _nearest(rows, centres)


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.argmin((centres**2).sum(axis=1) - 2.0 * rows @ centres.T, axis=1)


def tissues_of_codes(codes: np.ndarray) -> np.ndarray:
    """Fluid, grey and white matter of FreeSurfer codes; 0 for the rest."""
    table = np.zeros(max(int(codes.max()), 100) + 1, np.uint8)
    for tissue, members in TISSUES.items():
        table[list(members)] = tissue
    return table[np.clip(codes, 0, None)]


def held_out_files() -> set[str]:
    """Files that no training has seen, as ``held_out.json`` names them."""
    lists = json.loads(Path(__file__).with_name("held_out.json").read_text(encoding="utf-8"))
    return {entry["file"] for group in ("volumes", "also_kept_out", "validation") for entry in lists[group]}


def seen_heads(data: Path) -> dict[str, Volume]:
    """The scans of heads that a training may have seen, by name, at 1 mm."""
    left_out = held_out_files()
    rows = [row for row in read_manifest(data / "manifest.csv") if row["file"].startswith("mr/")]
    names = [row["file"] for row in rows if not is_label_map(row) and row["file"] not in left_out]
    names = [name for name in names if "LESION" not in name]
    return {Path(name).name.removesuffix(".nii.gz"): upright(read_volume(data / name)) for name in names}
