"""``medgan labelmap``: label maps, segmentations and their tables from one format into another, with exact values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import medgan
from medgan import console
from medgan.labels import Overlap, merged
from medgan.labeltable import LabelTable, TableError, read_table, write_table
from medgan.labelvalues import BY_TABLE, Values
from medgan.volume import FORMATS, VolumeError, file_format

if TYPE_CHECKING:
    from medgan.segments import Segmentation

Surfaces = Callable[["Segmentation", Path], list[Path]]
surfaces_writer: Surfaces | None = None
"""Writes the closed surface of each segment into a folder; the command line sets it, because Slicer's code does it."""


_NUMBER = r"(\d+\.?\d*|\.\d+)"


class UsageError(ValueError):
    """Options that do not go together; exit code 2."""


def labelmap(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT", readable=False, help="Label maps, .seg.nrrd, DICOM SEG or tables, and the result."
        ),
    ],
    table: Annotated[
        str, typer.Option(help="Names, colours and codes: .csv, .json, .label, .ctbl, .txt, or 'freesurfer'.")
    ] = "",
    values: Annotated[
        Values,
        typer.Option(help="Label values: own, or of the table by name (table) or code (terminology), or 1, 2, 3."),
    ] = Values.OWN,
    overlap: Annotated[
        Overlap, typer.Option(help="Who keeps a voxel of several segments; 'layers' writes one file a layer.")
    ] = Overlap.LAST,
    grid: Annotated[str, typer.Option(help="A volume whose grid to use, or a spacing in mm as 1 or 1x1x2.5.")] = "",
    reference: Annotated[
        Path | None, typer.Option(help="DICOM SEG: the folder of the image series that it belongs to.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The inputs are probability maps; each voxel goes to the likeliest.")
    ] = False,
    algorithm: Annotated[
        str,
        typer.Option(help="What drew the segments, for DICOM SEG: a program or model, as results of 'segment' say."),
    ] = "",
    save_table: Annotated[Path | None, typer.Option(help="Also write the table of the result.")] = None,
    surfaces: Annotated[
        Path | None, typer.Option(help="Also write the closed surface of each segment (.stl) into this folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    json: console.Json = False,
) -> None:
    """Convert between label maps and segmentations, and between tables of labels.

    Values stay exact, also above 32767. Several inputs become the segments of one result. Where the format of OUT
    holds no names, they are written beside it as .labels.csv, and found there again.
    """
    try:
        with console.interruptible():
            said = _convert(
                paths,
                table,
                values,
                overlap,
                grid,
                reference,
                probabilities,
                algorithm,
                save_table,
                surfaces,
                overwrite,
            )
    except typer.Exit:  # a RuntimeError to Python, but its sentence is said
        raise
    except UsageError as error:
        raise console.failed(str(error), console.USAGE) from error
    except MemoryError as error:
        raise console.failed(
            "The result does not fit into memory; take a coarser --grid, or convert fewer inputs at once.",
            console.FAILED,
        ) from error
    except (VolumeError, TableError, RuntimeError, OSError) as error:
        if context.obj:
            raise
        raise console.failed(_sentence(error), console.FAILED) from error
    if json:
        console.print_json({"version": medgan.__version__, **said})
        return
    for message in said["messages"]:
        console.note(message)
    names = ", ".join(path.name or str(path) for path in paths[:-1])
    files = " and ".join(console.shown_path(file) for file in said["files"][:3])
    more = f" and {len(said['files']) - 3} more" if len(said["files"]) > 3 else ""
    console.say(f"{names} -> {files}{more}  ({len(said['segments'])} labels)")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"'{error.filename}' can not be read or written: {error.strerror}."
    return str(error)


def _convert(
    paths: list[Path],
    table_name: str,
    values: Values,
    overlap: Overlap,
    grid: str,
    reference: Path | None,
    probabilities: bool,
    algorithm: str,
    save_table: Path | None,
    surfaces: Path | None,
    overwrite: bool,
) -> dict[str, Any]:
    from medgan import labelfiles, tablefiles, targets
    from medgan.labels import renamed, said_of_values
    from medgan.writing import check_target

    if len(paths) < 2:
        raise UsageError("Give what to convert and the name of the result: medgan labelmap IN... OUT.")
    inputs, out = paths[:-1], paths[-1]
    to_table = not file_format(out) and out.suffix.lower() in tablefiles.ENDINGS
    _check(out, values, table_name, reference, to_table, save_table, surfaces)
    if file_format(out):
        check_target(out)
    besides = [labelfiles.table_beside(path) for path in inputs if labelfiles.names_beside(path)]
    sources = [*inputs, *besides, *(Path(name) for name in (table_name, grid) if name)]
    if reference is not None:
        from medgan import dicomseg

        if not (out.is_file() and dicomseg.find(out)):  # a segmentation that lies there is none of its images
            sources.append(reference)
    _check_beside(sources, out, save_table, surfaces)
    for target in (out, save_table):
        if target is not None and not overwrite:
            targets.check_new(target)
    if surfaces is not None and surfaces.is_dir() and any(surfaces.glob("*.stl")) and not overwrite:
        raise VolumeError(f"Folder '{surfaces}' holds surfaces already; name another, or add --overwrite.")
    table = read_table(table_name) if table_name else None
    if to_table and all(path.suffix.lower() in tablefiles.ENDINGS and path.is_file() for path in inputs):
        return _tables(inputs, out, table)
    series = reference if out.suffix.lower() == labelfiles.DICOM_ENDING else None
    segmentation, report, messages = _read(inputs, table, values, grid, probabilities, series)
    if table is not None and values in BY_TABLE:
        if not probabilities:  # these have their values already
            labelfiles.give_values(segmentation, values, table, messages)
        report, values = renamed(segmentation, table), Values.OWN
        messages += said_of_values({**report, "unknown": []}, table)  # these were told already
    for segment in segmentation.segments if algorithm else ():
        segment.algorithm, segment.edited = algorithm, False
    if to_table:
        labelfiles.give_values(segmentation, values, table, messages)
        labels = {segment.known_value: segment.label for segment in segmentation.segments}
        messages += write_table(labels, out)
        return _said([out], segmentation, None, report, messages)
    files, converted, said = labelfiles.write(
        segmentation, out, values, table, overlap, reference, save_table, overwrite, sources
    )
    if surfaces is not None and surfaces_writer is not None:
        files += surfaces_writer(segmentation, surfaces)
    return _said(files, segmentation, converted, report, messages + said)


def _check(
    out: Path,
    values: Values,
    table: str,
    reference: Path | None,
    to_table: bool,
    save_table: Path | None,
    surfaces: Path | None,
) -> None:
    from medgan.labelfiles import DICOM_ENDING

    if values in BY_TABLE and not table:
        raise UsageError(f"--values {values.value} takes the label values from a table; give one with --table.")
    if out.suffix.lower() == DICOM_ENDING and reference is None:
        raise UsageError("A DICOM segmentation belongs to an image series; give its folder with --reference.")
    if not to_table and not file_format(out) and out.suffix.lower() != DICOM_ENDING:
        formats = ", ".join([*FORMATS, ".seg.nrrd", DICOM_ENDING])
        raise UsageError(f"'{out.name}' does not say its format; end the name with one of {formats}, or of a table.")
    if to_table and save_table is not None:
        raise UsageError("The result is a table itself; leave out --save-table, or give the name of a label map.")
    if to_table and surfaces is not None:
        raise UsageError("A table has no surfaces; give the name of a label map or segmentation with --surfaces.")
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder '{out.parent}' to write '{out.name}' into; make it first.")


def _check_beside(sources: list[Path], out: Path, save_table: Path | None, surfaces: Path | None) -> None:
    """Refuse before the work what could not be written after it, or would take the place of what is read."""
    from medgan import labelfiles, tablefiles, targets

    if surfaces is not None and surfaces.exists() and not surfaces.is_dir():
        raise UsageError(f"'{surfaces}' is a file; --surfaces takes a folder.")
    if save_table is not None:
        if save_table.suffix.lower() not in tablefiles.ENDINGS:
            raise UsageError(
                f"'{save_table.name}' is not a label table by its ending; end it with one of "
                f"{', '.join(tablefiles.ENDINGS)}."
            )
        if not save_table.parent.is_dir():
            raise UsageError(
                f"There is no folder '{save_table.parent}' to write '{save_table.name}' into; make it first."
            )
        if save_table.is_dir():
            raise UsageError(f"'{save_table}' is a folder; give the name of a file.")
    for target in (out, save_table):
        if target is not None:
            targets.check_not_read(target, sources)
    if labelfiles.names_beside(out):
        targets.check_not_read(labelfiles.table_beside(out), sources)


def _read(
    inputs: list[Path],
    table: LabelTable | None,
    values: Values,
    grid: str,
    probabilities: bool,
    series: Path | None,
) -> tuple[Segmentation, dict[str, list[int]], list[str]]:
    """All segments of the inputs on one grid, which is that of ``series`` if there is one, the values unknown to the
    table or missing, and sentences."""
    from medgan import labelfiles
    from medgan.grids import same_grid
    from medgan.labels import said_of_values, segmentation_of
    from medgan.probabilities import most_probable
    from medgan.resampling import beyond, onto, said_of_beyond, said_of_extension
    from medgan.volume import read_volume, stem_of

    if probabilities:
        names = [stem_of(path) for path in inputs]
        held, messages = most_probable([read_volume(path) for path in inputs], names, table)
        segmentation, report, _ = segmentation_of([held], keep_empty=True)
        parts = [segmentation]
    else:
        read = [labelfiles.read(path, table, own_names=values in BY_TABLE) for path in inputs]
        parts = [part for part, _, _ in read]
        missing = [set(found["holes"]) for _, found, _ in read]
        holes = set.union(*missing) if table is None else set.intersection(*missing)
        report = {
            "unknown": sorted({each for _, found, _ in read for each in found["unknown"]}),
            "holes": sorted(holes),
        }
        start = "{}: " if len(inputs) > 1 else ""
        messages = [start.format(p.name) + each for p, (_, _, said) in zip(inputs, read, strict=True) for each in said]
        if table is not None and values not in BY_TABLE:
            messages += said_of_values(report, table)
    first = parts[0]
    if not any(part.segments for part in parts):
        raise VolumeError(f"'{inputs[0].name}' holds no label; every voxel is 0.")
    if grid or series is None:
        shape, matrix = _grid(grid, parts)
        for path, part in zip(inputs, parts, strict=False):
            if not grid and not same_grid(part.shape, part.ijk_to_ras, first.shape, first.ijk_to_ras):
                messages.append(f"'{path.name}' was brought onto the grid of '{inputs[0].name}', nearest neighbour.")
        if grid:
            messages += said_of_beyond([cut for part in parts for cut in beyond(part, shape, matrix)])
        elif shape != first.shape:
            messages.append(said_of_extension(f"'{inputs[0].name}'", shape))
        parts = [onto(part, shape, matrix) for part in parts]
    if series is not None:
        from medgan import dicomseg

        parts, said = dicomseg.on_series(parts, series)
        messages += said
    return merged(parts), report, messages


def _grid(text: str, parts: list[Segmentation]) -> tuple[tuple[int, int, int], Any]:
    """The grid of a volume, or one in which all segments lie: that of the first part, or one of a spacing."""
    from medgan.resampling import extended, grid_of_spacing, reach_in_steps
    from medgan.segments import check_room
    from medgan.steps import finished
    from medgan.volume import read_volume

    spacing = re.fullmatch(rf"{_NUMBER}(x{_NUMBER}x{_NUMBER})?", text) and not Path(text).exists()
    if text and not spacing:
        volume = read_volume(Path(text))
        return volume.shape, volume.ijk_to_ras
    shape, matrix = parts[0].shape, parts[0].ijk_to_ras
    for part in parts[1:]:
        for layer in part.layers:
            shape, matrix = extended(shape, matrix, finished(reach_in_steps(layer, part.ijk_to_ras)))
    if spacing:
        steps = [float(part) for part in text.split("x")]
        i, j, k = steps * (3 // len(steps))
        shape, matrix = grid_of_spacing(shape, matrix, (i, j, k))
    check_room(shape, 1)
    return shape, matrix


def _tables(inputs: list[Path], out: Path, names: LabelTable | None) -> dict[str, Any]:
    """Several tables as one, each value as the last table has it; ``names`` replaces what it knows."""
    labels = {}
    for path in inputs:
        labels.update(read_table(path).labels)
    if names is not None:
        labels = {value: names.labels.get(value, label) for value, label in labels.items()}
    messages = write_table(labels, out)
    rows = [
        {"value": value, "name": label.name, "terminology": label.terminology}
        for value, label in sorted(labels.items())
    ]
    return {"files": [str(out)], "segments": rows, "unknown": [], "holes": [], "messages": messages}


def _said(
    files: list[Path], segmentation: Segmentation, converted: Any, report: dict[str, list[int]], messages: list[str]
) -> dict[str, Any]:
    values = converted.values if converted is not None else [s.known_value for s in segmentation.segments]
    voxels = converted.voxels if converted is not None else segmentation.voxels()
    rows = [
        {"value": value, "name": segment.label.name, "terminology": segment.label.terminology, "voxels": count}
        for segment, value, count in zip(segmentation.segments, values, voxels, strict=True)
    ]
    return {
        "files": [str(file) for file in files],
        "segments": rows,
        "unknown": report["unknown"],
        "holes": report["holes"],
        "lost": converted.lost if converted is not None else {},
        "messages": messages,
    }
