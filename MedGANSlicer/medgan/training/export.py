"""The finished model of a training as a bundle folder: weights, card, curves.

The bundle is written into the run's folder and from there copied to the person's models, so that it is in the menus.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import medgan
from medgan import bundle_files
from medgan.evaluation.table import png
from medgan.models import ModelCard, read_card, sha256_of
from medgan.progress import lasted
from medgan.segmentation.description import HOUNSFIELD
from medgan.settings import Adversarial, TrainKind, TrainSettings
from medgan.training.alarms import worse_than_input
from medgan.training.checkpoint import save_whole
from medgan.training.class_figures import ClassFigures
from medgan.training.data import TrainingData
from medgan.training.figure import curves_picture
from medgan.training.kinds.base import Exported, Facts
from medgan.training.result import TrainingResult, TrainingStopped

NOT_STATED = "not stated"

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"

DOES = {
    "enhance": "restores volumes",
    "translate": "turns volumes of one kind into another",
    "label-to-volume": "makes volumes from label maps",
    "from-noise": "makes volumes from noise",
    "segment": "segments volumes",
    "classify": "says which of several classes a volume belongs to",
    "autoencoder": "restores what it knows, so that what it does not know shows as a difference",
}

KEPT = "Of the patients kept for validation, on patches:"
SEEN = "Of volumes of the training itself, for no patients were kept for validation, on patches:"

CHANGED = "The data changed while it was trained, so it has also seen volumes that are not counted here."

LIMITS = (
    "Trained by its user on the data described here; nobody has measured it on other scanners, sequences or patients. "
    "For research, not for diagnosis."
)


def write_bundle(
    folder: Path,
    exported: Exported,
    settings: TrainSettings,
    data: TrainingData,
    result: TrainingResult,
    run: str,
    classes: ClassFigures | None = None,
) -> ModelCard:
    """Write the bundle ``folder``, complete or not at all, in the place of one of the same name; its card.

    ``classes``: of a classifier, what it can do. Raises :class:`TrainingStopped` where it can not be written.
    """
    with _told(folder):
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name in ("configs", "models", "docs"):
            (part / name).mkdir(parents=True)
        weights: dict[str, dict[str, str]] = {}
        for key, state in exported.weights.items():
            file = part / "models" / ("model.pt" if not weights else f"model_{key}.pt")
            save_whole({name: _small(tensor) for name, tensor in state.items()}, file)
            weights[key] = {"file": f"models/{file.name}", "sha256": sha256_of(file)}
        metadata = card_of(folder.name, exported, settings, data, result, run, weights)
        if classes is not None:
            ours = metadata["medgan"]
            ours["figures"] |= classes.flat()
            ours["evaluation"] = {"cases": classes.cases, "rows": classes.rows, "confusion": classes.matrix}
            (part / "docs" / "confusion.png").write_bytes(classes.picture())
            (part / "docs" / "confusion.csv").write_text(classes.csv(), encoding="utf-8")
        text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
        (part / "configs" / "metadata.json").write_text(text, encoding="utf-8")
        (part / "docs" / "curves.png").write_bytes(png(curves_picture(result.curves) / 255.0))
        (part / "docs" / "README.md").write_text(
            readme(metadata, result, used_settings(settings, data.facts), classes), encoding="utf-8"
        )
        (part / "LICENSE").write_text("No licence was stated for this model by the person who trained it.\n", "utf-8")
        before = folder.with_name(f".{folder.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        bundle_files.take_place(part, folder, before)
        shutil.rmtree(before, ignore_errors=True)
    return read_card(folder)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """A bundle that can not be written ends in a sentence."""
    try:
        yield
    except OSError as error:
        raise TrainingStopped(
            f"The model can not be written into '{folder.parent}': {error.strerror or error}. Make room and start the "
            "training again in the same folder: it is done, and only the model is written."
        ) from error


def card_of(
    name: str,
    exported: Exported,
    settings: TrainSettings,
    data: TrainingData,
    result: TrainingResult,
    run: str,
    weights: Mapping[str, Any],
) -> dict[str, Any]:
    """``metadata.json``: MONAI's schema, and ours under "medgan"."""
    facts = data.facts
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": facts.modality or "n/a",
        "num_channels": facts.channels,
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
        "channel_def": {str(number): "image" for number in range(facts.channels)},
    }
    outputs = len(facts.labels) + 1 if exported.task == "segment" else facts.target_channels
    described: dict[int, Any] = {0: "background", **{label["index"]: label["name"] for label in facts.labels}}
    if exported.task == "classify":
        outputs, described = len(facts.classes), dict(enumerate(facts.classes))
    named = exported.task in ("segment", "classify")
    channel_def = {str(number): str(described[number]) if named else "image" for number in range(outputs)}
    prediction = {**image, "num_channels": outputs, "channel_def": channel_def}
    if exported.task == "classify":
        prediction |= {"type": "probabilities", "format": "classes", "spatial_shape": []}
    figures = figures_of(result)
    worse = worse_than_input(figures.get("psnr"), figures.get("psnr_before"))
    # No names of folders: they may be names of patients.
    training = {**settings.to_dict(), "data": "", "out": "", "start": Path(settings.start).name}
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"{result.steps} steps of training."},
        "monai_version": _version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "optional_packages_version": {},
        "name": name,
        "task": f"{settings.kind.label()} of volumes",
        "description": f"A 3D network that {DOES.get(exported.task, 'works on volumes')}, trained with MedGANSlicer.",
        "authors": NOT_STATED,
        "copyright": NOT_STATED,
        "license": NOT_STATED,
        "data_source": "The trainer's own volumes; see docs/README.md.",
        "data_type": "nifti",
        "intended_use": "Research, by the person who trained it. Not a medical device, not for diagnosis.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": prediction}},
        "medgan": {
            "title": name,
            "task": exported.task,
            "modality": facts.modality,
            "licence": NOT_STATED,
            "network": exported.network,
            "network_arguments": exported.network_arguments,
            "weights": dict(weights),
            "intensity": _intensity(settings, data),
            "limits": f"{LIMITS} {worse}".rstrip(),
            "trained_on": [_data_sentence(data.fingerprint), *([CHANGED] if data.fingerprint["changed"] else [])],
            "figures": {key: _short(value) for key, value in figures.items() if key != "score"},
            "data": data.fingerprint,
            "training": {
                "settings": training,
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
                "stopped": result.stopped,
                "done": result.done,
                "package_version": medgan.__version__,
            },
            "run": run,
            "synthetic": exported.task in ("from-noise", "label-to-volume", "translate"),
            **_normalise(settings, data),
            **data.inherited,
            **exported.about,
        },
    }


