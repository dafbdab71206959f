"""Show where a volume is unlike what an autoencoder was trained on.

Reads ``inputs["volume"]`` (further channels as "volume 2", ...); returns on its grid

- "anomaly": the smoothed absolute error of the reconstruction, in units of the error that the model usually makes,
- "reconstruction": what the model says again, in the unit of the input.

A large value says that the model can not say this again, no more: it may be a lesion, an artefact, a rare anatomy or
another scanner.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

from medgan.anomaly import smoothed_error, usual_error
from medgan.inference import choose_device, set_deterministic
from medgan.progress import Progress, part, silent
from medgan.settings import AnomalySettings
from medgan.synthesis.scan import Run, channels_of, opened, prepared
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

BRIGHT = 0.05
"""Voxels darker than this, of 0 to 1, are background."""

HIGH = 3.0
"""An error of so many times the usual one is remarkable."""

UNLIKE = 2.0
"""A volume whose mean error is that of so many usual ones is unlike the training volumes as a whole."""


def run(inputs: Mapping[str, Volume | LabelMap], settings: AnomalySettings, progress: Progress = silent) -> Outputs:
    """Map the anomalies of ``inputs["volume"]``. The input is not changed.

    Raises ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done,
    ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    progress(0.0, "Loading the model")
    set_deterministic(0)
    work = opened(settings.model, ("autoencoder",), "maps anomalies", choose_device(settings.device),
                  settings.memory_limit_gb)  # fmt: skip
    volumes = channels_of(inputs, work.card, int(work.card.network_arguments.get("channels", 1)), "A map of anomalies")
    scan = prepared(volumes, work)
    answer = work.tiles(lambda network, tile: network(tile), scan.channels, part(progress, 0.05, 0.9))
    progress(0.92, "Measuring the error")
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
    normal, first = scan.normalisations[0], volumes[0]
    reconstruction = normal.invert(scan.back(np.clip(answer[0], 0.0, None)))
    outputs: dict[str, Volume | LabelMap] = {
        "anomaly": first.like(np.where(scan.broken, 0.0, np.maximum(scan.back(relative), 0.0)), "float32"),
        "reconstruction": first.like(reconstruction, "float32"),
    }
    report = work.report("anomaly", settings.to_dict(), time.monotonic() - begun)
    report |= {
        "unit": "error of a usual voxel" if source == "model" else "mean error of this volume",
        "usual_error": usual,
        "usual_error_source": source,
        "mean": float(bright.mean()),
        "largest": float(relative.max()),
        "share_above_3": float((bright > HIGH).mean()),
    }
    progress(1.0, "Done")
    return Outputs(outputs, report)


def _usual(work: Run, error: torch.Tensor, inside: torch.Tensor) -> tuple[float, str]:
    """The error that counts as 1, and whether the "model" says it or the "volume" itself."""
    held = work.card.details.get("usual_error")
    if isinstance(held, (int, float)) and held > 0:
        return float(held), "model"
    work.told.append("The model does not say which error is usual for it; this volume's own mean error counts as 1.")
    return usual_error(error, inside), "volume"
