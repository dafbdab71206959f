"""Results by their names, before the work: which files they become, and that nothing else is lost to them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from medgan import records
from medgan.tablefiles import ENDINGS
from medgan.volume import VolumeError, file_format, stem_of

_VOXELS = {".mhd": ".zraw", ".nhdr": ".raw.gz"}


def files_of(target: Path) -> list[Path]:
    """The file itself; of an .mhd or .nhdr also the one that its voxels are going to be written into."""
    ending = _VOXELS.get(file_format(target))
    return [target] if ending is None else [target, target.with_name(stem_of(target) + ending)]


def place_of(file: Path) -> str:
    """The same for all spellings of a path; of a link its own place, because it is what is replaced."""
    return os.path.normcase(file.parent.resolve() / file.name)


def are_apart(targets: Sequence[Path]) -> bool:
    """Whether no two of the results would be written into one file."""
    places = [place_of(file) for target in targets for file in files_of(target)]
    return len(set(places)) == len(places)


def check_not_read(target: Path, sources: Collection[Path]) -> None:
    """Raise :class:`VolumeError` for a result that would take the place of a file that is read."""
    for file in files_of(target):
        if file.is_file() and any(
            part.is_file() and file.samefile(part) for source in sources for part in _files_read(source)
        ):
            raise VolumeError(f"{_shown(file, target)} is an input itself; give the result another name.")


def _files_read(source: Path) -> list[Path]:
    """The file with those of its voxels; of a folder, which is read as DICOM, those in it that can be that."""
    if not source.is_dir():
        return [source, *records.voxel_files(source)]
    return [file for file in source.iterdir() if not file_format(file) and file.suffix.lower() not in ENDINGS]


def check_new(target: Path, why: str = "", how: str = "--overwrite") -> None:
    """Raise :class:`VolumeError` when one of its files is there; ``why`` and ``how`` complete the sentence."""
    for file in files_of(target):
        if file.exists():
            raise VolumeError(f"{_shown(file, target)} exists already{why}; add {how} to replace it.")


def _shown(file: Path, target: Path) -> str:
    return f"'{file}'" if file == target else f"'{file}', which holds the voxels of '{target.name}',"
