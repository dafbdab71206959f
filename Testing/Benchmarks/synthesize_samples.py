"""What the benchmark of synthesis looks at: made brains, and the Gaussian-mixture rendering of the same label maps.

The baseline is what domain randomisation renders: at each voxel the mean of its label plus white noise, then a point
spread of half a voxel; the noise is made stronger before, so that each label keeps its standard deviation. It has the
very statistics that the model is told.

- "own labels": label maps found in the held-out scans (synthesize_real.classes), each scan as the reference. The same
  anatomy and contrast as a real scan, voxel by voxel.
- "heads": held-out label maps of other heads (FreeSurfer codes), bent at random, in the contrasts of the presets.
- "from noise": what brain-from-noise makes, label map and volume.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from synthesize_real import CONTRASTS, FIRST_OUTSIDE, box_of, brain_of, classes, heads, patient, unit

from medgan.settings import Contrast, Device, SynthesizeSettings
from medgan.tasks import synthesize
from medgan.volume import LabelMap, Volume

HELD_OUT_HEADS = ("synthseg_18", "synthseg_20")
BLUR = 0.5
DEFORMATION_MM = 3.0
METHODS = ("model", "mixture")


@dataclass
class Sample:
    """One made brain, the mixture of the same label map, and that map; 0 outside of the brain.

    0..1 by the robust range of the image, or, where there is one, by that of the scan that was the reference.
    """

    group: str
    contrast: str
    number: int
    model: np.ndarray
    mixture: np.ndarray
    labels: np.ndarray
    seconds: float

    @property
    def brain(self) -> np.ndarray:
        return self.labels > 0

    def image(self, method: str) -> np.ndarray:
        return self.model if method == "model" else self.mixture


def samples(data: Path, models: Mapping[str, str], count: int, seed: int, cache: Path) -> Iterator[Sample]:
    """Every sample, ``count`` of each contrast, from files in ``cache`` where they were made before.

    models: name or folder of the model for "own labels" and "heads" (key "labels") and for "from noise" ("noise").
    """
    cache.mkdir(parents=True, exist_ok=True)
    maps: list[LabelMap] = []
    for group in ("own labels", "heads", "from noise"):
        key = "noise" if group == "from noise" else "labels"
        if key not in models:
            continue
        for contrast in CONTRASTS:
            for number in range(count):
                path = cache / f"{group}_{contrast}_{number}.npz"
                if path.is_file():
                    yield _load(path)
                    continue
                if group == "heads" and not maps:
                    maps = heads(data, HELD_OUT_HEADS)
                number_seed = 1000 * seed + number
                if group == "own labels":
                    who = patient(data, "held out")
                    inputs = {"labels": classes(who), "reference": who.scans[contrast]}
                    sample = _made(group, contrast, number, models[key], inputs, number_seed, Contrast.REFERENCE)
                elif group == "heads":
                    inputs = {"labels": maps[number % len(maps)]}
                    sample = _made(group, contrast, number, models[key], inputs, number_seed, Contrast(contrast))
                else:
                    sample = _made(group, contrast, number, models[key], {}, number_seed, Contrast(contrast))
                _save(sample, path)
                print(f"made {group}, {contrast}, {number + 1} of {count}: {sample.seconds:.0f} s", flush=True)
                yield sample


def _made(
    group: str,
    contrast: str,
    number: int,
    model: str,
    inputs: Mapping[str, Volume | LabelMap],
    seed: int,
    kind: Contrast,
) -> Sample:
    begun = time.monotonic()
    bent = DEFORMATION_MM if group == "heads" else 0.0
    settings = SynthesizeSettings(model, contrast=kind, deformation_mm=bent, seed=seed, device=Device.CPU)
    outputs = synthesize.run(inputs, settings)
    about = outputs.report["samples"][0]
    image, labels = outputs.volumes[about["volume"]], outputs.volumes[about["labels"]]
    assert isinstance(image, Volume)
    seconds = time.monotonic() - begun
    array, codes = image.array, labels.array.astype(np.int32)
    if codes.max() >= FIRST_OUTSIDE:
        brain = brain_of(codes)
        box = box_of(brain)
        array, codes = np.where(brain, array, 0.0)[box], np.where(brain, codes, 0)[box]
    told = {int(value): (entry["mean"], entry["sd"]) for value, entry in about["intensities"].items()}
    plain = rendered(codes, told, seed)
    made, plain = (np.where(codes > 0, each, 0.0).astype(np.float32) for each in (array, plain))
    reference = inputs.get("reference")
    like = reference if isinstance(reference, Volume) else None  # volume and statistics come in its unit
    model_image, mixture = (unit(Volume(each, image.ijk_to_ras), like) for each in (made, plain))
    return Sample(group, contrast, number, model_image, mixture, codes, seconds)


def rendered(labels: np.ndarray, told: Mapping[int, tuple[float, float]], seed: int) -> np.ndarray:
    """The Gaussian-mixture rendering of a label map with these means and standard deviations."""
    values, index = np.unique(labels, return_inverse=True)
    mean, spread = (np.array([told[int(value)][part] for value in values])[index] for part in (0, 1))
    noise = np.random.default_rng(seed).standard_normal(labels.shape)
    kernel = np.zeros((9, 9, 9))
    kernel[4, 4, 4] = 1.0
    left = np.sqrt(np.square(ndimage.gaussian_filter(kernel, BLUR)).sum())  # of the noise, after the point spread
    image = mean.reshape(labels.shape) + spread.reshape(labels.shape) * noise / left
    return ndimage.gaussian_filter(image, BLUR).astype(np.float32)


def _save(sample: Sample, path: Path) -> None:
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part, model=sample.model.astype(np.float16), mixture=sample.mixture.astype(np.float16),
        labels=sample.labels.astype(np.int16), about=np.array([sample.group, sample.contrast, str(sample.number)]),
        seconds=sample.seconds,
    )  # fmt: skip
    part.replace(path)


def _load(path: Path) -> Sample:
    with np.load(path) as held:
        group, contrast, number = held["about"].tolist()
        arrays = [held[name].astype(np.float32) for name in METHODS]
        return Sample(group, contrast, int(number), *arrays, held["labels"].astype(np.int32), float(held["seconds"]))
