"""tissue-ct against plain thresholds on held-out CT, at several levels of noise.

The reference of every voxel are the rules of ``medgan.recipes.tissue_targets`` on the CT without added noise, so the
thresholds are right by construction where nothing is added. Bone and lung are also compared with the label map of
TotalSegmentator (a network's answer, not drawn by hand), where there is one. Noise is white, at the 3 mm grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from segment_measures import dice

from medgan.recipes.tissue_targets import AIR, BONE, FAT, SOFT, tissue_targets
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import run
from medgan.volume import Volume, read_volume

NOISES_HU = (0.0, 25.0, 50.0, 100.0, 200.0)
NAMES = {SOFT: "soft tissue", FAT: "fat", BONE: "bone", AIR: "lung and air inside"}
HELD_OUT = ("ct/totalseg_example_ct.nii.gz", "multi/sts004_CT_image.nii.gz")
LABELLED = "ct/totalseg_example_ct_sm.nii.gz", "ct/totalseg_example_seg.nii.gz"
BONES = [*range(25, 51), *range(69, 79), *range(91, 117)]
"""Values of bones in that label map."""

NOT_COMPARED = (79, 117)
"""Spinal cord, which the rules fill into the bone around it, and cartilage of the ribs."""


def cases(data: Path) -> Iterator[tuple[str, Volume]]:
    """Name and CT of 3 mm voxels along the axes of the patient."""
    for file in HELD_OUT:
        volume = read_volume(data / file)
        source = Grid(volume.shape, volume.ijk_to_ras)
        grid = working_grid(source, (3.0, 3.0, 3.0), "RAS")
        yield Path(file).name.partition(".")[0], Volume(resampled(volume.array, source, grid, -1024.0), grid.ijk_to_ras)


def methods(model: str, threads_note: dict[str, Any]) -> dict[str, Callable[[Volume], np.ndarray]]:
    """Label of every voxel by each method. ``threads_note`` takes the time and device of the model's last run."""

    def network(volume: Volume) -> np.ndarray:
        outputs = run({"volume": volume}, SegmentSettings(model, device=Device.CPU))
        threads_note.update(seconds=outputs.report["seconds"], device=outputs.report["device"])
        return outputs.volumes["labels"].array

    return {
        "thresholds": lambda volume: tissue_targets(volume.array),
        "thresholds, smoothed (1 voxel)": lambda volume: tissue_targets(ndimage.gaussian_filter(volume.array, 1.0)),
        "tissue-ct": network,
    }


def measure(data: Path, model: str) -> Iterator[dict[str, Any]]:
    """One row for each volume, noise, method and tissue, as they get ready."""
    for name, volume in cases(data):
        truth = tissue_targets(volume.array)
        if name.startswith("sts"):
            truth[truth == AIR] = 0  # the gap between two legs
        for noise in NOISES_HU:
            rng = np.random.default_rng((11, int(noise)))
            noisy = volume.like(volume.array + noise * rng.standard_normal(volume.shape))
            note: dict[str, Any] = {}
            for method, label in methods(model, note).items():
                begun = time.monotonic()
                found = label(noisy)
                row = {"volume": name, "noise_hu": noise, "method": method}
                row["seconds"] = round(note.get("seconds", time.monotonic() - begun), 2)
                for value, tissue in NAMES.items():
                    if (truth == value).sum() > 500:
                        yield {**row, "tissue": tissue, "dice": dice(found == value, truth == value)}
                yield {**row, "tissue": "body", "dice": dice(found > 0, truth > 0)}
    yield from against_labels(data, model)


def against_labels(data: Path, model: str) -> Iterator[dict[str, Any]]:
    """Bone against a label map that no rule has made."""
    volume, labels = (read_volume(data / file) for file in LABELLED)
    values = np.rint(labels.array).astype(int)
    compared = ~np.isin(values, NOT_COMPARED)
    truth = np.isin(values, BONES)
    for noise in NOISES_HU:
        rng = np.random.default_rng((12, int(noise)))
        noisy = volume.like(volume.array + noise * rng.standard_normal(volume.shape))
        for method, label in methods(model, {}).items():
            # The patient lies the other way round in this file; what a method labels does not depend on it.
            found = label(noisy) == BONE
            yield {
                "volume": "totalseg_example_ct_sm", "noise_hu": noise, "method": method,
                "tissue": "bone (TotalSegmentator)", "dice": dice(found & compared, truth & compared), "seconds": None,
            }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Dice as Markdown: one line a volume, tissue and method, one column a level of noise."""
    lines = ["| volume | tissue | method | " + " | ".join(f"{noise:g} HU" for noise in NOISES_HU) + " |"]
    lines.append("|---|---|---|" + "---|" * len(NOISES_HU))
    keys = dict.fromkeys((row["volume"], row["tissue"], row["method"]) for row in rows)
    for key in sorted(keys, key=lambda key: key[:2]):
        found = {row["noise_hu"]: row["dice"] for row in rows if (row["volume"], row["tissue"], row["method"]) == key}
        cells = [f"{found[noise]:.3f}" if noise in found else "" for noise in NOISES_HU]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return "\n".join(lines)
