"""``medgan anomaly``: from the options of the command line to a map of what a model can not say again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import AnomalySettings, Device
from medgan.volume import LabelMap, Volume, file_format, read_volume


def anomaly(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="IN... OUT", help="A scan (its channels) and its map.")],
    model: Annotated[str, typer.Option(help="Name of an autoencoder ('medgan models') or a bundle folder.")] = "",
    reconstruction: Annotated[
        Path | None, typer.Option(help="Also write what the model says again of the scan: a file.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    memory: Annotated[float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Map where a scan is unlike those an autoencoder was trained on, in units of the model's usual error.

    A high value may be a lesion, an artefact, rare anatomy or another scanner. For research, not for diagnosis.
    """
    from medgan import models, plan
    from medgan.synthesis import files

    try:
        settings = AnomalySettings(plan.resolved_model(model), device, memory)
        if len(paths) < 2:
            raise plan.UsageError("Say where to write: 'medgan anomaly --model NAME IN OUT'.")
        for path in (paths[-1], *([reconstruction] if reconstruction else [])):
            if not file_format(path):
                raise plan.UsageError(f"'{path}' is not the name of a volume file; end it with .nii.gz or .nrrd.")
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    sources, target = paths[:-1], paths[-1]
    wanted = {"anomaly": target} | ({"reconstruction": reconstruction} if reconstruction else {})
    try:
        if not settings.model:
            raise ValueError("Say which model: --model NAME; 'medgan train autoencoder DATA' makes one.")
        card = models.find(settings.model)
        models.verify(card)
        files.check_targets(list(wanted.values()), sources, overwrite)
        inputs: dict[str, Volume | LabelMap] = {
            f"volume {n}" if n > 1 else "volume": read_volume(path) for n, path in enumerate(sources, 1)
        }
        with console.interruptible(), console.bar() as bar:
            line = bar.add_task("Starting", total=1.0, name=sources[0].name)

            def watch(state: Any) -> None:
                bar.update(line, completed=state.fraction, description=state.message)

            outputs = files.computed("anomaly", inputs, settings, watch, list(wanted))
        report = outputs.report
        shown = {name: report[name] for name in ("mean", "largest", "share_above_3", "usual_error_source")}
        said = {
            path: files.description(report, settings.to_dict(), sources, content=name, **shown)
            for name, path in wanted.items()
        }
        files.write_marked({path: outputs.volumes[name] for name, path in wanted.items()}, said)
    except files.FileFailed as error:
        if context.obj and error.details:
            console.note(error.details)
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    if json:
        written = {name: str(path) for name, path in wanted.items()}
        console.print_json({"version": medgan.__version__, "files": written, "report": report})
        return
    for message in report["messages"]:
        console.note(message)
    names = " and ".join(console.shown_path(path) for path in wanted.values())
    console.say(
        f"{sources[0].name} -> {names}  (1 is the {report['unit']}: mean {report['mean']:.2f}, "
        f"largest {report['largest']:.1f}, {100 * report['share_above_3']:.1f} % above 3; "
        f"{report['seconds']:.1f} s, {report['device']})"
    )


def _with_options(sentence: str) -> str:
    """The same sentence with the options of the command line in place of the names of settings."""
    for setting, option in {"memory_limit_gb": "--memory", "model": "--model", "device": "--device"}.items():
        sentence = sentence.replace(f"Setting '{setting}'", option)
    return sentence
