"""The figures of synthesis: how near made brains are to real ones, and how different from one another.

- distribution: crops of 32 voxels as points of the shipped network "features": Fréchet distance, KID, RBF-MMD on random
  subsets of equal size, of made crops against those of the held-out patient in the same contrast. Floors: two halves of
  his own crops, and the crops of the other real patient.
- histograms: Wasserstein-1 distance between the intensities that a label has in the made brain and in the real one, in
  percent of the range, mean over the labels by their size ("own labels" only: the same voxels).
- texture: patch MMD of ``figures.py``, same group.
- noise: distance of the noise power spectra in dB: of what is left in each label after its mean was taken off, away
  from borders ("own labels": the same voxels); and of all that is finer than 2 voxels, in every group.
- diversity: MS-SSIM of pairs of brains of one contrast, cut to the brain and brought to 48 x 48 x 48 voxels; for real
  brains, pairs of patients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from figures import patch_mmd, spectrum_distance
from scipy import ndimage
from scipy.stats import wasserstein_distance
from synthesize_real import CONTRASTS, Patient, box_of, unit
from synthesize_samples import METHODS, Sample

from medgan.evaluation.distributions import SetPair, frechet, kid, median_distance, mmd, on_subsets
from medgan.evaluation.features import crop_features
from medgan.evaluation.sets import reduced
from medgan.evaluation.similarity import ImagePair, ms_ssim
from medgan.volume import Volume

DISTANCES: dict[str, Callable[[SetPair], float]] = {"frechet": frechet, "kid": kid, "mmd": mmd}
FEWEST = 500
"""Voxels of a label that is compared."""

FINE = 2.0


def points(image: np.ndarray) -> np.ndarray:
    """(n, 128) the crops of a brain in the space of the feature network."""
    return crop_features(Volume(image, np.eye(4)))


def distribution(made: Sequence[np.ndarray], real: np.ndarray, seed: int) -> dict[str, float]:
    """Mean of each distance over random subsets of equal size; made: points of several brains, real: of one patient."""
    pair = SetPair(np.concatenate(made), real, width=median_distance(real))
    return {name: float(np.mean(on_subsets(pair, figure, seed)[0])) for name, figure in DISTANCES.items()}


def floors(real: np.ndarray, other: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """The same distances where both sides are real: two halves of one patient, and two patients."""
    pair = SetPair(other, real, width=median_distance(real))
    found = {name: on_subsets(pair, figure, seed) for name, figure in DISTANCES.items()}
    return {
        "same patient": {name: float(np.mean(floor)) for name, (_, floor, _) in found.items()},
        "other patient": {name: float(np.mean(values)) for name, (values, _, _) in found.items()},
    }


def voxel_by_voxel(sample: Sample, method: str, who: Patient) -> dict[str, float]:
    """Figures of a brain that was made from labels of a real scan, against that scan."""
    real, made = unit(who.scans[sample.contrast]), sample.image(method)
    inside = sample.brain & who.brain
    return {
        "histogram": histogram_distance(made, real, sample.labels),
        "texture": patch_mmd(made, real, inside, 1.0),
        "noise": spectrum_distance(*(left_over(image, sample.labels) for image in (made, real)), inside),
    }


def histogram_distance(made: np.ndarray, real: np.ndarray, labels: np.ndarray) -> float:
    """Wasserstein-1 distance of the intensities of each label, % of the range, weighted by the size of the labels."""
    total = weight = 0.0
    for value in np.unique(labels[labels > 0]):
        here = labels == value
        if here.sum() >= FEWEST:
            step = max(1, int(here.sum()) // 50_000)
            total += here.sum() * wasserstein_distance(made[here][::step], real[here][::step])
            weight += here.sum()
    return 100.0 * total / weight


def left_over(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image less the mean of its label, in the inside of labels; 0 elsewhere."""
    values, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    inside = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    inside &= labels > 0
    count = np.maximum(np.bincount(index[inside], minlength=len(values)), 1)
    mean = np.bincount(index[inside], weights=image[inside], minlength=len(values)) / count
    return np.where(inside, image - mean[index], 0.0)


