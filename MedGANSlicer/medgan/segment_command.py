"""``medgan segment``: from the options of the command line to label maps and tables, and what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import medgan
from medgan import console
from medgan.settings import Device, SegmentSettings
from medgan.volume import FORMATS, file_format

OPTIONS = {"memory_limit_gb": "memory", "spacing_mm": "spacing"}
"""Options that are called otherwise than their settings."""

SHOWN = 12
"""Segments that are listed on the screen; the table has all."""


def segment(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IN... [OUT]", readable=False, help="Files or folders, or one file and its label map."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the label maps of several files.")] = None,
    model: Annotated[
        str, typer.Option(help="Name of a model ('medgan models') or a bundle folder.")
    ] = SegmentSettings.model,
    channel: Annotated[
        list[Path] | None, typer.Option(help="Further channel of the same patient, for models that take several.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Also write volumes and intensities of all segments: a .csv file.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Also write values, names and colours: .csv, .json, .ctbl or .txt.")
    ] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="Also write how unsure the model is (0 to 1): a file, with --out a folder.")
    ] = None,
    ending: Annotated[
        str, typer.Option(help="With --out: format of the label maps, as in .seg.nrrd; the input's unless told.")
    ] = "",
    coarse: Annotated[
        bool, typer.Option("--coarse", help="Few tissues instead of many structures.")
    ] = SegmentSettings.coarse,
    flips: Annotated[
        bool, typer.Option("--flips", help="Mean with the mirrored volume: twice the time.")
    ] = SegmentSettings.flips,
    clean_up: Annotated[bool, typer.Option(help="Remove stray pieces of structures.")] = SegmentSettings.clean_up,
    spacing: Annotated[
        float, typer.Option(help="Voxels in mm that the network sees; 0: what the model says.")
    ] = SegmentSettings.spacing_mm,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = SegmentSettings.device,
    memory: Annotated[
        float, typer.Option(help="Most memory to use in GB; 0 reads what is free.")
    ] = SegmentSettings.memory_limit_gb,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Label every voxel with its structure: one volume (IN OUT), or several files and folders (IN... --out FOLDER).

    OUT ends with .nii.gz, .nrrd or another volume format; .seg.nrrd keeps names, colours and terminology for
    3D Slicer.
    """
    from medgan import models, plan, staging, tablefiles
    from medgan.segmentation import description, files

    try:
        settings = SegmentSettings(
            plan.resolved_model(model), flips, clean_up, coarse, uncertainty is not None, spacing, device, memory
        )
        items = planned(paths, channel or [], out, uncertainty, ending)
        if table is not None and table.suffix.lower() != ".csv":
            raise plan.UsageError(f"'{table}' is not the name of a table; end it with .csv.")
        if labels is not None and labels.suffix.lower() not in tablefiles.ENDINGS:
            raise plan.UsageError(
                f"'{labels}' is not the name of a label table; end it with {', '.join(tablefiles.ENDINGS)}."
            )
    except ValueError as error:
        raise console.failed(_with_options(str(error)), console.USAGE) from error
    try:
        card = models.find(settings.model)
        models.verify(card)
        described = description.describe(card)
        taken = [path for item in items for path in (*item.sources, *item.targets.values())]
        plan.check_tables([path for path in (table, labels) if path is not None], taken, out, overwrite)
    except ValueError as error:
        raise console.failed(str(error), console.FAILED) from error
    results: list[files.Result] = []
    with console.interruptible("Interrupted; nothing was written for the file at hand."), console.bar() as bar:
        for number, item in enumerate(items, 1):
            name = f"[{number}/{len(items)}] {item.source.name}" if len(items) > 1 else item.source.name
            line = bar.add_task("Reading", total=1.0, name=name)
            watch = lambda state, line=line: bar.update(line, completed=state.fraction, description=state.message)  # noqa: E731
            results.append(files.attempt(item, settings, overwrite, watch))
            bar.remove_task(line)
            if not json and not results[-1].error:
                _say(results[-1], len(items) == 1)
    failed = console.failures(results, _with_options, context.obj)
    try:
        done = [result for result in results if not result.error]
        if table is not None and done:
            staging.write_text(files.table_text(results), table)
        if labels is not None and done:
            _write_label_table(labels, settings, described, card.name)
    except ValueError as error:
        console.complain(str(error))
        failed += 1
    if json:
        document = {"version": medgan.__version__, "failed": failed, "files": [result.to_dict() for result in results]}
        console.print_json(document)
    if failed:
        raise typer.Exit(console.FAILED)


