"""A head scan in another contrast (T1, T2, FLAIR), with what speaks against believing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from medgan.guards import MOST_PLACES, named_places
from medgan.inference import fill_not_finite
from medgan.models import ModelError
from medgan.networks.contrast import CONTRASTS, ContrastNet
from medgan.progress import Progress, part
from medgan.recognition.fits import SURE, recognised
from medgan.recognition.words import percent
from medgan.segmentation.grid import Grid, resampled
from medgan.settings import SynthesizeSettings, Target
from medgan.synthesis.scan import Run, channels_of, network_grid
from medgan.volume import LabelMap, Volume

HALF = 0.5
"""Where the median of the foreground lies in the unit of the network."""

CONTRADICTS = 0.12
UNSURE = 0.25
"""Means over 27 voxels, in that unit, from which a place is named."""


def unit_of(array: np.ndarray) -> float:
    """The factor that brings the median of the foreground of a scan to 0.5. Raises ``ValueError`` for an empty scan.

    The foreground is what is brighter than 15 % of the 99.5 percentile: brain and the rest of the head are of about
    the same brightness there, while the brightest voxels are fluid in one contrast and fat in another.
    """
    sample = array.ravel()[:: max(1, array.size // 2_000_000)]
    bright = 0.15 * float(np.percentile(sample, 99.5))
    foreground = sample[sample > max(bright, 0.0)]
    if len(foreground) < 0.001 * len(sample) or not float(np.ptp(foreground)) > 0:
        raise ValueError("The volume shows nothing to translate: its intensities are all the same, or hardly any is.")
    return HALF / float(np.median(foreground))


def translated_to(
    inputs: Mapping[str, Volume | LabelMap], settings: SynthesizeSettings, run: Run, progress: Progress
) -> tuple[dict[str, Volume], dict[str, Any]]:
    """On the grid of ``inputs["volume"]`` and in its unit:

    - "volume": the scan in the contrast ``settings.target``; the median of the foreground is that of the input,
    - "difference": the result translated back, minus the input: what the result does not explain of it,
    - "uncertainty": how far a voxel is likely to be off, by what the model learned of its own errors and by how far it
      disagrees with itself on the mirrored scan;

    and what is said of them: "consistency", "suspicions", the contrasts. Raises ``ValueError``.
    """
    volume = channels_of(inputs, run.card, 1, "Translation")[0]
    filled, broken = fill_not_finite(volume.array)
    filled = _from_zero(filled, run)
    unit = unit_of(filled)
    source, target = _codes(volume, settings, run)
    given = Grid(volume.shape, volume.ijk_to_ras)
    working = network_grid(given, run.card)
    image = np.clip(resampled(filled * unit, given, working), 0.0, None)
    answer = _asked(image, source, target, run, part(progress, 0.0, 0.4))
    mirrored = _asked(np.flip(image, 2).copy(), source, target, run, part(progress, 0.4, 0.7))[:, :, :, ::-1]
    empty = ndimage.maximum_filter(image, 3) <= 0.0
    result = np.where(empty, 0.0, np.clip(0.5 * (answer[0] + mirrored[0]), 0.0, None))
    factor = float(run.card.details.get("spread_factor", 1.0))
    unsure = np.where(empty, 0.0, np.hypot(factor * 0.5 * (answer[1] + mirrored[1]), 0.5 * (answer[0] - mirrored[0])))
    back = _asked(result.astype(np.float32), target, source, run, part(progress, 0.7, 1.0))[0]
    residual = np.where(empty, 0.0, np.clip(back, 0.0, None) - image)
    suspicions = _suspicions(residual, unsure, working.ijk_to_ras, 1.0 / unit)
    for array in (result, residual, unsure):
        array /= unit
    arrays = {"volume": result, "difference": residual, "uncertainty": unsure}
    volumes = {name: volume.like(resampled(array, working, given), "float32") for name, array in arrays.items()}
    if broken.any():
        volumes["volume"].array[broken] = np.nan
        run.told.append(f"{int(broken.sum())} voxels of the input are NaN or infinite; they are NaN in the result.")
    run.told.append(
        f"What only a real {CONTRASTS[target]} shows, such as many lesions, can not appear in a translated one."
    )
    inside = ~empty
    size = float(np.sqrt(np.mean(np.square(residual[inside])))) if inside.any() else 0.0
    return volumes, {
        "from": CONTRASTS[source],
        "to": CONTRASTS[target],
        "intensity_unit": "that of the input; the median of the foreground is the same",
        "consistency": {"residual_rms": size, "residual_share": size * unit / (2 * HALF)},
        "mean_uncertainty": float(unsure[inside].mean()) if inside.any() else 0.0,
        "suspicions": suspicions,
    }


def _from_zero(array: np.ndarray, run: Run) -> np.ndarray:
    """The scan with its darkest at 0, if many of its voxels are negative, as after standardising."""
    if float((array < 0).mean()) < 0.2:
        return np.clip(array, 0.0, None)
    run.told.append("Many voxels are negative; the darkest were taken for air.")
    return np.clip(array - float(np.percentile(array, 0.5)), 0.0, None)


def _codes(volume: Volume, settings: SynthesizeSettings, run: Run) -> tuple[int, int]:
    """Source and target as places in ``CONTRASTS``."""
    if not isinstance(run.network, ContrastNet):
        raise ModelError(f"Model '{run.card.name}' has the network {run.card.network}, which takes no contrast.")
    if settings.target is Target.ANY:
        raise ValueError("Choose the contrast to make: 'Contrast', or --target T1, T2 or FLAIR.")
    source = settings.source.value if settings.source is not Target.ANY else contrast_seen(recognised(volume))
    why = run.card.details.get("refused", {}).get(f"{source} to {settings.target.value}")
    if why:
        raise ValueError(f"Model '{run.card.name}' does not make a {settings.target.value} of a {source}: {why}")
    if settings.source is Target.ANY:
        run.told.append(f"The scan was taken for a {source}.")
    if source == settings.target.value:
        raise ValueError(
            f"The scan is a {source} already; choose another contrast to make ('Contrast', --target), or the one that "
            "it has ('Scan is', --source)."
        )
    return CONTRASTS.index(source), CONTRASTS.index(settings.target.value)


def contrast_seen(what: Mapping[str, Mapping[str, Any]]) -> str:
    """The contrast that a scan surely has, by what was recognised of it. Raises ``ValueError``: to translate the wrong
    one spoils the scan."""
    kind = what.get("kind", {"label": "", "confidence": 0.0})
    name = str(kind["label"]).removeprefix("MR ")
    if name in CONTRASTS and kind["confidence"] >= SURE:
        return name
    seen = "was not recognised"
    if name in CONTRASTS:
        seen = f"is not sure: it looks like a {name} ({percent(kind['confidence'])})"
    raise ValueError(f"The contrast of the scan {seen}; choose it under 'Scan is', or give --source T1, T2 or FLAIR.")


def _asked(image: np.ndarray, source: int, target: int, run: Run, progress: Progress) -> np.ndarray:
    """(2, D, H, W) result and error of an image (D, H, W)."""

    def call(network: nn.Module, tile: Tensor) -> Tensor:
        codes = (torch.tensor([code], device=tile.device) for code in (source, target))
        answer: Tensor = network(tile, *codes)
        return answer

    return run.tiles(call, image[None], progress)


def _suspicions(residual: np.ndarray, unsure: np.ndarray, ijk_to_ras: np.ndarray, unit: float) -> list[dict[str, Any]]:
    """Places that the result does not explain, or where the model is unsure, worst first, each with a sentence."""
    found = named_places("contradicts", ndimage.uniform_filter(residual, 3) * unit, CONTRADICTS * unit, ijk_to_ras)
    found += named_places("unsure", ndimage.uniform_filter(unsure, 3) * unit, UNSURE * unit, ijk_to_ras)
    found.sort(key=lambda place: -place.pop("severity"))
    return found[:MOST_PLACES]
