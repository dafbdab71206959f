"""Segment one volume: name the structure that each voxel belongs to, and measure what was found.

Reads ``inputs["volume"]`` and, for networks with several channels, ``"volume 2"``, ``"volume 3"`` and so on, which
are resampled onto the grid of the first. Returns on the grid of the first

- ``"labels"``: a label map with names, colours and terminology,
- ``"uncertainty"``: the normalised entropy of the network's answers, 0 to 1, when asked for,

and a report of plain JSON values, with one row a segment in ``report["segments"]``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import medgan
from medgan.inference import check_room, choose_device, fill_not_finite, set_deterministic
from medgan.models import ModelCard, ModelError, build_network, find, load_state
from medgan.noise import padding_as_air
from medgan.progress import Progress, part, silent
from medgan.recognition.fits import fits
from medgan.segmentation.coarse import channels_of, groups_of
from medgan.segmentation.description import Description, Part, describe
from medgan.segmentation.finer import with_finer_slices
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.segmentation.intensities import (
    FAT_HU,
    background_of,
    body_box,
    in_unit_of_network,
    may_not_be_hounsfield,
    windowed,
)
from medgan.segmentation.network import Runner, may_be_mirrored
from medgan.segmentation.pieces import cleaned, filled
from medgan.segmentation.result import entropy, indices_on, measures, values_of
from medgan.settings import SegmentSettings
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

BYTES_OF_RESULT = 20
"""Bytes for each voxel of the input that finding its label takes at most."""


def run(inputs: Mapping[str, Volume | LabelMap], settings: SegmentSettings, progress: Progress = silent) -> Outputs:
    """Segment the volume as the settings say. The inputs are not changed.

    The same input, settings and device give the same labels. Raises ``ValueError`` (and its kinds ``ModelError``,
    ``MemoryRefused``) with one sentence for what can not be done, ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    progress(0.0, "Loading the model")
    card = find(settings.model)
    description = describe(card)
    groups = groups_of(description, card.name) if settings.coarse else ()
    volumes = channels(inputs, description, card.name)
    set_deterministic(settings.seed)
    chosen = choose_device(settings.device)
    limit = int(settings.memory_limit_gb * 1e9)
    size = " x ".join(str(n) for n in reversed(volumes[0].shape))
    check_room(volumes[0].array.size * BYTES_OF_RESULT, limit, f"Segmenting {size} voxels")
    keys = list(card.weights)
    network = build_network(card, load_state(card, "faithful" if "faithful" in keys else keys[0]))
    runner = Runner(network, description, card.name, chosen, limit, list(description.notes))

    progress(0.02, "Preparing the volume")
    source = Grid(volumes[0].shape, volumes[0].ijk_to_ras)
    spacing = (settings.spacing_mm,) * 3 if settings.spacing_mm > 0 else description.spacing_mm
    working = working_grid(source, spacing, description.orientation)
    image, working = prepared(volumes, working, description, runner, part(progress, 0.02, 0.3))
    runner.told += fits(card, volumes[0])
    shortest = min(side * step for side, step in zip(reversed(source.shape), volumes[0].spacing_mm, strict=True))
    if shortest < description.least_extent_mm:
        runner.told.append(
            f"The scan covers only {shortest:.3g} mm along one axis; '{card.name}' expects at least "
            f"{description.least_extent_mm:g} mm and may confuse structures and sides."
        )
    axis = _mirror_axis(working, description, settings.flips, runner.told)
    probabilities = runner.probabilities(image, axis, part(progress, 0.3, 0.82))
    parts: Sequence[Part] = description.parts
    if groups:
        probabilities = grouped(probabilities, channels_of(groups, description))
        parts = [group.part for group in groups]
    unsure = entropy(probabilities) if settings.uncertainty else None
    moved_ml = 0.0
    if settings.clean_up:
        progress(0.84, "Cleaning up")
        if description.enclosed:
            values = [part.value for part in parts]
            index = 1 + (values.index(description.enclosed) if description.enclosed in values else 0)
            moved_ml = filled(probabilities, index) * working.voxel_ml
        smallest = description.smallest_piece_ml / working.voxel_ml
        moved_ml += cleaned(probabilities, parts, smallest)[1] * working.voxel_ml
    indices = indices_on(probabilities, working, source, part(progress, 0.86, 0.97))
    del probabilities
    progress(0.97, "Measuring")
    labels = LabelMap(values_of(indices, parts), volumes[0].ijk_to_ras.copy(), {p.value: p.label for p in parts})
    outputs: dict[str, Volume | LabelMap] = {"labels": labels}
    if unsure is not None:
        outputs["uncertainty"] = volumes[0].like(np.clip(resampled(unsure, working, source), 0.0, 1.0), "float32")
    doubt = outputs["uncertainty"].array if unsure is not None else None
    segments = measures(labels.array, volumes[0], labels.labels, doubt)
    if not any(row["voxels"] for row in segments):
        runner.told.append(f"'{card.name}' found nothing of what it knows; is this the kind of scan it is made for?")
    report = _report(card, settings, runner, begun)
    report.update(
        segments=segments,
        working_size_voxels=list(working.shape[::-1]),
        working_spacing_mm=[float(f"{step:.6g}") for step in np.linalg.norm(working.ijk_to_ras[:3, :3], axis=0)],
        mirrored=axis is not None,
        cleaned_ml=round(moved_ml, 4),
    )
    progress(1.0, "Done")
    return Outputs(outputs, report)


