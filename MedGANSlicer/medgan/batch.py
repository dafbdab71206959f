"""One file from reading to writing, in a child process: the same for one, for many and on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgan import records
from medgan.frame_reports import merged
from medgan.frames import Frames, has_frames, read_frames
from medgan.job import Job, JobError, JobState
from medgan.models import ModelError
from medgan.reading import read_any
from medgan.settings import EnhanceSettings
from medgan.staging import make_folder, put, staged
from medgan.targets import are_apart, check_new, check_not_read
from medgan.volume import Volume, VolumeError, file_format, read_volume
from medgan.voxel_types import LAST_WHOLE, is_wide, stored_as
from medgan.waiting import BETWEEN_FILES_S
from medgan.writing import check_frames_target, check_shear, check_target, write

_UNKNOWN = " and nothing is known of how it was made"

_GEOMETRY_LOST = "'{name}' holds the voxels alone: a .npy file has no place for their size and position; .npz has."


class FileFailed(Exception):
    """One file could not be made: a sentence, and the child's traceback if there was one."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class Stopped(BaseException):
    """Raised by ``watch`` to end a file's run; no ``Exception``, so that nothing takes it for a failure."""


@dataclass(frozen=True)
class Item:
    """One file to enhance and the files it becomes.

    ``make_folders``: theirs are made when they do not exist. ``changes`` are settings of this file alone.
    ``frames`` chooses some of a 4D file ("0:10"). ``problem`` is the sentence for a file that was asked for in a way
    that can not be done.
    """

    source: Path
    target: Path
    difference: Path | None = None
    residual: Path | None = None
    uncertainty: Path | None = None
    make_folders: bool = False
    changes: tuple[tuple[str, Any], ...] = ()
    frames: str = ""
    problem: str = ""

    @property
    def targets(self) -> dict[str, Path]:
        """The file of every output of the task that is wanted."""
        named = {
            "volume": self.target,
            "difference": self.difference,
            "residual": self.residual,
            "uncertainty": self.uncertainty,
        }
        return {name: target for name, target in named.items() if target is not None}

    def settings(self, common: EnhanceSettings) -> EnhanceSettings:
        """The common settings with this file's own. Raises ``ValueError``."""
        own = dict(self.changes)
        if self.uncertainty is not None:
            own["uncertainty"] = True
        return dataclasses.replace(common, **own)


@dataclass(frozen=True)
class Manner:
    """How all files of a run are treated. ``run`` is its name, by which a second try knows what the first one did."""

    overwrite: bool = False
    resume: bool = False
    run: str = ""


