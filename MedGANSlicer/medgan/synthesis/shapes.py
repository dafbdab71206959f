"""Heads from noise: a label map of a model of shapes, and the volume that a model from labels makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgan.freesurfer import label
from medgan.labeltable import unnamed
from medgan.models import ModelError
from medgan.networks.shapes import ShapeNet
from medgan.progress import Progress, part
from medgan.settings import SynthesizeSettings
from medgan.synthesis.cards import PAINTER
from medgan.synthesis.labels import from_labels
from medgan.synthesis.latents import centred, latent_for
from medgan.synthesis.scan import Run, opened
from medgan.volume import LabelMap, Volume

FINEST_MM = 0.5


def from_shapes(
    settings: SynthesizeSettings, seed: int, mix: float, run: Run, progress: Progress
) -> tuple[Volume, LabelMap, dict[str, Any]]:
    """The head that a seed gives, or one ``mix`` of the way to the seed ``settings.toward``, its labels, and what is
    to be said of it. Axes along right, anterior, superior; the centre of the volume at the origin.

    Raises ``ValueError`` for voxels that are too small, and what :func:`from_labels` raises.
    """
    labels, said = shape_of(settings, seed, mix, run, part(progress, 0.0, 0.3))
    # Paint has no way between two seeds: the nearer one's is taken.
    nearer = settings.toward if settings.toward >= 0 and mix >= 0.5 else seed
    name = str(run.card.details.get("painter", PAINTER))
    painter = opened(name, (PAINTER,), "makes volumes of labels", run.chosen, run.memory_limit_bytes / 1e9)
    volume, labels, painted = from_labels({"labels": labels}, settings, nearer, painter, part(progress, 0.3, 1.0))
    run.chosen = painter.chosen
    run.told += painter.told
    weights = {key: weight.sha256 for key, weight in painter.card.weights.items()}
    painted["painted_by"] = {"model": name, "model_version": painter.card.version, "model_sha256": weights}
    if "folding" in painted:  # of the random deformation on top
        said["folding_of_shape"] = said.pop("folding")
    return volume, labels, {**said, **painted}


def shape_of(
    settings: SynthesizeSettings, seed: int, mix: float, run: Run, progress: Progress
) -> tuple[LabelMap, dict[str, Any]]:
    """The label map alone, and the latent vector that it was made of."""
    network = run.network
    if not isinstance(network, ShapeNet):
        raise ModelError(f"Model '{run.card.name}' has the network {run.card.network}, which makes no label map.")
    step = settings.spacing_mm or float((run.card.details.get("spacing_mm") or [1.0])[0])
    if step < FINEST_MM:
        raise ValueError(f"Voxels of {step:g} mm are finer than the model; set 'spacing_mm' to {FINEST_MM:g} or more.")
    latent = latent_for(settings, seed, mix, network.latent, network.components)
    shape = network.shape(latent, step, progress)
    spacing = [size / count for size, count in zip(network.size_mm, shape.labels.shape, strict=True)][::-1]
    found = [int(value) for value in np.unique(shape.labels) if value]
    named = {value: label(value) or unnamed(value) for value in found}
    said = {
        "latent": [round(float(weight), 4) for weight in latent[: network.components]],
        "base": network.chosen(latent),
        "folding": {"smallest_jacobian": round(shape.smallest_jacobian, 4)},
    }
    if shape.shortened < 1.0:
        said["shortened"] = round(shape.shortened, 4)
        run.told.append(
            f"The shape of this latent vector would fold; its weights were taken {shape.shortened:.2g} times instead."
        )
    return LabelMap(shape.labels, centred(shape.labels.shape, spacing), named), said