def channels(inputs: Mapping[str, Volume | LabelMap], description: Description, model: str) -> list[Volume]:
    """The volumes in the order of the network's channels. Raises ``ValueError`` for a wrong number or kind."""
    named = ["volume", *(f"volume {n}" for n in range(2, len(inputs) + 2))]
    given = [inputs[name] for name in named if name in inputs]
    volumes = [volume for volume in given if isinstance(volume, Volume)]
    if not volumes or len(volumes) < len(given) or "volume" not in inputs:
        raise ValueError("Segmentation needs a scalar volume, given as 'volume' (further channels as 'volume 2', ...).")
    wanted = description.channels
    if len(volumes) != len(wanted):
        said = f"{len(wanted)} channels ({', '.join(wanted)})" if len(wanted) > 1 else "one channel"
        raise ModelError(f"Model '{model}' takes {said}, and {len(volumes)} were given; choose as many volumes.")
    return volumes


def prepared(
    volumes: Sequence[Volume], working: Grid, description: Description, runner: Runner, progress: Progress = silent
) -> tuple[np.ndarray, Grid]:
    """Float32 channels (C, D, H, W) as the network wants them, and their grid: the part of ``working`` with a body."""
    arrays, uniform, told = [], [], runner.told
    for number, volume in enumerate(volumes):
        filled, broken = fill_not_finite(volume.array)
        if broken.any():
            told.append(f"{int(broken.sum())} voxels were not finite numbers; the model saw values filled in.")
        uniform.append(filled.min() == filled.max())
        if all(uniform) and number == len(volumes) - 1:
            raise ValueError(f"Every voxel of the volume is {float(filled.min()):g}; there is nothing to segment.")
        if may_not_be_hounsfield(filled, description.intensities):
            told.append(
                f"No voxel is darker than {FAT_HU:g}, so these may not be Hounsfield units, in which '{runner.model}' "
                "expects CT (air is -1000); rescale them if there is air in the scan."
            )
        array = windowed(padding_as_air(filled), description.intensities)
        source, outside = Grid(volume.shape, volume.ijk_to_ras), background_of(array)
        if description.thick_slices:
            wanted = float(np.linalg.norm(working.ijk_to_ras[:3, :3], axis=0).min())
            array, source, card = with_finer_slices(
                array, source, wanted, description.thick_slices, runner.chosen, runner.memory_limit_bytes / 1e9, told,
                part(progress, number / len(volumes), (number + 1) / len(volumes)),
            )  # fmt: skip
            runner.before |= {card.name: card} if card else {}
        arrays.append(resampled(array, source, working, outside))
    if description.intensities.of_the_body:
        boxes = [body_box(array, working) for array in arrays]
        box = tuple(slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(3))
        arrays, working = [array[box] for array in arrays], working.box(box)
    return in_unit_of_network(arrays, description.intensities), working


def grouped(probabilities: np.ndarray, members: Sequence[Sequence[int]]) -> np.ndarray:
    """(G + 1, D, H, W) probability of background and of each group of labels; ``members`` count without background.

    What is in no group joins the background.
    """
    result = np.stack([probabilities[[n + 1 for n in group]].sum(axis=0) for group in members])
    return np.concatenate([np.maximum(0.0, 1.0 - result.sum(axis=0, keepdims=True)), result]).astype(np.float32)


def _mirror_axis(working: Grid, description: Description, wanted: bool, told: list[str]) -> int | None:
    """The array axis from left to right, if the volume is to be mirrored along it."""
    if not wanted or not description.mirror:
        return None
    if not may_be_mirrored(description.parts):
        told.append(
            "Some labels of the model have no partner on the other side of the body, so the volume was not mirrored."
        )
        return None
    directions = working.ijk_to_ras[:3, :3] / np.linalg.norm(working.ijk_to_ras[:3, :3], axis=0)
    return 2 - int(np.argmax(np.abs(directions[0])))


def _report(card: ModelCard, settings: SegmentSettings, runner: Runner, begun: float) -> dict[str, Any]:
    return {
        "task": "segment",
        "model": card.name,
        "model_version": card.version,
        "model_sha256": {key: weight.sha256 for key, weight in card.weights.items()},
        "slices_divided_by": {
            name: {"version": other.version, "sha256": {key: file.sha256 for key, file in other.weights.items()}}
            for name, other in runner.before.items()
        },
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "package_version": medgan.__version__,
        "device": runner.chosen.name,
        "device_reason": runner.chosen.reason,
        "seconds": round(time.monotonic() - begun, 2),
        "messages": runner.told,
        "synthetic": False,
    }