def planned(
    paths: Sequence[Path], channels: Sequence[Path], out: Path | None, uncertainty: Path | None, ending: str = ""
) -> list[Any]:
    """The items of ``IN OUT`` or of ``IN... --out FOLDER``. Raises ``plan.UsageError``."""
    from medgan import plan
    from medgan.segmentation.files import SEGMENTATION_ENDING, Item, source_name

    if out is None:
        if len(paths) != 2:
            raise plan.UsageError("Say where to write: 'medgan segment IN OUT' for one file, or '--out FOLDER'.")
        if ending:
            raise plan.UsageError("--ending goes with --out; the name of the one result has its own ending.")
        source, target = paths
        if not file_format(target):
            raise plan.UsageError(
                f"'{target}' is not the name of a volume file; end it with {SEGMENTATION_ENDING}, {', '.join(FORMATS)}."
            )
        found = plan.volume_files(source, only_results=True)
        if len(found) > 1:
            raise plan.UsageError(f"'{source}' holds several volumes; write them into a folder with --out.")
        return [Item((found[0], *channels), target, uncertainty)]
    plan.check_out(out)
    if channels:
        raise plan.UsageError("--channel goes with one scan; segment scans of several channels one by one.")
    if uncertainty is not None and file_format(uncertainty):
        raise plan.UsageError("With --out, --uncertainty takes a folder too, because each file gets its own.")
    if ending and not file_format(Path(f"name{ending}")):
        raise plan.UsageError(f"'{ending}' is no ending of a volume file; take {SEGMENTATION_ENDING} or .nii.gz.")
    items = []
    for source in (file for path in paths for file in plan.volume_files(path, only_results=True)):
        stem, own = source_name(source), file_format(source) or ".nii.gz"
        unsure = None if uncertainty is None else uncertainty / f"{stem}_uncertainty{own}"
        items.append(Item((source,), out / f"{stem}_labels{ending or own}", unsure, make_folder=True))
    owners: dict[Path, Path] = {}
    for item in items:
        other = owners.setdefault(item.labels, item.source)
        if other != item.source:
            raise plan.UsageError(
                f"{other} and {item.source} would both become '{item.labels}'; segment them in separate runs."
            )
    return items


def _say(result: Any, alone: bool) -> None:
    """The notes on one file, the line of its result, and, when it is the only one, its largest segments."""
    report, name = result.report, result.item.source.name
    for message in result.messages:
        console.note(f"{name}: {message}")
    found = [row for row in report["segments"] if row["voxels"]]
    files = " and ".join(console.shown_path(path) for path in result.item.targets.values())
    of = f"{len(found)} of {len(report['segments'])} segments"
    console.say(f"{name} -> {files}  ({of}, {report['seconds']:.1f} s, {report['device']})")
    if alone:
        largest = sorted(found, key=lambda row: -row["volume_ml"])[:SHOWN]
        console.table([(row["name"], f"{row['volume_ml']:.4g} ml, mean {row['mean'] or 0:.4g}") for row in largest])
        if len(found) > SHOWN:
            console.note(f"and {len(found) - SHOWN} smaller ones; --table writes them all.")


def _with_options(sentence: str) -> str:
    return console.with_options(sentence, SegmentSettings, OPTIONS)


def _write_label_table(path: Path, settings: SegmentSettings, described: Any, model: str) -> None:
    from medgan.labeltable import LabelTable, write_table
    from medgan.segmentation.coarse import groups_of

    parts = [group.part for group in groups_of(described, model)] if settings.coarse else described.parts
    for lost in write_table(LabelTable({part.value: part.label for part in parts}, model), path):
        console.note(lost)
