"""One sample of a set made again from what stands beside it, and whether it came out the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.batch import FileFailed
from medgan.job import JobState
from medgan.settings import SynthesizeSettings
from medgan.synthesis.files import check_targets, computed
from medgan.synthesis.set_layouts import labels_beside
from medgan.synthesis.set_samples import Sample, Source, fingerprint, task_of, weights_of
from medgan.synthesis.set_sidecars import read_sidecar, voxels_sha256, write_sample
from medgan.synthesis.sets import inputs_of
from medgan.volume import LabelMap, Volume, VolumeError, read_volume


def again(
    described: Path,
    target: Path | None = None,
    sources: Sequence[Path] = (),
    overwrite: bool = False,
    watch: Callable[[JobState], None] = lambda state: None,
) -> dict[str, Any]:
    """Make the sample again beside which ``described`` lies, and write it to ``target`` unless that is None.

    ``sources`` are its inputs in their order, where they no longer lie in their places. Returns its sidecar with
    "same" (to the last bit) and, where it is not and the volume is still there, "largest_difference" in percent of the
    range of its intensities. Raises :class:`FileFailed`, ``VolumeError`` or ``ModelError``.
    """
    held = read_sidecar(described)
    settings = SynthesizeSettings.from_dict(held["settings"])
    assert isinstance(settings, SynthesizeSettings)
    weights = task_of(settings.model)[1]
    if weights != weights_of(held):
        raise FileFailed(
            f"'{held['image']}' was made by the model '{held.get('model', settings.model)}' with other weights than "
            f"those here; give its version {held.get('model_version', '')} a place among your models."
        )
    found = _sources(held, described, sources)
    sample = Sample(0, described.stem, str(held.get("patient", "")), settings, found)
    if target is not None:
        files = [target, labels_beside(target)] if held.get("labels") else [target]
        check_targets(files, [source.path for source in found], overwrite)
    outputs = computed("synthesize", inputs_of([sample]), settings, watch)
    about = outputs.report["samples"][0]
    image = outputs.volumes[about["volume"]]
    labels = outputs.volumes[about["labels"]] if about.get("labels") else None
    said: dict[str, Any] = {"same": voxels_sha256(image) == held.get("voxels_sha256")}
    if not said["same"] and isinstance(image, Volume):
        said |= _difference(image, described.parent / held["image"])
    if isinstance(labels, LabelMap):
        labels = _renumbered(labels, held.get("label_values"))
        said["same"] = said["same"] and voxels_sha256(labels) == held.get("label_voxels_sha256")
    if target is not None:
        beside = (labels_beside(target), labels) if isinstance(labels, LabelMap) else None
        kept = {name: held[name] for name in ("label_values",) if name in held}
        write_sample(sample, outputs.report, about, (target, image), beside, kept, {})
        said |= {"output": str(target), "labels": str(beside[0]) if beside else None}
    return {"made_again": str(described), "seed": settings.seed, "seconds": outputs.report["seconds"], **said}


def _sources(held: dict[str, Any], described: Path, given: Sequence[Path]) -> tuple[Source, ...]:
    """The inputs, whose content is checked. Raises :class:`FileFailed`."""
    entries = held["inputs"]
    if given and len(given) != len(entries):
        raise FileFailed(
            f"'{held['image']}' was made from {len(entries)} files ({', '.join(entry['name'] for entry in entries)}); "
            f"give as many, or none if they are in their places."
        )
    found = []
    for number, entry in enumerate(entries):
        path = given[number] if given else (described.parent / entry["path"])
        if not path.exists():
            raise FileFailed(
                f"'{entry['name']}', from which '{held['image']}' was made, is not at '{path}'; give it as IN."
            )
        if fingerprint(path) != entry["sha256"]:
            raise FileFailed(
                f"'{path}' does not hold what '{entry['name']}' held when '{held['image']}' was made; give that file."
            )
        found.append(Source(entry["role"], path, entry["sha256"]))
    return tuple(found)


def _renumbered(labels: LabelMap, values: dict[str, int] | None) -> LabelMap:
    """With the values under which the set has it, where those are nnU-Net's."""
    if values is None:
        return labels
    numbers = {int(value): int(number) for number, value in values.items()}
    old, index = np.unique(labels.array, return_inverse=True)
    new = np.array([numbers.get(int(value), int(value)) for value in old])
    return dataclasses.replace(labels, array=new[index].reshape(labels.shape).astype(np.uint16), labels={})


def _difference(image: Volume, path: Path) -> dict[str, float]:
    try:
        before = read_volume(path)
    except VolumeError:
        return {}
    if before.shape != image.shape:
        return {}
    span = float(np.nanmax(before.array) - np.nanmin(before.array)) or 1.0
    return {"largest_difference": 100.0 * float(np.nanmax(np.abs(before.array - image.array))) / span}
