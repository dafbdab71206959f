"""``medgan synthesize``: from the options of the command line to made volumes, and what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import Contrast, Device, SynthesizeSettings
from medgan.synthesis import TASKS
from medgan.volume import LabelMap, Volume, file_format, read_label_map, read_volume

if TYPE_CHECKING:
    from medgan.models import ModelCard

TOGETHER = 8
"""Volumes that one child process makes; each lot is written before the next is begun."""


def synthesize(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IN...] [OUT]", help="A scan or a label map, if the model needs one, and the result."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results.")] = None,
    model: Annotated[str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")] = "",
    reference: Annotated[
        Path | None, typer.Option(help="From a label map: a scan on its grid whose intensities are taken.")
    ] = None,
    contrast: Annotated[
        Contrast, typer.Option(help="From a label map without a reference: intensities of the training, or random.")
    ] = Contrast.USUAL,
    count: Annotated[int, typer.Option(help="Volumes to make, with the seeds that follow.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = 0,
    truncation: Annotated[float, typer.Option(help="From noise: below 1 more usual, less different.")] = 1.0,
    toward: Annotated[int, typer.Option(help="From noise: second seed, to make what lies between.")] = -1,
    mix: Annotated[float, typer.Option(help="From noise: where between the two seeds, 0 to 1.")] = 0.5,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    memory: Annotated[float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Make volumes with a model: of another contrast (IN OUT), from a label map (LABELS OUT), or from noise (OUT).

    Several go into a folder: --count 20 --out FOLDER. Beside each lies a JSON file that marks it as synthetic.
    """
    from medgan import models, plan
    from medgan.synthesis import files

    try:
        chosen = plan.resolved_model(model)
        settings = SynthesizeSettings(chosen, count, contrast, truncation, toward, mix, device, memory, seed)
        if seed + count > 2**31:
            raise plan.UsageError(
                f"--seed {seed} and --count {count} lead to seeds above {2**31 - 1}; lower one of them."
            )
        sources, targets = _places(list(paths or []), out, settings)
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    done: list[dict[str, Any]] = []
    try:
        if not settings.model:
            raise ValueError("Say which model: --model NAME; 'medgan models' lists them, 'medgan train' makes one.")
        card = models.find(settings.model)
        models.verify(card)
        _check_inputs(card, sources, reference)
        read = [*sources, *([reference] if reference else [])]
        files.check_targets(targets, read, overwrite, out is not None)
        inputs = _read(card, sources, reference)
        with console.interruptible("Interrupted; what was written before is whole."), console.bar() as bar:
            line = bar.add_task("Starting", total=1.0, name=card.name)
            for first, lot in _lots(settings):
                share = lot.count / settings.count

                def watch(state: Any, first: int = first, share: float = share) -> None:
                    bar.update(
                        line, completed=first / settings.count + share * state.fraction, description=state.message
                    )

                outputs = files.computed("synthesize", inputs, lot, watch)
                if out is not None:
                    files.make_folder(out)
                done += _written(outputs, lot, targets[first : first + lot.count], read)
                if not json:
                    _say(done[-lot.count :], outputs.report, first == 0)
    except files.FileFailed as error:
        if context.obj and error.details:
            console.note(error.details)
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    if json:
        console.print_json({"version": medgan.__version__, "files": done})


def _places(paths: list[Path], out: Path | None, settings: SynthesizeSettings) -> tuple[list[Path], list[Path]]:
    """The inputs and the results that a command line names. Raises ``UsageError``."""
    from medgan.plan import UsageError

    if out is None:
        if not paths:
            raise UsageError("Say where to write: 'medgan synthesize --model NAME [IN] OUT', or '--out FOLDER'.")
        if settings.count > 1:
            raise UsageError(f"{settings.count} volumes need a folder: --out FOLDER instead of a file.")
        if not file_format(paths[-1]):
            raise UsageError(f"'{paths[-1]}' is not the name of a volume file; end it with .nii.gz or .nrrd.")
        return paths[:-1], [paths[-1]]
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file; --out takes a folder.")
    name = Path(settings.model).name or "volume"
    if paths:
        ending = file_format(paths[0])
        stem = paths[0].name[: len(paths[0].name) - len(ending)] if ending else paths[0].resolve().name
        name = f"{stem}_{name}"
    numbers: Sequence[int] = range(settings.seed, settings.seed + settings.count)
    word, width = "seed", len(str(numbers[-1]))
    if settings.toward >= 0:
        numbers, word, width = range(1, settings.count + 1), f"seed{settings.seed}to{settings.toward}_", 3
    return paths, [out / f"{name}_{word}{number:0{width}d}.nii.gz" for number in numbers]


