"""Enhancing files: which file goes where, and one file from reading to writing in a child process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgan.job import Job, JobError, JobState, JobStatus
from medgan.settings import EnhanceSettings
from medgan.volume import FORMATS, Volume, VolumeError, file_format, read_volume, write_volume
from medgan.writing import check_target

POLL_S = 0.05


class UsageError(ValueError):
    """A command line that says no clear thing; the text is one sentence."""


class FileFailed(Exception):
    """One file could not be enhanced: a sentence, and the child's traceback if there was one."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


@dataclass(frozen=True)
class Item:
    """One file to enhance and the files it becomes. ``make_folders``: theirs are made when they do not exist."""

    source: Path
    target: Path
    difference: Path | None = None
    make_folders: bool = False


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
        failed = bool(self.error)
        return {
            "input": str(self.item.source),
            "output": None if failed else str(self.item.target),
            "difference": None if failed or self.item.difference is None else str(self.item.difference),
            "status": "failed" if failed else "done",
            "error": self.error or None,
            "messages": self.messages,
            "report": self.report,
        }


def plan(paths: Sequence[Path], out: Path | None, difference: Path | None) -> list[Item]:
    """The items of ``IN OUT`` or of ``IN... --out FOLDER``. Raises :class:`UsageError`.

    A folder stands for the volume files in it, or, when it has none, for one DICOM series. With ``--out``
    results are called ``<name>_enhanced`` and keep their format; ``difference`` is then a folder too.
    """
    if out is None:
        if len(paths) != 2:
            raise UsageError("Say where to write: 'medgan enhance IN OUT' for one file, or '--out FOLDER' for several.")
        source, target = paths
        if not file_format(target):
            raise UsageError(
                f"'{target}' is not the name of a volume file; end it with one of {', '.join(FORMATS)}, or use --out "
                "for a folder."
            )
        if len(_files(source)) > 1:
            raise UsageError(f"'{source}' holds several volumes; write them into a folder with --out.")
        return [Item(_files(source)[0], target, difference)]
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file; --out takes a folder.")
    if difference is not None and file_format(difference):
        raise UsageError("With --out, --difference takes a folder too, because each file gets its own.")
    items = [_named(source, out, difference) for path in paths for source in _files(path)]
    sources = [item.source.resolve() for item in items]
    for item in items:
        if sources.count(item.source.resolve()) > 1:
            raise UsageError(f"'{item.source}' is given twice; name each file once.")
        twins = [str(other.source) for other in items if other.target == item.target]
        if len(twins) > 1:
            raise UsageError(f"{' and '.join(twins)} would both become '{item.target}'; enhance them one by one.")
    return items


def enhance_file(
    item: Item,
    settings: EnhanceSettings,
    overwrite: bool = False,
    watch: Callable[[JobState], None] = lambda state: None,
) -> Result:
    """Read, enhance in a child process, write. ``watch`` gets the job's state about 20 times a second.

    Raises :class:`FileFailed`, and then neither of the item's files was written. An interruption ends the child
    and leaves nothing behind.
    """
    begun = time.monotonic()
    try:
        _check_targets(item, overwrite)
        volume = read_volume(item.source)
        messages = list(volume.meta.pop("messages", []))
        with Job("enhance", {"volume": volume}, settings) as job:
            del volume  # the child has it
            job.start()
            while (state := job.poll()).status is JobStatus.RUNNING:
                watch(state)
                time.sleep(POLL_S)
            if state.status is not JobStatus.DONE:
                raise FileFailed(state.error or "The task was cancelled.", state.details)
            outputs = job.outputs()
        _write(item, outputs.volumes)
    except (VolumeError, JobError) as error:
        raise FileFailed(str(error)) from error
    report = {**outputs.report, "total_seconds": round(time.monotonic() - begun, 2)}
    return Result(item, report, messages + list(report.get("messages", [])))


def _files(path: Path) -> list[Path]:
    """The files that a path of the command line stands for; the path itself unless it is a folder of volumes."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and file_format(file) and file.name[0] != ".")
    return found or [path]


def _named(source: Path, out: Path, difference: Path | None) -> Item:
    ending = file_format(source)
    stem = source.name[: len(source.name) - len(ending)] if ending else source.resolve().name
    ending = ending or ".nii.gz"  # a DICOM folder
    change = None if difference is None else difference / f"{stem}_difference{ending}"
    return Item(source, out / f"{stem}_enhanced{ending}", change, make_folders=True)


def _check_targets(item: Item, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    targets = [target for target in (item.target, item.difference) if target is not None]
    if len(set(targets)) < len(targets):
        raise FileFailed(f"The result and the difference would both become '{item.target}'; give them two names.")
    for target in targets:
        if target.exists() and item.source.exists() and target.samefile(item.source):
            raise FileFailed(f"'{target}' is the input itself; give the result another name.")
        if target.exists() and not overwrite:
            raise FileFailed(f"'{target}' exists already; add --overwrite to replace it.")
        if target.parent.is_dir() or not item.make_folders:
            check_target(target)
        else:
            there = next(folder for folder in target.parent.parents if folder.exists())
            if not there.is_dir() or not os.access(there, os.W_OK):
                raise FileFailed(f"Folder '{target.parent}' can not be made in '{there}'; choose another.")


def _write(item: Item, volumes: dict[str, Any]) -> None:
    """Write the result and the difference: both or none. A failure leaves no folder that was made for them."""
    with contextlib.ExitStack() as undo:
        wanted: list[tuple[Volume, Path]] = [(volumes["volume"], item.target)]
        if item.difference is not None:
            wanted.append((volumes["difference"], item.difference))
        for volume, target in wanted:
            if item.make_folders and not target.parent.is_dir():
                try:
                    target.parent.mkdir(parents=True)
                except OSError as error:
                    raise FileFailed(f"Folder '{target.parent}' can not be made: {error.strerror}.") from error
                undo.callback(_try, target.parent.rmdir)
            write_volume(volume, target)
            undo.callback(_try, target.unlink)
        undo.pop_all()


def _try(remove: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        remove()