def figures_of(result: TrainingResult) -> dict[str, Any]:
    """The figures of the best validation and its "step"; of the last one where none counts as the best."""
    if result.best:
        return {name: value for name, value in result.best.items() if name != "counts"}
    for row in reversed(result.curves):
        found = {
            name.removeprefix("val_"): row[name] for name in row if name.startswith("val_") and name != "val_counts"
        }
        if found:
            return {"step": row["step"], **found}
    return {}


def used_settings(settings: TrainSettings, facts: Facts) -> dict[str, Any]:
    """The settings that this kind of training goes by, with the values that were taken where none were given."""
    kind, loss, (rate, critic_rate) = settings.kind, settings.loss(), settings.rates()
    has_critic = kind is not TrainKind.CLASSIFY and settings.adversarial_weight > 0.0
    wasserstein = loss is Adversarial.WASSERSTEIN
    taken = {
        **settings.to_dict(),
        "start": Path(settings.start).name,
        "pairing": "paired" if facts.paired else "unpaired",
        "spacing_mm": _times(facts.working_spacing_mm) if facts.working_spacing_mm else "of each volume",
        "patch": facts.patch,
        "rate": rate,
        "critic_rate": critic_rate,
        "adversarial": loss.value,
    }
    unused = {"data", "out"}  # names of folders may be names of patients
    if kind is not TrainKind.ENHANCE:
        unused.add("restores")
    if kind is not TrainKind.TRANSLATE:
        unused.add("pairing")
    if kind is TrainKind.CLASSIFY:
        unused.add("adversarial_weight")
    if not has_critic:
        unused |= {"critic_rate", "critic_steps", "adversarial", "r1_weight"}
    if not has_critic or not wasserstein:
        unused.add("gradient_penalty")
    if not has_critic or wasserstein:
        unused.add("spectral_norm")
    return {name: value for name, value in taken.items() if name not in unused and value != ""}


