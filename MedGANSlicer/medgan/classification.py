"""Which of a person's own classes a volume belongs to, by a model that ``medgan train classify`` made.

The volume comes to the network as in the training, by the same functions: checked, turned to RAS, cut to the body, at
the training's spacing, in the middle of its cube.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import medgan
from medgan.inference import check_room, choose_device, in_ram, run_or_on_cpu
from medgan.models import ModelCard, ModelError, build_network, load_state
from medgan.progress import Progress, part, silent
from medgan.segmentation.grid import Grid, resampled
from medgan.settings import Device, TrainKind
from medgan.training import data_grid
from medgan.training.data_cache import cube, range_of, scaled
from medgan.training.data_cases import Case
from medgan.training.data_checks import load
from medgan.training.data_files import Found
from medgan.volume import Volume

UNKNOWN_BELOW = 0.6
"""Probability of the best class below which the answer is "unknown", unless the card says another."""

BYTES_PER_VOXEL = 40
"""Of the volume: its copies on the way to the network."""

BYTES_PER_VOXEL_OF_CUBE = 1500
"""Measured peak of the network with its gradients, and a third more."""

UNKNOWN = "unknown"


@dataclass
class Classified:
    """``what``: {"class": {"label", "title", "confidence", "unknown", "nearest", "scores"}}, plain JSON values.

    ``why``: which places spoke for it, 0 to 1 on the volume's grid; ``provenance``: of the model, for the report.
    """

    what: dict[str, Any]
    why: Volume | None = None
    messages: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)


def classes_of(card: ModelCard) -> list[str]:
    """The classes that a model knows. Raises :class:`ModelError` for one that is for something else."""
    if card.task != "classify":
        raise ModelError(f"Model '{card.name}' is for the task '{card.task}'; choose one for 'classify'.")
    held = card.details.get("classes")
    if not isinstance(held, list) or len(held) < 2 or not all(isinstance(name, str) for name in held):
        raise ModelError(f"Model '{card.name}' names no classes; mend \"classes\" in its metadata.json.")
    return held


def classify(
    card: ModelCard,
    volume: Volume,
    device: Device = Device.AUTO,
    memory_limit_gb: float = 0.0,
    progress: Progress = silent,
    saliency: str = "none",
    target: str = "",
) -> Classified:
    """The class of a volume, and with ``saliency`` ("grad-cam" or "occlusion") why it, or the class ``target``, fits.

    Raises ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done.
    """
    classes = classes_of(card)
    if target and target not in classes:
        raise ValueError(f"Setting 'target' names no class of the model: '{target}'; there are: {', '.join(classes)}.")
    if int(card.network_arguments.get("channels", 1)) != 1:
        raise ModelError(f"Model '{card.name}' takes several channels; one volume can not be classified by it.")
    spacing, side = _cube_of(card)
    chosen = choose_device(device)
    cube_bytes = side**3 * BYTES_PER_VOXEL_OF_CUBE if in_ram(chosen.device) else 0
    size = " x ".join(str(n) for n in reversed(volume.shape))
    check_room(
        volume.array.size * BYTES_PER_VOXEL + cube_bytes, int(memory_limit_gb * 1e9), f"Classifying {size} voxels"
    )
    progress(0.0, "Preparing the volume")
    image, grid, told = prepared(volume, spacing, side)
    key = "faithful" if "faithful" in card.weights else next(iter(card.weights))
    network = build_network(card, load_state(card, key))
    given = torch.from_numpy(image)[None, None]
    progress(0.3, "Classifying")

    def answered(device: torch.device) -> Tensor:
        with torch.no_grad():
            answer: Tensor = network.to(device)(given.to(device))
        return answer.float().cpu()

    logits, chosen, changed = run_or_on_cpu(answered, chosen)
    told += changed
    if logits.shape != (1, len(classes)):
        raise ModelError(f"Model '{card.name}' gives {logits.shape[-1]} answers for {len(classes)} classes.")
    sure = logits.softmax(dim=1)[0].tolist()
    best = int(np.argmax(sure))
    threshold = float(card.details.get("unknown_below", UNKNOWN_BELOW))
    unknown = sure[best] < threshold
    what = {
        "label": UNKNOWN if unknown else classes[best],
        "title": "Class",
        "confidence": sure[best],
        "unknown": unknown,
        "nearest": classes[best],
        "scores": dict(zip(classes, sure, strict=True)),
    }
    if unknown:
        told.append(f"No class reaches {100 * threshold:.0f} %; the nearest is '{classes[best]}'.")
    why = None
    if saliency != "none":
        from medgan.saliency import explain

        place = classes.index(target) if target else best

        def explained(device: torch.device) -> np.ndarray:
            return explain(network.to(device), given.to(device), place, saliency, progress=part(progress, 0.4, 1.0))

        found, chosen, changed = run_or_on_cpu(explained, chosen)
        told += changed
        back = resampled(found, grid, Grid(volume.shape, volume.ijk_to_ras))
        why = volume.like(np.clip(back, 0.0, 1.0), "float32")
    progress(1.0, "Done")
    provenance = {
        "model": card.name,
        "model_version": card.version,
        "model_sha256": {name: weight.sha256 for name, weight in card.weights.items()},
        "package_version": medgan.__version__,
        "device": chosen.name,
        "device_reason": chosen.reason,
    }
    return Classified({"class": what}, why, told, provenance)


def _cube_of(card: ModelCard) -> tuple[list[float], int]:
    """Spacing in mm along i, j, k and side in voxels of what the network was trained on."""
    try:
        spacing = [float(step) for step in card.details["spacing_mm"]]
        side = int(card.details["patch"])
        if len(spacing) == 3 and min(spacing) > 0 and 0 < side <= 512:
            return spacing, side
    except (KeyError, TypeError, ValueError):
        pass
    raise ModelError(f"Model '{card.name}' does not say the grid it works on; mend its metadata.json.")


def prepared(volume: Volume, spacing_mm: list[float], side: int) -> tuple[np.ndarray, Grid, list[str]]:
    """(side, side, side) float32 in 0..1 as in the training, where it lies, and what the person should know.

    Raises ``ValueError`` for a volume that shows nothing.
    """
    loaded = load(Case("The volume", "", {"image": [Found("The volume", volume=volume)]}), False)
    voxels = loaded.roles["image"]
    low, high = range_of(voxels.arrays[0], voxels.modality, TrainKind.CLASSIFY)
    array, matrix = data_grid.to_ras(scaled(voxels.arrays[0], low, high, TrainKind.CLASSIFY), voxels.matrix)
    box = data_grid.body_box([array])
    array, matrix = array[box], data_grid.moved_origin(matrix, box)
    array, matrix = data_grid.resampled(array, matrix, spacing_mm, labels=False)
    # Where the cube begins in the voxels of the array: what does not fit is cut off, what is missing is filled.
    start = [max(0, (length - side) // 2) - max(0, (side - min(length, side)) // 2) for length in array.shape]
    moved = data_grid.moved_origin(matrix, [slice(first, first + side) for first in start])
    return np.ascontiguousarray(cube(array, side)), Grid((side,) * 3, moved), list(loaded.messages)
