"""Show where a volume is unlike what a model was trained on, and the regions where it is most unlike.

Reads ``inputs["volume"]`` (further channels as "volume 2", ..., for autoencoders that take several); returns on its
grid

- "anomaly": of the shipped model a score of 0 to 1; of an autoencoder the smoothed absolute error of the
  reconstruction, in units of the error that the model usually makes,
- "reconstruction": what the volume would look like without anomalies, as far as the model knows, in the unit of the
  input.

A large value says that the model does not know this, no more: it may be a lesion, an artefact, a rare anatomy or
another scanner.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medgan.anomaly import BRIGHT, smoothed_error, usual_error
from medgan.anomaly_regions import RESEARCH, regions
from medgan.inference import choose_device, set_deterministic
from medgan.progress import Progress, part, silent
from medgan.recognition.fits import fits
from medgan.settings import AnomalySettings
from medgan.synthesis.scan import Run, channels_of, opened, prepared
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

HIGH = 3.0
"""An error of so many times the usual one is remarkable."""

UNLIKE = 2.0
"""A volume whose mean error is that of so many usual ones is unlike the training volumes as a whole."""


@dataclass
class Mapped:
    """The map and the reconstruction on the grid of the input, where the map counts (bool), what more is to be
    reported, and the threshold of a region unless another is wanted."""

    anomaly: np.ndarray
    reconstruction: np.ndarray
    inside: np.ndarray
    said: dict[str, Any]
    threshold: float


def run(inputs: Mapping[str, Volume | LabelMap], settings: AnomalySettings, progress: Progress = silent) -> Outputs:
    """Map the anomalies of ``inputs["volume"]``. The input is not changed.

    Raises ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done,
    ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    progress(0.0, "Loading the model")
    set_deterministic(0)
    work = opened(settings.model, ("anomaly", "autoencoder"), "maps anomalies", choose_device(settings.device),
                  settings.memory_limit_gb)  # fmt: skip
    volumes = channels_of(inputs, work.card, int(work.card.network_arguments.get("channels", 1))
                          if work.card.task == "autoencoder" else 1, "A map of anomalies")  # fmt: skip
    work.told += fits(work.card, volumes[0])
    made = _by_autoencoder if work.card.task == "autoencoder" else _by_healthy
    found = made(volumes, work, part(progress, 0.02, 0.97))
    threshold = settings.threshold or found.threshold
    anomaly = volumes[0].like(found.anomaly, "float32")
    progress(0.98, "Measuring the regions")
    regional = regions(anomaly, threshold, settings.smallest_ml)
    counted = found.anomaly[found.inside] if found.inside.any() else found.anomaly.reshape(-1)
    report = work.report("anomaly", settings.to_dict(), time.monotonic() - begun)
    report |= found.said | {
        "mean": float(counted.mean()),
        "largest": float(found.anomaly.max()),
        "threshold": threshold,
        "share_above": float((counted >= threshold).mean()),
        "regions": regional,
        "research": RESEARCH,
    }
    progress(1.0, "Done")
    return Outputs({"anomaly": anomaly, "reconstruction": volumes[0].like(found.reconstruction, "float32")}, report)


def _by_healthy(volumes: list[Volume], work: Run, progress: Progress) -> Mapped:
    from medgan.anomaly_healthy import mapped

    found = mapped(volumes[0], work, progress)
    inside = (found.brain > 0.5) & ~found.broken
    said = {"unit": "score of an anomaly, 0 to 1", "brain_ml": round(found.brain_ml, 1)}
    return Mapped(found.anomaly, found.restored, inside, said, float(work.card.details.get("threshold", 0.5)))


def _by_autoencoder(volumes: list[Volume], work: Run, progress: Progress) -> Mapped:
    scan = prepared(volumes, work)
    answer = work.tiles(lambda network, tile: network(tile), scan.channels, part(progress, 0.03, 0.95))
    progress(0.96, "Measuring the error")
    error = smoothed_error(torch.from_numpy(scan.channels)[None], torch.from_numpy(answer)[None])[0, 0]
    inside = torch.from_numpy(scan.channels.mean(axis=0) > BRIGHT)
    usual, source = _usual(work, error, inside)
    relative = (error / usual).numpy()
    bright = relative[inside.numpy()] if bool(inside.any()) else relative.reshape(-1)
    if source == "model" and float(bright.mean()) > UNLIKE:
        work.told.append(
            f"The mean error is {float(bright.mean()):.1f} times the usual one: the whole volume is unlike those that "
            "the model was trained on, so the map says little about single places."
        )
    reconstruction = scan.normalisations[0].invert(scan.back(np.clip(answer[0], 0.0, None)))
    said = {
        "unit": "error of a usual voxel" if source == "model" else "mean error of this volume",
        "usual_error": usual,
        "usual_error_source": source,
    }
    anomaly = np.where(scan.broken, 0.0, np.maximum(scan.back(relative), 0.0)).astype(np.float32)
    where = scan.back(inside.numpy().astype(np.float32)) > 0.5
    return Mapped(anomaly, reconstruction, where, said, HIGH)


def _usual(work: Run, error: torch.Tensor, inside: torch.Tensor) -> tuple[float, str]:
    """The error that counts as 1, and whether the "model" says it or the "volume" itself."""
    held = work.card.details.get("usual_error")
    if isinstance(held, (int, float)) and held > 0:
        return float(held), "model"
    work.told.append("The model does not say which error is usual for it; this volume's own mean error counts as 1.")
    return usual_error(error, inside), "volume"
