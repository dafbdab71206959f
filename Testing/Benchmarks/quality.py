"""The quality figures of ``medgan.quality`` on held-out volumes that were made worse by known amounts.

    python Testing/Benchmarks/quality.py --data DIR [--only noise,blur,...]

- noise: Rician (MR, PET) or Gaussian (CT) noise of 1 to 9 % of the range is added. True: the root of the sum of squares
  of what is measured in the original and what was added.
- blur: a Gaussian along the axes within the slices. True: the root of the sum of squares, as above.
- slice thickness: 2 to 6 slices averaged, then drawn as thin as before, linearly or by splines. Isotropic volumes only.
- clipping: what lies above a quantile of the foreground is cut off. True: its share of the foreground.
- missing slices: one or two removed, one emptied, one repeated, at three places. Share found at the right place.
- ghosting: a copy moved along an axis of the slice and turned in phase, at 2 to 20 %. True: its strength. Volumes with
  air around.
- originals: what is remarked of the volumes as they are.

Each figure is measured as a person gets it, by ``medgan.quality.measure`` of the whole degraded volume, cut to 128
voxels a side (ghosting: whole).
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cases import central_box, entries
from scipy import ndimage

from medgan.lost_slices import lost_slices
from medgan.noise import intensity_range, noise_profile
from medgan.quality import measure
from medgan.volume import Volume, read_volume

LARGEST_SIDE = 128
NOISE = (1.0, 3.0, 5.0, 9.0)
BLUR = (0.5, 1.0, 1.5, 2.0)
THICKNESS = (2, 3, 4, 6)
CLIPPED = (0.2, 1.0, 5.0)
GHOSTS = (2.0, 5.0, 10.0, 20.0)
PLACES = (0.33, 0.5, 0.67)
ISOTROPIC = 1.1


class Table:
    """True against measured, by setting."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.remarks: dict[str, int] = defaultdict(int)

    def add(self, setting: str, true: float, found: dict) -> None:
        value = found["value"]
        self.pairs[setting].append((true, float("nan") if value is None else value))
        self.remarks[setting] += bool(found["remark"])

    def show(self) -> None:
        print(f"\n{self.title} ({self.unit})\n| added | n | true, mean | measured, mean | measured, range |"
              " mean error | remarked |\n|---|---|---|---|---|---|---|")  # fmt: skip
        for setting, pairs in self.pairs.items():
            true, found = np.array(pairs).T
            known = np.isfinite(found)
            span = f"{found[known].min():.2f} to {found[known].max():.2f}" if known.any() else "none"
            error = np.abs(found - true)[known].mean() if known.any() else np.nan
            mean = found[known].mean() if known.any() else np.nan
            print(f"| {setting} | {len(pairs)} | {true.mean():.2f} | {mean:.2f} | {span} | {error:.2f} |"
                  f" {self.remarks[setting]} of {len(pairs)} |", flush=True)  # fmt: skip


def measured(volume: Volume, name: str) -> dict:
    return measure(volume, (name,))[0]


def volumes(data: Path, groups: tuple[str, ...]) -> Iterator[tuple[dict, Volume]]:
    for group in groups:
        for entry in entries(data, group):
            yield entry, read_volume(data / entry["file"])


def cut(volume: Volume) -> Volume:
    box = central_box(volume.shape, (LARGEST_SIDE,) * 3)
    return Volume(np.ascontiguousarray(volume.array[box]), volume.ijk_to_ras, {}, volume.voxel_type)


def within(volume: Volume) -> list[int]:
    """The array axes that run within the slices."""
    sides = np.array(volume.spacing_mm[::-1])
    return [axis for axis in range(3) if sides[axis] < 1.3 * sides.min()]


def noise(data: Path) -> None:
    table = Table("Noise", "% of the range")
    for entry, whole in volumes(data, ("volumes",)):
        volume = cut(whole)
        before = measured(volume, "noise")["value"]
        low, high = intensity_range(volume.array)
        for level in NOISE:
            rng = np.random.default_rng(zlib.crc32(f"{entry['name']} {level}".encode()))
            sigma = level / 100.0 * (high - low)
            real = volume.array + rng.normal(0, sigma, volume.shape)
            noisy = real if entry["modality"] == "CT" else np.hypot(real, rng.normal(0, sigma, volume.shape))
            found = measured(volume.like(noisy.astype(np.float32)), "noise")
            table.add(f"{level:g} %", float(np.hypot(before, level)), found)
    table.show()


