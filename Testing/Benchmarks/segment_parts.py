"""brain-parts on held-out heads: Dice and HD95 of each main structure, by contrast, slices and skull."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from segment_atlas import registered_labels
from segment_heads import CONTRASTS, HELD_OUT, THICK, Scan, drawn, head, parts_of, scans
from segment_measures import dice, hd95

from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import run

STRUCTURES: dict[str, tuple[tuple[int, ...], ...]] = {
    "cerebral white matter": ((2,), (41,)),
    "cerebral cortex": ((3,), (42,)),
    "lateral ventricle": ((4,), (43,)),
    "thalamus": ((10,), (49,)),
    "caudate": ((11,), (50,)),
    "putamen": ((12,), (51,)),
    "hippocampus": ((17,), (53,)),
    "brain stem": ((16,),),
    "cerebellum": ((7, 8), (46, 47)),
}
"""The main structures: label values of the left and of the right one, measured apart."""

ATLAS = "synthseg_01"


def measure(
    data: Path, models: Sequence[str], names: Sequence[str] = HELD_OUT,
    contrasts: Sequence[str] = (*CONTRASTS, "random"), with_atlas: bool = False,
    skulls: Sequence[bool] = (True, False), slices_mm: Sequence[int] = (1, THICK),
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One row for each scan, method, structure and side, as they get ready."""
    atlas = head(data / "labels" / f"{ATLAS}.nii.gz") if with_atlas else None
    for scan in scans(data, names, contrasts, slices_mm, skulls):
        spacing = np.linalg.norm(scan.volume.ijk_to_ras[:3, :3], axis=0)[::-1]
        about = {"head": scan.name, "contrast": scan.contrast, "skull": scan.skull, "slices_mm": scan.slices_mm}
        for method in [*models, *(["atlas"] if atlas is not None else [])]:
            begun = time.monotonic()
            if method == "atlas":
                assert atlas is not None
                found = _by_atlas(scan, *atlas)
            else:
                outputs = run({"volume": scan.volume}, SegmentSettings(method, device=Device.CPU))
                found = outputs.volumes["labels"].array
            seconds = time.monotonic() - begun
            for structure, sides in STRUCTURES.items():
                for side, values in enumerate(sides):
                    one, other = np.isin(found, values), np.isin(scan.truth, values)
                    yield {
                        **about, "method": method, "structure": structure, "side": side, "seconds": round(seconds, 1),
                        "dice": dice(one, other), "hd95_mm": hd95(one, other, spacing), "peak_gb": peak_gb(),
                    }  # fmt: skip


def _by_atlas(scan: Scan, codes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The atlas is drawn in the contrast of the scan: the best that one labelled head can do."""
    from medgan.volume import Volume

    shown = codes if scan.skull else np.where(codes >= 500, 0, codes)
    image = drawn(shown, scan.contrast if scan.contrast != "random" else "T1", 1)
    return registered_labels(scan.volume, Volume(image, matrix), parts_of(shown))


def peak_gb() -> float:
    """Largest memory of this process so far."""
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 2)


def table(rows: Sequence[dict[str, Any]], key: str) -> str:
    """Mean Dice (and HD95) of the main structures as Markdown, by method and by ``key`` of the scans."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[(row["method"], row["slices_mm"], row[key])].append(row)
    columns = list(dict.fromkeys(row[key] for row in rows))
    lines = [f"| method | slices | {' | '.join(map(str, columns))} |", "|---|---|" + "---|" * len(columns)]
    for method, slices in dict.fromkeys((row["method"], row["slices_mm"]) for row in rows):
        cells = []
        for column in columns:
            held = groups.get((method, slices, column), [])
            values = [np.nanmean([row[name] for row in held]) for name in ("dice", "hd95_mm")] if held else None
            cells.append(f"{values[0]:.3f} ({values[1]:.1f} mm)" if values else "")
        lines.append(f"| {method} | {slices} mm | {' | '.join(cells)} |")
    return "\n".join(lines)