def spectrum(image: np.ndarray) -> np.ndarray:
    """Power in dB in 16 shells of frequency from 0.1 to 0.5 cycles a voxel, of the middle 96 voxels of a brain."""
    middle = [slice(max(0, (side - 96) // 2), max(0, (side - 96) // 2) + min(96, side)) for side in image.shape]
    part = image[tuple(middle)]
    fine = part - ndimage.gaussian_filter(part, FINE)
    window = np.ones(part.shape)
    for axis, side in enumerate(part.shape):
        window *= np.hanning(side + 2)[1:-1].reshape([-1 if other == axis else 1 for other in range(3)])
    power = np.abs(np.fft.fftn(fine * window)) ** 2 / np.square(window).sum()
    frequency = np.sqrt(sum(each**2 for each in np.meshgrid(*map(np.fft.fftfreq, part.shape), indexing="ij")))
    shell = np.digitize(frequency.ravel(), np.linspace(0.1, 0.5, 17))
    totals = np.bincount(shell, power.ravel(), 18)[1:17] / np.maximum(np.bincount(shell, minlength=18)[1:17], 1)
    return 10.0 * np.log10(totals + 1e-12)


def spectra_apart(made: Sequence[np.ndarray], real: np.ndarray) -> float:
    """Root mean square difference in dB of the mean spectrum of made brains and that of a real one."""
    return float(np.sqrt(np.mean((np.mean(made, axis=0) - real) ** 2)))


def alike(images: Sequence[np.ndarray]) -> list[float]:
    """MS-SSIM of every pair of brains."""
    held = [reduced(image[box_of(image > 0)]) for image in images]
    found = (ms_ssim(ImagePair(one, other, 1.0)) for one, other in itertools.combinations(held, 2))
    return [value for value in found if value is not None]


def all_figures(
    samples: Sequence[Sample], held_out: Patient, other: Patient, keep: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Every figure by group, method and contrast. ``keep(kind, make, *arrays)`` remembers what takes long."""

    def place(image: np.ndarray) -> np.ndarray:
        return np.array(keep("points", lambda: points(image).tolist(), image))

    real = {c: unit(held_out.scans[c]) for c in CONTRASTS}
    rows: list[dict[str, Any]] = []
    for c in CONTRASTS:
        two = unit(other.scans[c])
        one, also = place(real[c]), place(two)
        for name, found in keep("floors", lambda o=one, a=also: floors(o, a, 0), one, also).items():
            rows.append({"group": "real", "method": name, "contrast": c, **found})
        rows[-1]["fine noise"] = spectra_apart([spectrum(two)], spectrum(real[c]))
        rows[-1]["alike"] = float(np.mean(keep("alike", lambda c=c, t=two: alike([real[c], t]), real[c], two)))
    for group in dict.fromkeys(sample.group for sample in samples):
        for method, c in itertools.product(METHODS, CONTRASTS):
            these = [sample for sample in samples if (sample.group, sample.contrast) == (group, c)]
            if not these:
                continue
            images, target = [sample.image(method) for sample in these], place(real[c])
            places = [place(image) for image in images]
            row: dict[str, Any] = {"group": group, "method": method, "contrast": c}
            row |= keep("distances", lambda p=places, t=target: distribution(p, t, 0), *places, target)
            row["fine noise"] = spectra_apart([spectrum(image) for image in images], spectrum(real[c]))
            if group == "own labels":
                found = [
                    keep("voxels", lambda s=s, m=method: voxel_by_voxel(s, m, held_out), image, real[c])
                    for s, image in zip(these, images, strict=True)
                ]
                row |= {name: float(np.mean([each[name] for each in found])) for name in found[0]}
            elif len(images) > 1:
                row["alike"] = float(np.mean(keep("alike", lambda i=images: alike(i), *images)))
            rows.append(row)
    return rows
