"""Files that appear complete under their names, or not at all: one, or several together."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from medgan import processes, records
from medgan.labeltable import TableError
from medgan.volume import VolumeError, file_format, stem_of

FOLDER_START = ".medgan-"
"""How the names of the folders begin in which a file is written before it moves to its place."""


def complete(
    writers: Mapping[Path, Callable[[Path], object]],
    make_folders: bool = False,
    before_moving: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Have files written beside their places, and move them there when all of them are whole, in their order.

    A writer gets the name in that other folder. Returns all files that came of it: an .mhd or .nhdr has another one
    for its voxels, which comes before it. Raises :class:`VolumeError`, or what a writer raises; then no file that is
    new and no folder that was made for it stays, and what was to be replaced is as it was, unless moving failed half
    way. Records of how the files were made are forgotten, because they hold for what is replaced.
    """
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as staging:
        if make_folders:
            for path in writers:
                make_folder(path.parent, undo)
        parts = [part for path, write_there in writers.items() for part in staged(path, write_there, staging)]
        before_moving()
        records.forget(writers)
        replaced = False
        for part, place in parts:
            existed = place.exists()
            try:
                put(part, place, undo)
            except OSError as error:
                raise VolumeError(_no_room(place, error, replaced)) from error
            replaced = replaced or existed
        undo.pop_all()
    return [place for _, place in parts]


def staged(path: Path, write_there: Callable[[Path], object], staging: contextlib.ExitStack) -> list[tuple[Path, Path]]:
    """Have a file written in a folder beside its place, which ends with ``staging``; where its parts are and belong.

    Raises :class:`VolumeError`, or what ``write_there`` raises.
    """
    # A folder of its own, because .mhd and .nhdr are two files and name each other.
    processes.sweep(path.parent, FOLDER_START)
    try:
        folder = Path(tempfile.mkdtemp(prefix=processes.folder_prefix(FOLDER_START), dir=path.parent))
    except OSError as error:
        raise VolumeError(_no_room(path, error)) from error
    staging.callback(shutil.rmtree, folder, ignore_errors=True)
    try:
        written = _as_written(folder / path.name)
        write_there(written)
        if written.name != path.name:
            written.rename(folder / path.name)
        files = sorted(folder.iterdir(), key=lambda file: file.name == path.name)  # the header comes last
    except (VolumeError, TableError) as error:
        raise type(error)(str(error).replace(str(folder), str(path.parent))) from error
    except (OSError, RuntimeError) as error:
        raise VolumeError(_no_room(path, error)) from error
    return [(file, path.parent / file.name) for file in files]


def put(part: Path, place: Path, undo: contextlib.ExitStack) -> None:
    """Move a file to its place; ``undo`` removes it again if none was there. Raises ``OSError``."""
    if not place.exists():
        undo.callback(_try, place.unlink)
    os.replace(part, place)


def make_folder(folder: Path, undo: contextlib.ExitStack | None = None) -> None:
    """Make a folder, and those that it lies in, unless it is there; ``undo`` removes again what was made and is empty.

    Raises :class:`VolumeError`.
    """
    if folder.is_dir():
        return
    if undo is not None:
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            undo.callback(_try, missing.rmdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VolumeError(f"Folder '{folder}' can not be made: {error.strerror}.") from error


def write_text(text: str, path: Path) -> None:
    """A small text that appears complete or not at all. Raises :class:`VolumeError`."""
    complete({path: text_writer(text)})


def put_text(text: str, path: Path, errors: str = "strict") -> None:
    """A small text that appears complete or not at all, where no file has a record; ``errors`` as of ``str.encode``.

    Raises ``OSError``.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n", errors=errors)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def text_writer(text: str) -> Callable[[Path], object]:
    """For :func:`complete`."""
    return lambda part: part.write_text(text, encoding="utf-8", newline="\n")


def _as_written(path: Path) -> Path:
    """The name under which the libraries write: an ending in capitals they take for another format, or for none."""
    return path.with_name(stem_of(path) + file_format(path))


def _try(remove: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        remove()


def _no_room(path: Path, error: Exception, replaced: bool = False) -> str:
    reason = getattr(error, "strerror", None)
    if reason is None:
        free = shutil.disk_usage(path.parent).free
        reason = f"the disk is full or not writable ({free / 1e6:.0f} MB free)"
    left = "files that were to be replaced with it are new already" if replaced else "nothing was changed there"
    return f"'{path.name}' can not be written into '{path.parent}': {reason}; {left}."
