"""One file to segment, from reading to writing, with the network in a child process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgan import records
from medgan.batch import FileFailed, as_failure
from medgan.cells import csv_text
from medgan.job import Job, JobState
from medgan.labelfiles import names_beside, table_beside
from medgan.labeltable import write_table
from medgan.settings import SegmentSettings
from medgan.staging import complete
from medgan.targets import are_apart, check_new, check_not_read
from medgan.volume import LabelMap, Volume, file_format, read_volume, stem_of
from medgan.waiting import BETWEEN_FILES_S
from medgan.writing import check_target, write

COLUMNS = ("value", "name", "voxels", "volume_ml", "mean", "sd")
"""What a table says of every segment, after the file it is in."""

SEGMENTATION_ENDING = ".seg.nrrd"


@dataclass(frozen=True)
class Item:
    """A file, or the files of one scan's channels, and what it becomes. ``make_folder``: the targets' is made."""

    sources: tuple[Path, ...]
    labels: Path
    uncertainty: Path | None = None
    make_folder: bool = False

    @property
    def source(self) -> Path:
        return self.sources[0]

    @property
    def targets(self) -> dict[str, Path]:
        """The file of every output that is wanted, by its name in the task."""
        named = {"labels": self.labels, "uncertainty": self.uncertainty}
        return {name: path for name, path in named.items() if path is not None}


@dataclass
class Result:
    """What became of one item."""

    item: Item
    report: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    error: str = ""
    details: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the outputs are null for a file that failed."""
        failed, unsure = bool(self.error), self.item.uncertainty
        return {
            "input": str(self.item.source),
            "channels": [str(path) for path in self.item.sources[1:]],
            "output": None if failed else str(self.item.labels),
            "uncertainty": None if failed or unsure is None else str(unsure),
            "status": "failed" if failed else "done",
            "error": self.error or None,
            "messages": self.messages,
            "report": self.report,
        }


def source_name(path: Path) -> str:
    """The name of a file without the ending of its format, ``.seg.nrrd`` among them; the name of a folder."""
    if path.name.lower().endswith(SEGMENTATION_ENDING):
        return path.name[: -len(SEGMENTATION_ENDING)]
    return stem_of(path) if file_format(path) else path.resolve().name


def attempt(item: Item, settings: SegmentSettings, overwrite: bool, watch: Callable[[JobState], None]) -> Result:
    """What becomes of one file, be it a failure. An interruption goes through and leaves nothing behind."""
    try:
        return segment_file(item, settings, overwrite, watch)
    except Exception as error:
        failed = as_failure(error, item.source.name)
        return Result(item, error=str(failed), details=failed.details)


def segment_file(
    item: Item,
    settings: SegmentSettings,
    overwrite: bool = False,
    watch: Callable[[JobState], None] = lambda state: None,
) -> Result:
    """Read, segment in a child process, write all outputs or none. ``watch`` gets the job's state 20 times a second.

    Raises :class:`FileFailed`, ``VolumeError``, ``JobError`` or ``ModelError``, and then nothing was written.
    """
    _check_targets(item, overwrite)
    inputs: dict[str, Volume | LabelMap] = {}
    messages: list[str] = []
    for number, path in enumerate(item.sources, 1):
        volume = read_volume(path)
        messages += volume.meta.pop("messages", [])
        inputs["volume" if number == 1 else f"volume {number}"] = volume
    with Job("segment", inputs, settings, keep=tuple(item.targets), stay_s=BETWEEN_FILES_S) as job:
        del inputs, volume  # the child has them
        job.complete(watch)
        outputs = job.outputs()
    watch(JobState(fraction=1.0, message="Writing"))
    messages += _write(item, outputs.volumes, outputs.report)
    return Result(item, outputs.report, messages + list(outputs.report.get("messages", [])))


def write_output(output: Volume | LabelMap, path: Path, algorithm: str = "") -> None:
    """An output as a file; ``.seg.nrrd`` and ``.npz`` keep names, colours and terminology of labels, others values."""
    if isinstance(output, LabelMap) and path.name.lower().endswith(SEGMENTATION_ENDING):
        from medgan import segnrrd
        from medgan.labels import segmentation_of

        segmentation = segmentation_of([output])[0]
        for segment in segmentation.segments:
            segment.algorithm = algorithm
        segnrrd.write(segmentation, path)
    else:
        write(output, path)


def table_text(results: Sequence[Result]) -> str:
    """CSV with one line per segment and file; files that failed are not in it."""
    unsure = any("uncertainty" in row for result in results for row in result.report.get("segments", ()))
    columns = [*COLUMNS, "uncertainty"] if unsure else list(COLUMNS)
    rows = [
        [result.item.source, *(_shown(row.get(name)) for name in columns)]
        for result in results
        for row in result.report.get("segments", ())
    ]
    return csv_text(["file", *columns], rows)


def _shown(value: Any) -> Any:
    return "" if value is None else float(f"{value:.6g}") if isinstance(value, float) else value


def _check_targets(item: Item, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    if not are_apart(list(item.targets.values())):
        raise FileFailed(f"Labels and uncertainty would become the same file '{item.labels}'; name them differently.")
    for target in item.targets.values():
        check_target(target, item.make_folder)
        check_not_read(target, item.sources)
        if not overwrite:
            check_new(target)
    if names_beside(item.labels) and not overwrite:
        check_new(table_beside(item.labels))


def _table_there(labels: Path) -> bool:
    """Whether a table lies where that of a label map file is looked for."""
    return names_beside(labels) and table_beside(labels).exists()


def _write(item: Item, volumes: Mapping[str, Volume | LabelMap], report: Mapping[str, Any]) -> list[str]:
    """Write all outputs or none, then their record; what a table beside the labels could not hold."""
    algorithm = f"MedGANSlicer {report['model']} {report['model_version']}"
    lost: list[str] = []
    writers: dict[Path, Callable[[Path], object]] = {}
    for name, target in item.targets.items():
        writers[target] = functools.partial(write_output, volumes[name], algorithm=algorithm)
    labels = volumes["labels"]
    if _table_there(item.labels) and isinstance(labels, LabelMap):  # it would name other values
        writers[table_beside(item.labels)] = lambda part: lost.extend(write_table(labels.labels, part))
    complete(writers, item.make_folder)
    try:
        records.note(item.targets.values(), report)
    except OSError as error:
        raise FileFailed(f"The record of '{item.labels}' can not be written: {error.strerror}.") from error
    return lost
