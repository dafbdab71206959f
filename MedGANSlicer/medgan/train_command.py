"""``medgan train``: from the options of the command line to a trained model in the menus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from medgan import console
from medgan.progress import lasted
from medgan.settings import Adversarial, Device, Pairing, Precision, Restores, TrainKind, TrainSettings

REJECTED_SHOWN = 10

OPTIONS = {"spacing_mm": "spacing"}
"""Options that are called otherwise than their settings."""

DATA, LENGTH, MANNER = "Data", "How long", "Training details (defaults suit most data)"

KINDS = ", ".join(kind.value for kind in TrainKind)


def train(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", readable=False, help=f"What to train: {KINDS}.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", readable=False, help="Folder of volumes, or a .csv that lists them.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default one beside your models.", show_default=False)
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the model; by default of kind and data.", show_default=False)
    ] = TrainSettings.name,
    start: Annotated[
        str,
        typer.Option(help="Go on from a model (name or bundle folder) instead of from nothing.", show_default=False),
    ] = TrainSettings.start,
    check_data: Annotated[
        bool,
        typer.Option("--check-data", help="Only read the data, into the folder of the run, and say what is wrong."),
    ] = False,
    restores: Annotated[
        Restores, typer.Option(help="Enhancement: what the model shall take away.", rich_help_panel=DATA)
    ] = TrainSettings.restores,
    pairing: Annotated[
        Pairing, typer.Option(help="Whether source and target are pairs.", rich_help_panel=DATA)
    ] = TrainSettings.pairing,
    source: Annotated[
        str, typer.Option(help="Folder, ending or column of the source (the image).", rich_help_panel=DATA)
    ] = TrainSettings.source,
    target: Annotated[
        str, typer.Option(help="Folder, ending or column of the target (the label map).", rich_help_panel=DATA)
    ] = TrainSettings.target,
    spacing: Annotated[
        float, typer.Option(help="Voxel spacing in mm to train at; 0: the data's own.", rich_help_panel=DATA)
    ] = TrainSettings.spacing_mm,
    validation_share: Annotated[
        float, typer.Option(help="Share of the patients for validation.", rich_help_panel=DATA)
    ] = TrainSettings.validation_share,
    flips: Annotated[bool, typer.Option(help="Mirror patches at random.", rich_help_panel=DATA)] = TrainSettings.flips,
    steps: Annotated[int, typer.Option(help="Steps; 0: no limit.", rich_help_panel=LENGTH)] = TrainSettings.steps,
    minutes: Annotated[
        float, typer.Option(help="Minutes, all runs together; 0: no limit.", rich_help_panel=LENGTH)
    ] = TrainSettings.minutes,
    patience: Annotated[
        int, typer.Option(help="Stop after so many validations without gain; 0: never.", rich_help_panel=LENGTH)
    ] = TrainSettings.patience,
    save_minutes: Annotated[
        float, typer.Option(help="Minutes between checkpoints.", rich_help_panel=LENGTH)
    ] = TrainSettings.save_minutes,
    log_every: Annotated[
        int, typer.Option(help="Steps between lines of the log.", rich_help_panel=LENGTH)
    ] = TrainSettings.log_every,
    validate_every: Annotated[
        int, typer.Option(help="Steps between validations.", rich_help_panel=LENGTH)
    ] = TrainSettings.validate_every,
    sample_every: Annotated[
        int, typer.Option(help="Steps between sample images; 0: none.", rich_help_panel=LENGTH)
    ] = TrainSettings.sample_every,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard logs.", rich_help_panel=LENGTH)
    ] = TrainSettings.tensorboard,
    batch: Annotated[
        int, typer.Option(help="Samples a step in each process.", rich_help_panel=MANNER)
    ] = TrainSettings.batch,
    accumulate: Annotated[
        int, typer.Option(help="Batches whose gradients make one step.", rich_help_panel=MANNER)
    ] = TrainSettings.accumulate,
    patch: Annotated[
        int, typer.Option(help="Edge of the patches in voxels; 0: the kind's own.", rich_help_panel=MANNER)
    ] = TrainSettings.patch,
    rate: Annotated[
        float, typer.Option(help="Learning rate of the generator; 0: the kind's own.", rich_help_panel=MANNER)
    ] = TrainSettings.rate,
    critic_rate: Annotated[
        float, typer.Option(help="Learning rate of the critic; 0: the kind's own.", rich_help_panel=MANNER)
    ] = TrainSettings.critic_rate,
    critic_steps: Annotated[
        int, typer.Option(help="Critic steps for each generator step.", rich_help_panel=MANNER)
    ] = TrainSettings.critic_steps,
    adversarial: Annotated[
        Adversarial, typer.Option(help="Loss of generator and critic.", rich_help_panel=MANNER)
    ] = TrainSettings.adversarial,
    adversarial_weight: Annotated[
        float, typer.Option(help="Multiple of the usual adversarial weight; 0: no critic.", rich_help_panel=MANNER)
    ] = TrainSettings.adversarial_weight,
    r1_weight: Annotated[
        float, typer.Option(help="Weight of the R1 penalty.", rich_help_panel=MANNER)
    ] = TrainSettings.r1_weight,
    gradient_penalty: Annotated[
        float, typer.Option(help="Weight of the gradient penalty (Wasserstein).", rich_help_panel=MANNER)
    ] = TrainSettings.gradient_penalty,
    spectral_norm: Annotated[
        bool, typer.Option(help="Bound the critic by spectral normalisation.", rich_help_panel=MANNER)
    ] = TrainSettings.spectral_norm,
    average: Annotated[
        float, typer.Option(help="Decay of the generator's moving average; 0: none.", rich_help_panel=MANNER)
    ] = TrainSettings.average,
    precision: Annotated[
        Precision, typer.Option(help="Number format of the networks.", rich_help_panel=MANNER)
    ] = TrainSettings.precision,
    device: Annotated[
        Device, typer.Option(help="Where the networks run.", rich_help_panel=MANNER)
    ] = TrainSettings.device,
    seed: Annotated[
        int,
        typer.Option(
            help="The same seed gives the same losses where the steps, not the minutes, end it.", rich_help_panel=MANNER
        ),
    ] = TrainSettings.seed,
    json: console.Json = False,
) -> None:
    """Train a model on your own volumes; it is in the menus when it is done.

    DATA is a folder of volumes (NIfTI, NRRD, MetaImage, NumPy) or of folders of
    DICOM files. Pairs are found by name: folders images and labels (or imagesTr
    and labelsTr), source and target, input and target; endings such as _seg, or
    _T1 and _T2; or a .csv with a column for each and one called patient. For
    classify: a folder for each class, or a .csv with a column called class.

    Ctrl-C saves and stops; the same command again goes on. On several GPUs:
    torchrun --nproc-per-node 4 -m -- medgan train ...
    """
    from medgan.training import claim

    quiet = json or os.environ.get("RANK", "0") != "0"
    try:
        if kind not in {each.value for each in TrainKind}:
            raise ValueError(f"There is no kind of training '{kind}'; there are: {KINDS}.")
        settings = TrainSettings(
            kind=TrainKind(kind), data=str(data), out=str(out or ""), name=name, start=start, restores=restores,
            pairing=pairing, source=source, target=target, spacing_mm=spacing, steps=steps, minutes=minutes,
            batch=batch, patch=patch, rate=rate, critic_rate=critic_rate, critic_steps=critic_steps,
            adversarial=adversarial, adversarial_weight=adversarial_weight, r1_weight=r1_weight,
            gradient_penalty=gradient_penalty, spectral_norm=spectral_norm, average=average, accumulate=accumulate,
            precision=precision, device=device, seed=seed, flips=flips, validation_share=validation_share,
            save_minutes=save_minutes, log_every=log_every, validate_every=validate_every, sample_every=sample_every,
            patience=patience, tensorboard=tensorboard,
        )  # fmt: skip
        settings = claim.completed(settings)
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    report = _run(settings, check_data, quiet, bool(context.obj))
    if os.environ.get("RANK", "0") != "0":
        return
    if json:
        console.print_json(report)
    elif check_data:
        say_data(report)
    else:
        _say(report)


def _with_options(sentence: str) -> str:
    return console.with_options(sentence, TrainSettings, OPTIONS)


def _run(settings: TrainSettings, check_data: bool, quiet: bool, debug: bool) -> dict[str, Any]:
    """The report of the training, or of its data; whatever goes wrong ends the command with a sentence."""
    from medgan.job_child import sentence
    from medgan.training.checkpoint_files import has_checkpoint
    from medgan.training.live import watched

    folder = Path(settings.out)
    try:
        with watched(folder, quiet) as watch:
            if check_data:
                return _checked(settings, watch)
            from medgan.tasks.train import run

            return run({}, settings, watch).report
    except KeyboardInterrupt:
        saved = has_checkpoint(folder)
        said = (
            f"Stopped; what was learned is saved in '{console.shown_path(folder)}', and the same command goes on from "
            "there."
            if saved
            else "Interrupted before the training began; the same command begins again."
        )
        raise console.failed(said, console.INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        raise console.failed(_with_options(sentence(error)), console.FAILED) from error


def _checked(settings: TrainSettings, watch: Any) -> dict[str, Any]:
    """Read the data into the run's folder, where the training will find it."""
    from medgan.models import find
    from medgan.training import claim
    from medgan.training.data import prepare

    start = find(settings.start) if settings.start else None
    with claim.opened(settings):
        data = prepare({}, settings, Path(settings.out), watch, start)
    return {"run": settings.out, "fingerprint": data.fingerprint, **data.report}