@dataclass
class Result:
    """What became of one item. ``skipped``: it was done before, and nothing was computed."""

    item: Item
    report: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    error: str = ""
    details: str = ""
    skipped: bool = False

    @property
    def status(self) -> str:
        return "failed" if self.error else "skipped" if self.skipped else "done"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the outputs are null for a file that failed."""
        failed, item = bool(self.error), self.item
        others = {"difference": item.difference, "residual": item.residual, "uncertainty": item.uncertainty}
        return {
            "input": str(item.source),
            "output": None if failed else str(item.target),
            **{name: None if failed or path is None else str(path) for name, path in others.items()},
            "status": self.status,
            "error": self.error or None,
            "messages": self.messages,
            "report": self.report,
        }


def attempt(
    item: Item,
    settings: EnhanceSettings,
    manner: Manner,
    watch: Callable[[JobState], None] = lambda state: None,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """What becomes of one file, be it a failure. What ``watch`` raises goes through, if it is no ``Exception``."""
    try:
        return enhance_file(item, settings, manner, watch, environment)
    except Exception as error:
        failed = as_failure(error, item.source.name)
        return Result(item, error=str(failed), details=failed.details)


def as_failure(error: Exception, name: str) -> FileFailed:
    """The sentence for the file of this name, whatever it failed by, and where it came to that."""
    if isinstance(error, FileFailed):
        return error
    if isinstance(error, JobError):
        return FileFailed(str(error), error.details)
    said = f"Unexpected {type(error).__name__}: {error}."
    if isinstance(error, MemoryError):
        said = f"'{name}' does not fit into memory."
    elif isinstance(error, ValueError) and str(error):
        said = str(error)
    return FileFailed(said, "".join(traceback.format_exception(error)))


def enhance_file(
    item: Item,
    settings: EnhanceSettings,
    manner: Manner = Manner(),
    watch: Callable[[JobState], None] = lambda state: None,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Read, enhance in a child process, write. ``watch`` gets the job's state about 20 times a second.

    ``environment`` is added to the child's. Raises :class:`FileFailed`, and then none of the item's files was
    written. An interruption, or whatever ``watch`` raises, ends the child and leaves nothing behind.
    """
    begun = time.monotonic()
    if item.problem:
        raise FileFailed(item.problem)
    try:
        settings = item.settings(settings)
        key = records.key_of(item.source, settings, item.targets, item.frames)
        if before := _done_before(item, key, manner):
            return before
        _check_targets(item, manner)
        volumes, report, messages = _enhanced(item, settings, watch, environment)
        report["total_seconds"] = round(time.monotonic() - begun, 2)
        watch(JobState(fraction=1.0, message="Writing"))
        if before := _done_before(item, key, manner):
            return before  # by another worker, that was only believed to be dead, or by another run
        _check_targets(item, manner)  # another program may have been faster
        _write(item, volumes, key, manner, report)
    except JobError as error:
        raise FileFailed(str(error), error.details) from error
    except (VolumeError, ModelError) as error:
        raise FileFailed(str(error)) from error
    return Result(item, report, messages + list(report.get("messages", [])))


def _done_before(item: Item, key: dict[str, Any], manner: Manner) -> Result | None:
    if not (manner.resume or manner.run):
        return None
    report = records.finished(item.target, key, "" if manner.resume else manner.run)
    return None if report is None else Result(item, report, skipped=True)


def _enhanced(
    item: Item, settings: EnhanceSettings, watch: Callable[[JobState], None], environment: Mapping[str, str] | None
) -> tuple[dict[str, Volume | Frames], dict[str, Any], list[str]]:
    """The wanted outputs, the report, and what is to be said of the source."""
    source = _read(item)
    for target in item.targets.values():
        check_shear(source.ijk_to_ras, target)
    messages = list(source.meta.pop("messages", []))
    if not np.allclose(source.ijk_to_ras, np.eye(4)):
        bare = [target.name for target in item.targets.values() if file_format(target) == ".npy"]
        messages += [_GEOMETRY_LOST.format(name=name) for name in bare]
    grid = (source.shape, source.ijk_to_ras)
    inputs: Mapping[str, Any] = source if isinstance(source, Frames) else {"volume": source}
    each = "volume" if isinstance(source, Frames) else ""
    template = source if isinstance(source, Frames) else None
    keep = tuple(item.targets)
    with Job("enhance", inputs, settings, environment=environment, each=each, keep=keep, stay_s=BETWEEN_FILES_S) as job:
        if template is None:
            del source, inputs  # the child has it
        job.complete(watch)
        volumes: dict[str, Any] = _assembled(job, template) if template is not None else dict(job.each_output())
        report = merged(job.report()["runs"]) if template is not None else job.report()
    missing = [name for name in item.targets if name not in volumes]
    if missing:
        raise FileFailed(f"Model '{settings.model}' makes no {missing[0]}; leave out --{missing[0]}.")
    result = volumes["volume"]
    if result.shape != grid[0] or not (result.ijk_to_ras == grid[1]).all():
        size = [int(length) for length in reversed(result.shape)]
        report["new_grid"] = {"size_voxels": size, "spacing_mm": [float(f"{step:.6g}") for step in result.spacing_mm]}
    elif isinstance(result, Volume) and _was_rounded(result):
        result.exact = read_any(item.source)[0]
    return volumes, report, messages