def blur(data: Path) -> None:
    table = Table("Blur", "voxels, standard deviation")
    for entry, whole in volumes(data, ("volumes",)):
        if entry["modality"] == "PET":
            continue
        volume = cut(whole)
        before = measured(volume, "blur")["value"]
        for sigma in BLUR:
            widths = [sigma if axis in within(volume) else 0.0 for axis in range(3)]
            blurry = ndimage.gaussian_filter(volume.array, widths)
            table.add(f"{sigma:g}", float(np.hypot(before, sigma)), measured(volume.like(blurry), "blur"))
    table.show()


def thickness(data: Path) -> None:
    table = Table("Slice thickness, drawn thinner", "times the voxels within the slices")
    for _, whole in volumes(data, ("volumes",)):
        if max(whole.spacing_mm) > ISOTROPIC * min(whole.spacing_mm):
            continue
        volume = cut(whole)
        for ratio in THICKNESS:
            count = volume.shape[0] // ratio
            thick = volume.array[: count * ratio].reshape(count, ratio, *volume.shape[1:]).mean(axis=1)
            for order, kind in ((1, "linear"), (3, "spline")):
                drawn = ndimage.zoom(thick, [ratio, 1, 1], order=order, mode="nearest", grid_mode=True)
                shown = Volume(drawn.astype(np.float32), volume.ijk_to_ras)
                found = measured(shown, "slice thickness")
                table.add(f"x{ratio} {kind}", float(ratio), found)
    table.show()


def clipping(data: Path) -> None:
    table = Table("Clipping", "% of the foreground")
    for _, whole in volumes(data, ("volumes",)):
        volume = cut(whole)
        low, high = intensity_range(volume.array)
        inside = volume.array[volume.array > low + 0.1 * (high - low)]
        for share in CLIPPED:
            top = np.float32(np.quantile(inside, 1.0 - share / 100.0))
            true = 100.0 * float((inside >= top).mean())
            clipped = volume.like(np.minimum(volume.array, top))
            table.add(f"{share:g} %", true, measured(clipped, "clipping"))
    table.show()


def missing(data: Path) -> None:
    print("\nMissing slices: found at the right place, and false ones elsewhere")
    for title, thick in (("isotropic or nearly", False), ("thick slices", True)):
        hits, false, tries = defaultdict(int), defaultdict(int), defaultdict(int)
        for entry, whole in volumes(data, ("volumes",)):
            if entry["modality"] == "PET" or (max(whole.spacing_mm) > 1.5 * min(whole.spacing_mm)) != thick:
                continue
            volume = cut(whole)
            sigma = noise_profile(volume.array).level
            for place in (int(share * volume.shape[0]) for share in PLACES):
                for what, damaged in damages(volume.array, place).items():
                    found = lost_slices(damaged, (0,), sigma)
                    right = place in found.empty + found.repeated or place - 1 in found.gaps
                    tries[what] += 1
                    hits[what] += right
                    false[what] += found.count - right
        said = ", ".join(f"{what} {hits[what]} of {tries[what]} (false {false[what]})" for what in tries)
        print(f"{title}: {said}", flush=True)


def damages(array: np.ndarray, place: int) -> dict[str, np.ndarray]:
    emptied, repeated = array.copy(), array.copy()
    emptied[place], repeated[place] = array.min(), array[place - 1]
    removed = {f"{count} removed": np.delete(array, range(place, place + count), 0) for count in (1, 2)}
    return {"emptied": emptied, "repeated": repeated, **removed}


def ghosting(data: Path) -> None:
    table = Table("Ghosting", "% of the signal")
    for entry, volume in volumes(data, ("volumes", "validation")):
        if entry["modality"] != "MR" or measured(volume, "ghosting")["value"] is None:
            continue
        for strength in GHOSTS:
            for axis, part in ((1, 0.5), (2, 0.25)):
                moved = np.roll(volume.array, round(part * volume.shape[axis]), axis)
                ghosted = np.abs(volume.array + strength / 100.0 * np.exp(1j) * moved).astype(np.float32)
                table.add(f"{strength:g} %", strength, measured(volume.like(ghosted), "ghosting"))
    table.show()


def originals(data: Path) -> None:
    print("\nOriginals: value (! where remarked)")
    for entry, volume in volumes(data, ("volumes", "validation")):
        told = [f"{f['name']} {f['value']}{'!' * f['remark']}" for f in measure(volume)]
        print(f"{entry['name']}: {', '.join(told)}", flush=True)


PARTS = {
    part.__name__: part for part in (originals, noise, blur, thickness, clipping, missing, ghosting)
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    for name in options.only.split(",") if options.only else PARTS:
        PARTS[name](options.data)


if __name__ == "__main__":
    main()