def say_data(report: dict[str, Any]) -> None:
    """What was read and what was rejected, and why."""
    rows = [
        (
            read["name"],
            f"{' x '.join(str(n) for n in read['size_voxels'])} voxels of "
            f"{' x '.join(f'{step:.3g}' for step in read['spacing_mm'])} mm, patient {read['patient']}, {read['use']}",
        )
        for read in report["read"]
    ]
    console.table(rows)
    _say_rejected(report["rejected"], len(report["rejected"]))
    for message in report["messages"]:
        console.note(message)
    patients = report["patients"]
    console.say(
        f"{len(rows)} case{'' if len(rows) == 1 else 's'}, {len(report['rejected'])} rejected; "
        f"{patients['train']} patient{'' if patients['train'] == 1 else 's'} to train on, "
        f"{patients['validation']} for validation."
    )
    console.say(f"The data lies ready to train on in '{console.shown_path(report['run'])}'.")


def _say_rejected(rejected: list[dict[str, str]], most: int) -> None:
    for one in rejected[:most]:
        console.note(f"Rejected: {one['name']}: {one['why']}")
    if len(rejected) > most:
        console.note(f"and {len(rejected) - most} more; data.json in the run's folder names them all.")


def _say(report: dict[str, Any]) -> None:
    from medgan.training.alarms import worse_than_input

    _say_rejected(report["rejected"], REJECTED_SHOWN)
    for message in report["messages"]:
        console.note(message)
    figures = {name: value for name, value in report["figures"].items() if name not in ("score", "step", "counts")}
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in list(figures.items())[:6])
    why = {"steps": "all steps are done", "minutes": "the time is spent", "patience": "validation no longer improved"}
    took = lasted(report["seconds"])
    worse = worse_than_input(figures.get("psnr"), figures.get("psnr_before"))
    console.table(
        [
            ("Model", report["name"]),
            ("Folder", console.shown_path(report["bundle"])),
            ("Run", console.shown_path(report["run"])),
            ("Steps", f"{report['steps']} in {took} ({why.get(report['stopped'], report['stopped'])})"),
            ("Validation", shown or "none"),
            ("Is it done?", report["done"]),
            *([] if worse else [("Use it", _use(report))]),
        ]
    )


def _use(report: dict[str, Any]) -> str:
    commands = {"enhance": "enhance", "segment": "segment", "autoencoder": "anomaly", "classify": "recognise"}
    command = commands.get(report["kind"], "synthesize")
    return f"medgan {command} ... --model {report['name']}"
