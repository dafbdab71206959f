"""A volume in another contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medgan.models import ModelError
from medgan.progress import Progress
from medgan.synthesis.scan import Run, channels_of, prepared, usual_range
from medgan.volume import LabelMap, Volume


def translated(inputs: Mapping[str, Volume | LabelMap], run: Run, progress: Progress) -> tuple[Volume, dict[str, Any]]:
    """The result on the grid of ``inputs["volume"]``, and what its intensities mean."""
    takes = int(run.card.network_arguments.get("in_channels", 1))
    if int(run.card.network_arguments.get("out_channels", 1)) != 1:
        raise ModelError(f"Model '{run.card.name}' answers with several channels; choose one that answers with one.")
    volumes = channels_of(inputs, run.card, takes, "Translation")
    scan = prepared(volumes, run)
    answer = run.tiles(lambda network, tile: network(tile), scan.channels, progress)[0]
    result = np.clip(scan.back(answer), 0.0, None)
    usual = usual_range(run.card, "target")
    if usual is not None:
        result = usual.invert(result)
        unit = "typical of the target volumes that the model was trained on"
    else:
        unit = "0 is the darkest, 1 the brightest of the target volumes"
        run.told.append("The model does not say which intensities its results have; they go from 0 to about 1.")
    if scan.broken.any():
        result = np.where(scan.broken, np.nan, result).astype(np.float32)
        run.told.append("Voxels of the input that are NaN or infinite are NaN in the result.")
    return volumes[0].like(result, "float32"), {"intensity_unit": unit}