def _read(item: Item) -> Volume | Frames:
    if not has_frames(item.source):
        if item.frames:
            raise FileFailed(f"'{item.source.name}' is no 4D file, so --frames has nothing to choose from.")
        return read_volume(item.source)
    for target in item.targets.values():
        check_frames_target(target)
    start, _, stop = item.frames.partition(":")
    frames = read_frames(item.source)
    return frames.part(slice(int(start or 0), int(stop) if stop else None)) if item.frames else frames


def _was_rounded(result: Volume) -> bool:
    """Whether float32 may have rounded voxels of the source; they are read again rather than held all the time."""
    if not is_wide(result.voxel_type):
        return False
    return np.dtype(result.voxel_type).kind == "f" or max(-result.array.min(), result.array.max()) >= LAST_WHOLE


def _assembled(job: Job, source: Frames) -> dict[str, Frames]:
    """The outputs of the frames as 4D: in the types of their voxels, or float32 where that does not fit every frame."""
    held: dict[str, list[Any]] = {}
    matrices: dict[str, Any] = {}
    for name, volume in job.each_output():
        frame, _, output = name.rpartition("/")
        arrays, matrix = held.setdefault(output, []), matrices.setdefault(output, volume.ijk_to_ras)
        assert isinstance(volume, Volume)
        own = source.array[len(arrays)] if output == "volume" else None
        arrays.append(stored_as(volume.array, volume.voxel_type, own))
        if arrays[-1].shape != arrays[0].shape or not (volume.ijk_to_ras == matrix).all():
            raise FileFailed(f"The result of {frame} lies on another grid than that of the first one.")
    for output, arrays in held.items():
        if len({array.dtype for array in arrays}) > 1:  # a file holds one type
            arrays[:] = [volume.array for name, volume in job.each_output() if name.rpartition("/")[2] == output]
    return {name: source.like(arrays, matrices[name]) for name, arrays in held.items()}


def _check_targets(item: Item, manner: Manner) -> None:
    """Refuse before the work what could not be written after it."""
    targets = list(item.targets.values())
    if not are_apart(targets):
        names = " and the ".join("result" if name == "volume" else name for name in item.targets)
        raise FileFailed(f"The {names} would become the same file '{item.target}'; give each a name of its own.")
    any_run = "" if manner.resume else manner.run or None
    ours = any_run is not None and records.was_begun(item.target, any_run)
    for target in targets:
        check_target(target, item.make_folders)
        check_not_read(target, [item.source])
        if not (manner.overwrite or ours):
            other = ""
            if manner.resume:
                known = records.is_known(target)
                other = " and was made from another input or with other settings" if known else _UNKNOWN
            check_new(target, other)


def _write(
    item: Item, volumes: Mapping[str, Volume | Frames], key: dict[str, Any], manner: Manner, report: dict[str, Any]
) -> None:
    """Write the outputs and their record: all or none. A failure leaves no folder that was made for them, and what was
    to be replaced as it was: files take their places when all of them are whole."""
    targets = item.targets
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as staging:
        for target in targets.values():
            if item.make_folders:
                make_folder(target.parent, undo)
        whole: list[tuple[Path, Path]] = []
        for name, target in targets.items():
            whole += staged(target, functools.partial(write, volumes[name]), staging)
        try:
            before = records.kept(targets.values())
            undo.callback(records.put_back, before)
            records.begin(targets.values(), key, manner.run)
            for file, place in whole:
                if place.exists():
                    before.update(dict.fromkeys(before))  # no record holds for what was replaced in part
                put(file, place, undo)
            records.finish(targets, key, manner.run, report)
        except OSError as error:
            raise FileFailed(
                f"The result or its record in '{item.target.parent}' can not be written: {error.strerror}."
            ) from error
        undo.pop_all()
