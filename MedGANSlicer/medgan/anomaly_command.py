"""``medgan anomaly``: from the options of the command line to maps of anomalies and tables of their regions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import AnomalySettings, Device

OPTIONS = {"memory_limit_gb": "memory", "smallest_ml": "smallest"}
"""Options that are called otherwise than their settings."""

SHOWN = 8
"""Regions that are listed on the screen; the table has all."""


def anomaly(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IN... [OUT]", readable=False, help="A scan (its channels) and its map, or scans."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the maps of several scans.")] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")
    ] = AnomalySettings.model,
    threshold: Annotated[
        float, typer.Option(help="Value of the map from which on a voxel belongs to a region; 0: the model's.")
    ] = AnomalySettings.threshold,
    smallest: Annotated[
        float, typer.Option(help="Regions smaller than this, in ml, are left out.")
    ] = AnomalySettings.smallest_ml,
    regions: Annotated[
        Path | None, typer.Option(help="Also write one line per region (score, volume, place): a .csv file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write one line per scan: a .csv file.")] = None,
    reconstruction: Annotated[
        Path | None, typer.Option(help="Also write the scan without its anomalies: a file, with --out a folder.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = AnomalySettings.device,
    memory: Annotated[
        float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")
    ] = AnomalySettings.memory_limit_gb,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Map where a scan is unlike those a model was trained on: one scan (IN OUT), or several (IN... --out FOLDER).

    A high value may be a lesion, an artefact, rare anatomy or another scanner. For research, not for diagnosis.
    """
    from medgan import anomaly_files as files
    from medgan import models, plan
    from medgan.staging import write_text

    try:
        settings = AnomalySettings(plan.resolved_model(model), threshold, smallest, device, memory)
        items = files.planned(paths, out, reconstruction)
        for table in (regions, csv):
            if table is not None and table.suffix.lower() != ".csv":
                raise plan.UsageError(f"'{table}' is not the name of a table; end it with .csv.")
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    try:
        if not settings.model:
            raise ValueError("Say which model: --model NAME; 'medgan models' lists them.")
        models.verify(models.find(settings.model))
        taken = [path for item in items for path in (*item.sources, *item.targets.values())]
        plan.check_tables([table for table in (regions, csv) if table is not None], taken, out, overwrite)
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.FAILED) from error
    results: list[files.Result] = []
    with console.interruptible("Interrupted; nothing was written for the scan at hand."), console.bar() as bar:
        for number, item in enumerate(items, 1):
            name = f"[{number}/{len(items)}] {item.source.name}" if len(items) > 1 else item.source.name
            line = bar.add_task("Starting", total=1.0, name=name)
            watch = lambda state, line=line: bar.update(line, completed=state.fraction, description=state.message)  # noqa: E731
            results.append(files.attempt(item, settings, overwrite, watch))
            bar.remove_task(line)
            if not json and not results[-1].error:
                _say(results[-1], len(items) == 1)
    failed = console.failures(results, _with_options, context.obj, "scans")
    try:
        if regions is not None and failed < len(results):
            write_text(files.regions_text(results), regions)
        if csv is not None and (failed < len(results) or len(results) > 1):
            write_text(files.scans_text(results), csv)
    except ValueError as error:
        console.complain(str(error))
        failed += 1
    if json:
        scans = [result.to_dict() for result in results]
        console.print_json({"version": medgan.__version__, "failed": failed, "files": scans})
    if failed:
        raise typer.Exit(console.FAILED)


def _say(result: Any, alone: bool) -> None:
    """The notes on one scan, the line of its result, and, when it is the only one, its first regions."""
    report, name = result.report, result.item.source.name
    for message in report["messages"]:
        console.note(f"{name}: {message}")
    shown = " and ".join(console.shown_path(path) for path in result.item.targets.values())
    count = len(report["regions"])
    console.say(
        f"{name} -> {shown}  ({count} region{'' if count == 1 else 's'} from {report['threshold']:.3g} on, largest "
        f"{report['largest']:.3g}; map: {report['unit']}; {report['seconds']:.1f} s, {report['device']})"
    )
    if alone:
        for region in report["regions"][:SHOWN]:
            console.say(f"  {region['sentence']}")
        if count > SHOWN:
            console.note(f"and {count - SHOWN} more; --regions writes them all.")
        console.note(report["research"])


def _with_options(sentence: str) -> str:
    return console.with_options(sentence, AnomalySettings, OPTIONS)
