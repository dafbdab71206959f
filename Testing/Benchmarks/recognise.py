"""Does recognition know what it sees: ``python Testing/Benchmarks/recognise.py --data DIR``.

On volumes of patients that no training has seen, whole and altered (a part of the body, noise, thick slices, coarse
voxels, turned, another unit), and on things that are no scan (photographs of scikit-image, noise): for each question
how often it answers, how often that is right, and how well the confidence says so (expected calibration error).
The baseline is the guess from the range of intensities that ``medgan info`` makes (CT or MR/PET or label map).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from scipy import ndimage

from medgan.describe import looks_like
from medgan.models import build_network, find, load_state
from medgan.recipes.data import read_manifest
from medgan.recipes.recognise_scans import kind_in, region_in
from medgan.recognition.look import Look, heads_of, look
from medgan.recognition.slices import straightened
from medgan.volume import Volume, read_volume

ALSO = ("labels/synthseg_18.nii.gz", "labels/synthseg_20.nii.gz", "ct/totalseg_example_seg.nii.gz",
        "multi/sts004_CT_mask.nii.gz")  # fmt: skip
"""Label maps that recognition has not learned from, besides the volumes of held_out.json."""

PHOTOGRAPHS = ("camera", "coins", "moon", "text", "clock", "brick", "gravel", "page", "cell", "retina", "astronaut",
               "microaneurysms")  # fmt: skip

FEWEST_SLICES = 12


def held_out(data: Path) -> Iterator[tuple[str, str, str, Volume]]:
    """Name, kind, part of the body ('' where there is none) and volume."""
    said = {row["file"]: row["modality"] for row in read_manifest(data / "manifest.csv")}
    lists = json.loads((Path(__file__).parent / "held_out.json").read_text(encoding="utf-8"))
    for file in [row["file"] for row in lists["volumes"]] + list(ALSO):
        name = Path(file).name.removesuffix(".nii.gz")
        yield name, kind_in(said[file]), region_in(said[file]), read_volume(data / file)


def altered(volume: Volume, kind: str) -> Iterator[tuple[str, Volume, str]]:
    """The volume and what may have become of it: what was done, the result, and the plane of its slices."""
    array, matrix = volume.array, volume.ijk_to_ras
    axes = matrix[:3, :3] / np.array(volume.spacing_mm)
    plane = ("sagittal", "coronal", "axial")[int(np.abs(axes[:, 2]).argmax())]
    yield "as it is", volume, plane
    count = len(array)
    if count >= 2 * FEWEST_SLICES:
        for name, part in (("one half", slice(0, count // 2)), ("other half", slice(count // 2, count))):
            moved = matrix.copy()
            moved[:, 3] = matrix @ [0, 0, part.start, 1]
            yield name, Volume(array[part], moved), plane
    turned = Volume(array.transpose(2, 1, 0), matrix[:, [2, 1, 0, 3]])
    yield "other order of axes", turned, straightened(turned, turned.array).plane  # thick slices stay what they are
    if kind == "label map":
        return
    rng = np.random.default_rng(0)
    low, high = np.percentile(array, (1, 99))
    floor = 0.0 if low >= 0 else -np.inf
    noisy = np.maximum(array + 0.07 * (high - low) * rng.standard_normal(array.shape).astype(np.float32), floor)
    yield "7 % noise", volume.like(noisy, "float32"), plane
    yield (
        "turned by 12 degrees",
        volume.like(ndimage.rotate(array, 12, (1, 2), reshape=False, order=1, mode="nearest")),
        plane,
    )
    pooled = ndimage.uniform_filter(array, (1, 2, 2))[:, ::2, ::2]
    yield "coarse voxels", Volume(pooled, matrix @ np.diag([2.0, 2.0, 1.0, 1.0])), plane
    if count >= 4 * FEWEST_SLICES:
        thick = array[: count // 4 * 4].reshape(-1, 4, *array.shape[1:]).mean(axis=1)
        yield "slices 4 times thicker", Volume(thick, matrix @ np.diag([1.0, 1.0, 4.0, 1.0])), plane
    if kind == "CT":
        yield "stored from 0", volume.like(array - array.min()), plane
        yield "windowed", volume.like(np.clip(array, -160, 240)), plane


def no_scans() -> Iterator[tuple[str, Volume]]:
    """Stacks of 24 cut-outs along a photograph, the photograph in all slices, and noise."""
    for name in PHOTOGRAPHS:
        picture = np.asarray(getattr(skimage.data, name)(), np.float32)
        picture = picture[..., :3].mean(axis=-1) if picture.ndim == 3 else picture
        side = min(picture.shape) * 2 // 3
        starts = np.linspace(0, max(picture.shape) - side, 24).astype(int)
        along = picture if picture.shape[0] >= picture.shape[1] else picture.T
        yield f"{name}, moving", Volume(np.stack([along[n : n + side, :side] for n in starts]), np.eye(4))
        yield f"{name}, still", Volume(np.repeat(picture[None, ::2, ::2], 16, axis=0), np.eye(4))
    rng = np.random.default_rng(1)
    for name, sigma in (("noise", 0.0), ("smooth noise", 3.0)):
        yield name, Volume(ndimage.gaussian_filter(rng.standard_normal((40, 64, 64)), sigma), np.eye(4))


def _first(found: dict) -> str:
    """The likeliest single answer."""
    return max(found["scores"], key=found["scores"].__getitem__)


def agrees(label: str, truth: str) -> bool:
    """Whether an answer is right: "MR" of every MR, two parts of the body of each of them."""
    return truth in label.split(" and ") or (label == "MR" and truth.startswith("MR "))


def measured(rows: list[dict], head: str) -> dict[str, float]:
    """Share answered, right answers among them, accuracy of the likeliest answer, and calibration error in 10 bins."""
    rows = [row for row in rows if row["truth"].get(head)]
    sure = np.array([row["what"][head]["confidence"] for row in rows])
    best = np.array([max(row["what"][head]["scores"].values()) for row in rows])
    right = np.array([_first(row["what"][head]) == row["truth"][head] for row in rows])
    answered = np.array([not row["what"][head]["unknown"] for row in rows])
    said = np.array([agrees(row["what"][head]["label"], row["truth"][head]) for row in rows])
    bins = np.minimum((best * 10).astype(int), 9)
    error = sum(abs(right[bins == n].mean() - best[bins == n].mean()) * (bins == n).mean() for n in set(bins.tolist()))
    return {
        "cases": len(rows),
        "answered": float(answered.mean()),
        "right": float(right.mean()),
        "right_of_answered": float(said[answered].mean()) if answered.any() else float("nan"),
        "calibration_error": float(error),
        "mean_confidence": float(sure.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the volumes of held_out.json")
    parser.add_argument("--model", default="recognise", help="name or bundle folder")
    parser.add_argument("--whole", action="store_true", help="only the volumes as they are")
    parser.add_argument("--output", type=Path, help="file for the numbers, as JSON")
    options = parser.parse_args()
    card = find(options.model)
    network, heads = build_network(card, load_state(card, "faithful")), heads_of(card)

    def seen(volume: Volume) -> Look:
        return look(network, heads, volume, volume.array)

    rows, guesses, seconds = [], [], []
    for name, kind, region, volume in held_out(options.data):
        for what, other, plane in altered(volume, kind):
            begun = time.process_time()
            found = seen(other).what
            seconds.append(time.process_time() - begun)
            truth = {"kind": kind, "region": region, "plane": plane if region else ""}
            rows.append({"name": name, "case": what, "truth": truth, "what": found})
            guess = looks_like(other.array.ravel(), other.voxel_type)
            guesses.append(guess[:2] == ("la" if kind == "label map" else "CT" if kind == "CT" else "MR"))
            said = ", ".join(f"{head} {found[head]['label']} {found[head]['confidence']:.2f}" for head in found)
            wrong = [head for head in found if truth[head] and not agrees(found[head]["nearest"], truth[head])]
            print(f"{name:24} {what:22} {said}{'   WRONG ' + ', '.join(wrong) if wrong else ''}", flush=True)
            if options.whole:
                break
    figures = {head.name: measured(rows, head.name) for head in heads}
    families = [row["what"]["kind"]["nearest"].split(" ")[0] == row["truth"]["kind"].split(" ")[0] for row in rows]
    figures["family"] = {"right": float(np.mean(families)), "range_guess_right": float(np.mean(guesses))}
    strangers = []
    for name, volume in no_scans():
        found = seen(volume).what["kind"]
        strangers.append(found["unknown"])
        if not found["unknown"]:
            print(f"{name:24} taken for {found['label']} {found['confidence']:.2f}")
    figures["no scan"] = {"cases": len(strangers), "unknown": float(np.mean(strangers))}
    figures["seconds"] = {"median": float(np.median(seconds)), "largest": max(seconds)}
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps({"figures": figures, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
