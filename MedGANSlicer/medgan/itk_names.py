"""Names under which ITK reads and writes: it does not take every name that Python takes.

Beside ``a.nii`` it reads the voxels of that file for ``a.nii.gz``. On Windows it takes the UTF-8 of a name for letters
of the system's code page, so names with other letters than ASCII lead nowhere there, unless that page is UTF-8 too
(https://github.com/SimpleITK/SimpleITK/issues/795).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from medgan import processes, records
from medgan.volume import VolumeError, file_format

ASCII_ONLY: bool = processes.WINDOWS and ctypes.windll.kernel32.GetACP() != 65001  # type: ignore[attr-defined]

ROOM_START = "medgan-file-"
"""How the names of the folders begin in which files lie under other names while ITK has them open."""


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Path]:
    """The same file, or folder of DICOM files, under a name that ITK reads; a link or a copy where need be.

    Raises :class:`VolumeError`.
    """
    has_twin = file_format(path) == ".nii.gz" and path.with_name(path.name[:-3]).exists()
    if not ASCII_ONLY and not has_twin:
        yield path
        return
    is_folder = path.is_dir()
    beside = [file for file in path.iterdir() if file.is_file()] if is_folder else records.voxel_files(path)
    if not has_twin and all(str(file).isascii() for file in (path, *beside)):
        yield path
        return
    for file in () if is_folder else beside:  # the header says where its voxels are
        if not str(file).isascii() and (file.parent != path.parent or not file.name.isascii()):
            raise VolumeError(_refused(file))
    with _room(path) as room:
        try:
            for file in beside if is_folder else [path, *(file for file in beside if file.parent == path.parent)]:
                _link(file, room / _in_ascii(file.name))
        except OSError as error:
            raise VolumeError(f"'{path}' can not be copied into '{room.parent}': {error.strerror}.") from error
        yield room if is_folder else room / _in_ascii(path.name)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[Path]:
    """A name that ITK writes to; what it has written there, an .mhd's voxels too, lies beside ``path`` at the end.

    Raises :class:`VolumeError` and ``OSError``.
    """
    if not ASCII_ONLY or str(path).isascii():
        yield path
        return
    with _room(path) as room:
        written = room / _in_ascii(path.name)
        yield written
        for file in sorted(room.iterdir()):
            shutil.move(file, path if file == written else path.with_name(file.name))


@contextlib.contextmanager
def _room(path: Path) -> Iterator[Path]:
    """An empty folder with a name that ITK takes, among the person's own: others may not see what it holds."""
    for place in (tempfile.gettempdir(), _short(tempfile.gettempdir())):
        if place.isascii() or not ASCII_ONLY:
            processes.sweep(Path(place), ROOM_START)
            with contextlib.suppress(OSError):
                room = Path(tempfile.mkdtemp(prefix=processes.folder_prefix(ROOM_START), dir=place))
                break
    else:
        raise VolumeError(_refused(path))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _short(folder: str) -> str:
    """The name of a folder with short parts as in "MLLER~1", which Windows keeps on most disks; else the same."""
    if not processes.WINDOWS:
        return folder
    name = ctypes.create_unicode_buffer(1024)
    length: int = ctypes.windll.kernel32.GetShortPathNameW(folder, name, len(name))  # type: ignore[attr-defined]
    return name.value if 0 < length < len(name) else folder


def _refused(path: Path) -> str:
    letter = next((letter for letter in str(path) if not letter.isascii()), "")
    if not letter:
        return f"There is no temporary folder to read '{path.name}' from; name one in the variable TMPDIR."
    return (
        f"On Windows ITK can not open names with letters such as '{letter}', as in '{path}'; move or rename the file."
    )


def _in_ascii(name: str) -> str:
    """The name itself, or another one for each name, with the same ending."""
    if not ASCII_ONLY:
        return name
    return ".".join(part if part.isascii() else part.encode("punycode").decode() for part in name.split("."))


def _link(file: Path, place: Path) -> None:
    """Windows lets only some people link, and only files of the same disk link hard."""
    for link in (os.symlink, os.link):
        with contextlib.suppress(OSError):
            link(file.resolve(), place)
            return
    shutil.copyfile(file, place)
