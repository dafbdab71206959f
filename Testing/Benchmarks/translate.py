"""How near a translated scan comes to the real one: ``python Testing/Benchmarks/translate.py --data DIR``.

Heads that no training has seen, in T1, T2 and FLAIR: each contrast is made of each other one and compared with the
real scan, within the head, in a unit in which the median of the real foreground is 0.5 (PSNR counts from 0 to 1). The
methods besides the model: nothing at all, histogram matching to a training head in the wanted contrast, a
mean for each of four tissue classes (k-means; the classes' means in the wanted contrast from a training head), and the
fixed curve that the network starts as. Pairs that the model refuses are left out. ``--output FILE`` keeps the numbers
as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage.exposure import match_histograms
from skimage.metrics import structural_similarity

from medgan.models import find
from medgan.networks.contrast import CONTRASTS, laid_on
from medgan.recipes.contrast import fitted_curves
from medgan.recipes.contrast_data import TRAINING, VALIDATION, load_triples
from medgan.settings import SynthesizeSettings, Target
from medgan.synthesis.contrast import unit_of
from medgan.tasks import synthesize
from medgan.volume import Volume

REPORTED = {"stroke": ("mr/stroke_T1.nii.gz", "mr/stroke_T2.nii.gz", "mr/stroke_FLAIR.nii.gz")}
HEADS = {"reported": REPORTED, "validation": VALIDATION}
CLASSES = 4
Method = Callable[[np.ndarray, int, int], np.ndarray]


def class_means(image: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The means of four classes of brightness of the foreground, darkest first, by k-means."""
    values = np.sort(image[image > 0.05])[::50]
    means = np.quantile(values, (np.arange(CLASSES) + 0.5) / CLASSES) if start is None else start
    for _ in range(30):
        nearest = np.abs(values[:, None] - means).argmin(axis=1)
        means = np.array([values[nearest == n].mean() if (nearest == n).any() else means[n] for n in range(CLASSES)])
    return means


def peers(training: np.ndarray, curves: torch.Tensor) -> dict[str, Method]:
    """What the model is compared with, on images whose median of the foreground is 0.5."""

    def matched(image: np.ndarray, source: int, target: int) -> np.ndarray:
        result, inside = np.zeros_like(image), image > 0.05
        result[inside] = match_histograms(image[inside], training[target][training[target] > 0.05])
        return result

    def by_class(image: np.ndarray, source: int, target: int) -> np.ndarray:
        held, wanted = training[source], training[target]
        known = np.abs(held[..., None] - class_means(held)).argmin(axis=-1)
        inside = held > 0.05
        shown = np.array([wanted[inside & (known == n)].mean() for n in range(CLASSES)])
        means = class_means(image)
        return np.where(image > 0.05, np.interp(image, means, shown), 0.0)

    def by_curve(image: np.ndarray, source: int, target: int) -> np.ndarray:
        curve = curves[source, target][None, :, None, None, None].expand(-1, -1, *image.shape)
        return laid_on(curve, torch.from_numpy(image)[None, None])[0, 0].numpy()

    return {"unchanged": lambda image, *_: image, "histogram matching": matched, "mean of the class": by_class,
            "fixed curve": by_curve}  # fmt: skip


def figures(made: np.ndarray, real: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """PSNR and mean absolute error within the head, SSIM there."""
    off = made[inside] - real[inside]
    _, similar = structural_similarity(made, real, data_range=1.0, full=True)
    return {"psnr": float(-10 * np.log10(np.mean(off**2))), "ssim": float(similar[inside].mean()),
            "mae": float(np.abs(off).mean())}  # fmt: skip


def by_model(name: str, image: np.ndarray, source: int, target: int) -> dict[str, np.ndarray]:
    """Result, difference and uncertainty of a model, in the unit of the image."""
    settings = SynthesizeSettings(name, source=Target(CONTRASTS[source]), target=Target(CONTRASTS[target]))
    made = synthesize.run({"volume": Volume(image, np.eye(4))}, settings).volumes
    factor = unit_of(image) if unit_of(image) else 1.0
    return {
        what: made[key].array * factor for what, key in (("result", "sample 1"), ("unsure", "sample 1 uncertainty"))
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    options.add_argument("--model", default="translate")
    options.add_argument("--output", type=Path, help="JSON file for the numbers")
    options.add_argument("--heads", default="reported", choices=list(HEADS))
    options.add_argument("--picture", type=Path, help="PNG file for slices of every translation")
    chosen = options.parse_args()
    training = load_triples(chosen.data, TRAINING)
    methods = peers(training["mni26"].float().numpy(), fitted_curves(training, 10))
    card = find(chosen.model)
    print(card.title)
    refused = card.details.get("refused", {})
    found: dict[str, dict[str, dict[str, float]]] = {}
    pictures = []
    for name, triple in load_triples(chosen.data, HEADS[chosen.heads]).items():
        head = triple.float().numpy()
        inside = ndimage.binary_erosion(head.min(axis=0) > 0.05)
        for source, first in enumerate(CONTRASTS):
            for target, second in enumerate(CONTRASTS):
                if source == target or f"{first} to {second}" in refused:
                    continue
                rows = {key: figures(method(head[source], source, target), head[target], inside)
                        for key, method in methods.items()}  # fmt: skip
                begun = time.monotonic()
                made = by_model(chosen.model, head[source], source, target)
                rows["model"] = figures(made["result"], head[target], inside)
                off = np.abs(made["result"] - head[target])[inside]
                said = made["unsure"][inside]
                rows["model"] |= {"uncertainty / error": float(said.mean() / off.mean()), "uncertainty tells error (r)":
                                  float(np.corrcoef(said, off)[0, 1]), "seconds": time.monotonic() - begun}  # fmt: skip
                found[f"{name} {first} to {second}"] = rows
                pictures.append((head[source], made["result"], head[target], f"{first} to {second}"))
                print(f"{name} {first} to {second}", flush=True)
                for key, row in rows.items():
                    print(f"  {key:20}" + "  ".join(f"{what} {value:.3f}" for what, value in row.items()), flush=True)
    for key in next(iter(found.values())):
        means = {what: np.mean([rows[key][what] for rows in found.values()]) for what in ("psnr", "ssim", "mae")}
        print(f"mean {key:20}" + "  ".join(f"{what} {value:.3f}" for what, value in means.items()))
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if chosen.picture:
        draw(pictures, chosen.picture)


def draw(pictures: list[tuple[np.ndarray, np.ndarray, np.ndarray, str]], path: Path) -> None:
    """Source, result and real scan in one slice, a column for every translation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(3, len(pictures), figsize=(3 * len(pictures), 10))
    for column, (*images, title) in enumerate(pictures):
        for row, image in enumerate(images):
            axes[row, column].imshow(image[int(0.55 * len(image))], cmap="gray", vmin=0, vmax=1, origin="lower")
            axes[row, column].axis("off")
        axes[0, column].set_title(title)
    plt.tight_layout(pad=0.2)
    plt.savefig(path, dpi=60)


if __name__ == "__main__":
    main()