def readme(
    metadata: Mapping[str, Any], result: TrainingResult, used: Mapping[str, Any], classes: ClassFigures | None = None
) -> str:
    """The card that a person reads; ``used`` are :func:`used_settings`."""
    ours = metadata["medgan"]
    data, training = ours["data"], ours["training"]
    chosen = "\n".join(f"| {name} | {value} |" for name, value in used.items())
    ends = [_times(data["spacing_mm"][end]) for end in ("smallest", "largest")]
    spacing = " to ".join(dict.fromkeys(ends))  # once where both are equal
    intensity = data["intensity"]
    shown = f"{intensity['lowest']:.4g} to {intensity['highest']:.4g}" if intensity else "made from label maps"
    trained_on = "\n".join(f"- {sentence}" for sentence in ours["trained_on"])
    took = lasted(training["seconds"])
    intended = textwrap.fill(metadata["intended_use"], 118)
    return f"""# {ours["title"]}

{metadata["description"]}

{intended}

## Data
{trained_on}
- Voxel spacing {spacing} mm; intensities {shown}.
- SHA-256 over all voxels and grids: `{data["sha256"]}`

## Training
{result.steps} steps in {took} with MedGANSlicer {training["package_version"]}. Is it done? {result.done}

![Losses and validation](curves.png)

| setting | value |
|---|---|
{chosen}

## Figures
{_figures_of_classes(classes) if classes else _figures_on_patches(ours["figures"], data["cases"]["validation"] == 0)}

## Limits
{ours["limits"]}

## Licence
Not stated. Write what you want others to know here and into "license" and "licence" of configs/metadata.json.
"""


def _figures_on_patches(figures: Mapping[str, Any], seen: bool) -> str:
    rows = [f"| {name} | {value} |" for name, value in figures.items()] or ["| none | |"]
    return "\n".join([SEEN if seen else KEPT, "", "| figure | value |", "|---|---|", *rows])


def _figures_of_classes(found: ClassFigures) -> str:
    """The figures of a classifier, with their intervals, and its confusions."""
    whose = "of the training itself, for none were kept" if found.seen else "of patients that the training has not seen"
    lines = [
        f"{found.cases} volumes {whose}; 95 % intervals (of shares: Wilson, else bootstrap over the cases, if there "
        "are 15 or more).",
        *found.messages,
        "",
        "| figure | class | cases | value | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for row in found.rows:
        between = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        value = "" if row["value"] is None else f"{row['value']:.3f}"
        lines.append(f"| {row['figure']} | {row['class'] or 'all'} | {row['cases']} | {value} | {between} |")
    return "\n".join([*lines, "", "![Confusion matrix](confusion.png)", "", "The same in numbers: confusion.csv."])


def publish(folder: Path, name: str) -> ModelCard:
    """Copy a bundle to the person's models; it is in the menus at once. See :func:`medgan.bundle_files.install`."""
    return bundle_files.install(folder, name)


def _small(tensor: Tensor) -> Tensor:
    """Half the size, where the numbers allow it."""
    if not tensor.is_floating_point():
        return tensor.clone()
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor.float()


def _normalise(settings: TrainSettings, data: TrainingData) -> dict[str, Any]:
    """How a volume comes to the network's unit, in the words of medgan.segmentation.description."""
    if settings.kind in (TrainKind.ENHANCE, TrainKind.CLASSIFY):
        return {}
    if data.samples.manner.made:
        return {"normalise": "percentiles"}
    if data.facts.modality == "CT":
        return {"normalise": "hounsfield", "window": list(HOUNSFIELD)}
    return {"normalise": "range"}


def _intensity(settings: TrainSettings, data: TrainingData) -> str:
    kind = _normalise(settings, data).get("normalise", "range")
    low, high = HOUNSFIELD
    usual = "0 is the darkest physical intensity, 1 the 99.9 percentile of the foreground"
    if settings.kind is TrainKind.CLASSIFY:  # each volume by what it looks like
        return f"CT: 0 is {low:g} HU and 1 is {high:g} HU; others: {usual}"
    return {
        "percentiles": "0 and 1 are the 0.5 and 99.5 percentiles of the volume",
        "hounsfield": f"0 is {low:g} HU and 1 is {high:g} HU",
    }.get(kind, usual)


def _data_sentence(fingerprint: Mapping[str, Any]) -> str:
    cases, patients = fingerprint["cases"], fingerprint["patients"]
    return (
        f"{fingerprint['volumes']} volumes of {patients} patient{'s' * (patients != 1)} of the person who trained it: "
        f"{cases['train']} cases to train on, {cases['validation']} for validation"
    )


def _times(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
