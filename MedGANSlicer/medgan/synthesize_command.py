"""``medgan synthesize``: from the options of the command line to made volumes, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import Contrast, Device, SynthesizeSettings, Target
from medgan.synthesis import TASKS
from medgan.volume import file_format

OPTIONS = {
    "memory_limit_gb": "memory",
    "deformation_mm": "deformation",
    "slice_mm": "slices",
    "spacing_mm": "spacing",
    "coarse_mm": "coarse",
}
"""Options that are called otherwise than their settings."""


def synthesize(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IN...] [OUT]", readable=False, help="What the model needs (a scan, label maps), and the result."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a set of results.")] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")
    ] = SynthesizeSettings.model,
    reference: Annotated[
        Path | None, typer.Option(help="From a label map: a scan on its grid whose intensities are taken.")
    ] = None,
    contrast: Annotated[
        Contrast,
        typer.Option(help="From a label map: intensities of the reference, of a kind of scan, by hand, random."),
    ] = SynthesizeSettings.contrast,
    intensities: Annotated[
        str, typer.Option(help="From a label map: label=mean/sd by hand, as '2=0.7/0.03 3=0.5'.")
    ] = SynthesizeSettings.intensities,
    deformation: Annotated[
        float, typer.Option(help="From a label map: move the labels at random, mm.")
    ] = SynthesizeSettings.deformation_mm,
    noise: Annotated[
        float, typer.Option(help="From a label map: more noise, share of the range.")
    ] = SynthesizeSettings.noise,
    bias: Annotated[
        float, typer.Option(help="From a label map: uneven brightness; 0.2 is usual.")
    ] = SynthesizeSettings.bias,
    slices: Annotated[
        float, typer.Option(help="From a label map: thickness of the slices, mm; 0: as the grid.")
    ] = SynthesizeSettings.slice_mm,
    target: Annotated[
        Target, typer.Option(help="Translation: the contrast to make, where the model can make several.")
    ] = SynthesizeSettings.target,
    source: Annotated[
        Target, typer.Option(help="Translation: the contrast of the scan; any: recognised.")
    ] = SynthesizeSettings.source,
    sliders: Annotated[
        str, typer.Option(help="From noise: first numbers of the latent vector, as '1.5 -0.3'.")
    ] = SynthesizeSettings.sliders,
    spacing: Annotated[
        float, typer.Option(help="From noise: side of the voxels, mm; 0: the model's own.")
    ] = SynthesizeSettings.spacing_mm,
    labels: Annotated[Path | None, typer.Option(help="Variations: a label map of the scan, varied with it.")] = None,
    coarse: Annotated[float, typer.Option(help="Variations: what is larger stays, mm.")] = SynthesizeSettings.coarse_mm,
    minutes: Annotated[
        float, typer.Option(help="Variations: most time for one; 0: as long as it takes.")
    ] = SynthesizeSettings.minutes,
    count: Annotated[int, typer.Option(help="Volumes to make, with the seeds that follow.")] = SynthesizeSettings.count,
    seed: Annotated[int, typer.Option(help="The same seed gives the same voxels.")] = SynthesizeSettings.seed,
    truncation: Annotated[
        float, typer.Option(help="From noise: below 1 more usual, less different.")
    ] = SynthesizeSettings.truncation,
    toward: Annotated[
        int, typer.Option(help="From noise: second seed, to make what lies between.")
    ] = SynthesizeSettings.toward,
    mix: Annotated[
        float, typer.Option(help="From noise: where between the two seeds, 0 to 1.")
    ] = SynthesizeSettings.mix,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = SynthesizeSettings.device,
    memory: Annotated[
        float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")
    ] = SynthesizeSettings.memory_limit_gb,
    nnunet: Annotated[
        bool, typer.Option("--nnunet", help="With --out: as nnU-Net reads it, labels 0, 1, 2, ...")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="With --out: go on where a run was stopped.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="With --out: volumes at a time; they share the cores.")] = 1,
    again: Annotated[Path | None, typer.Option(help="Remake the volume described by this .json and compare.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Make volumes with a model: of another contrast (IN OUT), from a label map (LABELS OUT), or from noise (OUT).

    A set goes into a folder: LABELS... --count 200 --out FOLDER. Beside each volume lie its label map, where it is
    known what it shows, and a JSON file that marks it as synthetic and from which --again makes it once more.
    """
    from medgan import plan
    from medgan.batch import FileFailed

    given = list(paths or [])
    try:
        if again is not None:
            _check_again(again, given, out)
        else:
            settings = SynthesizeSettings(
                model=plan.resolved_model(model), count=count, contrast=contrast, intensities=intensities,
                deformation_mm=deformation, noise=noise, bias=bias, slice_mm=slices, truncation=truncation,
                toward=toward, mix=mix, sliders=sliders, spacing_mm=spacing, target=target, source=source,
                coarse_mm=coarse, minutes=minutes, device=device, memory_limit_gb=memory, seed=seed,
            )  # fmt: skip
            sources, place = _places(given, out, settings)
            if out is None and (nnunet or resume or jobs > 1):
                raise plan.UsageError("--nnunet, --resume and --jobs are for sets: --out FOLDER instead of a file.")
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    try:
        if again is not None:
            done = [_made_again(again, given, overwrite, json)]
        else:
            from medgan.synthesis.sets import Order

            _check_inputs(settings, sources, reference, labels, out is not None)
            order = Order(
                settings, place, tuple(sources), reference, labels, out is None, nnunet, resume, overwrite, jobs
            )
            done = _made(order, json)
    except FileFailed as error:
        if context.obj and error.details:
            console.note(error.details)
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    if json:
        console.print_json({"version": medgan.__version__, "files": done})