def _check_inputs(card: ModelCard, sources: Sequence[Path], reference: Path | None) -> None:
    """Raise ``ValueError`` for files that do not go with what the model is for."""
    if card.task not in TASKS:
        wanted = " or ".join(f"'{task}'" for task in TASKS)
        raise ValueError(f"Model '{card.name}' is for the task '{card.task}'; choose one for {wanted}.")
    if card.task == "from-noise" and sources:
        raise ValueError(f"Model '{card.name}' makes volumes from noise and reads none; give the result alone.")
    if card.task == "translate" and not sources:
        raise ValueError(f"Model '{card.name}' translates a scan; give it as IN, before the result.")
    if card.task == "label-to-volume" and len(sources) != 1:
        raise ValueError(f"Model '{card.name}' makes volumes from a label map; give one as IN, before the result.")
    if reference is not None and card.task != "label-to-volume":
        raise ValueError(f"--reference goes with models from label maps; '{card.name}' is none.")


def _read(card: ModelCard, sources: Sequence[Path], reference: Path | None) -> dict[str, Volume | LabelMap]:
    if card.task == "label-to-volume":
        inputs: dict[str, Volume | LabelMap] = {"labels": read_label_map(sources[0])}
        return inputs | ({"reference": read_volume(reference)} if reference is not None else {})
    return {f"volume {n}" if n > 1 else "volume": read_volume(path) for n, path in enumerate(sources, 1)}


def _lots(settings: SynthesizeSettings) -> list[tuple[int, SynthesizeSettings]]:
    """How many volumes come before each lot, and its settings; what lies between two seeds is made at once."""
    if settings.toward >= 0:
        return [(0, settings)]
    starts = range(0, settings.count, TOGETHER)
    return [
        (first, replace(settings, seed=settings.seed + first, count=min(TOGETHER, settings.count - first)))
        for first in starts
    ]


def _written(
    outputs: Any, lot: SynthesizeSettings, targets: Sequence[Path], read: Sequence[Path]
) -> list[dict[str, Any]]:
    """Write a lot; what is said of each file."""
    from medgan.synthesis import files

    said: dict[Path, dict[str, Any]] = {}
    samples = outputs.report["samples"]
    for sample, target in zip(samples, targets, strict=True):
        alone = {**lot.to_dict(), "count": 1, "seed": sample["seed"], "mix": sample.get("mix", lot.mix)}
        rest = {name: value for name, value in sample.items() if name != "volume"}
        said[target] = files.description(outputs.report, alone, read, **rest)
    volumes = {target: outputs.volumes[sample["volume"]] for sample, target in zip(samples, targets, strict=True)}
    files.write_marked(volumes, said)
    return [{"output": str(target), "description": str(files.sidecar_of(target)), **said[target]} for target in targets]


def _say(made: Sequence[dict[str, Any]], report: dict[str, Any], first: bool) -> None:
    if first:
        for message in report["messages"]:
            console.note(message)
    pace = report["seconds"] / len(made)
    for entry in made:
        shown = console.shown_path(entry["output"])
        console.say(f"{shown}  (synthetic, seed {entry['seed']}, {pace:.1f} s, {report['device']})")


def _with_options(sentence: str) -> str:
    """The same sentence with the options of the command line in place of the names of settings."""
    names = {"memory_limit_gb": "--memory"}
    names |= {name: f"--{name}" for name in ("model", "count", "truncation", "toward", "mix", "seed", "device")}
    for setting, option in names.items():
        sentence = sentence.replace(f"Setting '{setting}'", option)
    return sentence