def _made(order: Any, quiet: bool) -> list[dict[str, Any]]:
    """Make what is asked for; what is said of each volume."""
    from medgan.synthesis import sets

    for sentence in sets.notes(order):
        console.note(sentence)
    told: set[str] = set()
    hint = "" if order.one_file else ", --resume goes on"
    with console.interruptible(f"Interrupted; what was written before is whole{hint}."), console.bar() as bar:
        line = bar.add_task("Starting", total=1.0, name=Path(order.settings.model).name)

        def said(entry: Mapping[str, Any]) -> None:
            if not quiet:
                for message in entry["messages"]:
                    if message not in told:
                        told.add(message)
                        console.note(message)
                how = f"{entry['seconds']:.1f} s" if entry["status"] == "done" else entry["status"]
                shown = console.shown_path(entry["output"])
                console.say(f"{shown}  (synthetic, seed {entry['seed']}, {how}, {entry['device']})")

        return sets.make(order, said, lambda done, text: bar.update(line, completed=done, description=text))


def _made_again(described: Path, paths: Sequence[Path], overwrite: bool, quiet: bool) -> dict[str, Any]:
    """Make one volume of before once more, and say whether it came out the same."""
    from medgan.synthesis.set_again import again

    with console.interruptible(), console.bar() as bar:
        line = bar.add_task("Starting", total=1.0, name=described.name)
        target = paths[-1] if paths else None
        found = again(
            described, target, paths[:-1], overwrite,
            lambda state: bar.update(line, completed=state.fraction, description=state.message),
        )  # fmt: skip
    how = "the same to the last bit" if found["same"] else "not the same to the last bit"
    if "largest_difference" in found:
        how += f"; voxels differ by at most {found['largest_difference']:.2g} % of the range"
    if not quiet:
        console.say(f"{found.get('output') or described.name}: {how}  (seed {found['seed']}, {found['seconds']:.1f} s)")
    return found


def _check_again(described: Path, paths: Sequence[Path], out: Path | None) -> None:
    """Raise ``UsageError`` for what does not go with --again."""
    from medgan.plan import UsageError

    if out is not None:
        raise UsageError("--again makes one volume; give the name of a file instead of --out.")
    if paths and not file_format(paths[-1]):
        raise UsageError(f"'{paths[-1]}' is not the name of a volume file; end it with .nii.gz or .nrrd.")


def _places(paths: list[Path], out: Path | None, settings: SynthesizeSettings) -> tuple[list[Path], Path]:
    """The inputs and the place of the result that a command line names. Raises ``UsageError``."""
    from medgan.plan import UsageError, check_out

    if settings.seed + settings.count > 2**31:
        raise UsageError(
            f"--seed {settings.seed} and --count {settings.count} lead to seeds above {2**31 - 1}; lower one of them."
        )
    if out is None:
        if not paths:
            raise UsageError("Say where to write: 'medgan synthesize --model NAME [IN] OUT', or '--out FOLDER'.")
        if settings.count > 1:
            raise UsageError(f"{settings.count} volumes need a folder: --out FOLDER instead of a file.")
        if not file_format(paths[-1]):
            raise UsageError(f"'{paths[-1]}' is not the name of a volume file; end it with .nii.gz or .nrrd.")
        return paths[:-1], paths[-1]
    check_out(out)
    return paths, out


def _check_inputs(
    settings: SynthesizeSettings, sources: Sequence[Path], reference: Path | None, labels: Path | None, is_set: bool
) -> None:
    """Raise ``ValueError`` for files and options that do not go with what the model is for."""
    from medgan import models
    from medgan.synthesis.cards import VARIATIONS, find, idle

    if not settings.model:
        raise ValueError("Say which model: --model NAME; 'medgan models' lists them, 'medgan train' makes one.")
    card = find(settings.model)
    models.verify(card)
    name, task = card.name, card.task
    if task not in TASKS:
        wanted = " or ".join(f"'{one}'" for one in TASKS)
        raise ValueError(f"Model '{name}' is for the task '{task}'; choose one for {wanted}.")
    if task == "from-noise" and sources:
        raise ValueError(f"Model '{name}' makes volumes from noise and reads none; give the result alone.")
    if task == "translate" and not sources:
        raise ValueError(f"Model '{name}' translates a scan; give it as IN, before the result.")
    if task == VARIATIONS.task and len(sources) != 1:
        raise ValueError("Variations are made of one scan; give it as IN, before the result.")
    if task == "label-to-volume" and (not sources or (len(sources) > 1 and not is_set)):
        several = "; several go with --out FOLDER" if sources else ""
        raise ValueError(f"Model '{name}' makes volumes from a label map; give one as IN, before the result{several}.")
    if reference is not None and task != "label-to-volume":
        raise ValueError(f"--reference goes with models from label maps; '{name}' is none.")
    if labels is not None and task != VARIATIONS.task:
        raise ValueError(f"--labels goes with the model '{VARIATIONS.name}'; give the label map as IN.")
    for sentence in idle(card, settings).values():
        raise ValueError(sentence)


def _with_options(sentence: str) -> str:
    return console.with_options(sentence, SynthesizeSettings, OPTIONS)
