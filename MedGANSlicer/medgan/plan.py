"""Which files a command line asks for, and what each of them becomes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan import records, tilt
from medgan.batch import Item
from medgan.models import ModelCard, ModelError, find_chain, verify
from medgan.settings import EnhanceSettings
from medgan.targets import files_of, place_of
from medgan.volume import FORMATS, file_format, stem_of

EXTRAS = ("difference", "residual", "uncertainty")
"""Volumes that can be written besides the result."""


class UsageError(ValueError):
    """A command line that says no clear thing; the text is one sentence."""


@dataclass(frozen=True)
class Places:
    """Where a command line wants its files: ``out`` is a folder, the others are too when ``out`` is given."""

    out: Path | None = None
    difference: Path | None = None
    residual: Path | None = None
    uncertainty: Path | None = None

    def extras(self) -> dict[str, Any]:
        """The places of the volumes besides the result, by name; of those that are wanted."""
        return {name: place for name in EXTRAS if (place := getattr(self, name)) is not None}


def plan(paths: Sequence[Path], places: Places, frames: str = "") -> list[Item]:
    """The items of ``IN OUT``, of ``IN... --out FOLDER``, or of lists. Raises :class:`UsageError`.

    A folder stands for the volume files in it that no run has made, or, when it has none, for one DICOM series; a
    ``.csv`` stands for its rows. With ``--out`` results are called ``<name>_enhanced`` and keep their format; those of
    DICOM are NIfTI, or NRRD where a tilted gantry sheared the axes, which NIfTI can not hold.
    ``frames`` are those of files that do not say it themselves. Every result gets a record beside it.
    """
    from medgan import worklist

    frames = checked_frames(frames)
    lists = [path for path in paths if path.suffix.lower() == ".csv"]
    if places.out is None and not lists:
        return [_single(paths, places, frames)]
    out = places.out
    if out is not None:
        check_out(out)
    for name, place in places.extras().items():
        if file_format(place):
            raise UsageError(f"With --out, --{name} takes a folder too, because each file gets its own.")
    if out is None and len(lists) < len(paths):
        raise UsageError("A list together with other files, or with the name of one result, needs --out FOLDER.")
    items: list[Item] = []
    for path in paths:
        found = worklist.read(path, places) if path in lists else [named(file, places) for file in volume_files(path)]
        items += [dataclasses.replace(item, frames=item.frames or frames) for item in found]
    _check_twins([item for item in items if not item.problem])
    return items


def check_out(out: Path) -> None:
    """Raise :class:`UsageError` for an ``--out`` that is a file, or would be a folder with the name of one."""
    if out.is_dir():
        return
    if out.exists():
        raise UsageError(f"'{out}' is a file; --out takes a folder.")
    if file_format(out):
        raise UsageError(
            f"--out takes a folder, and '{out}' is the name of a volume file; give it as the last argument, without "
            "--out."
        )


def named(source: Path, places: Places) -> Item:
    """The item of a file whose results go into the folders of ``places`` and are named after it."""
    assert places.out is not None
    ending = file_format(source)
    stem = stem_of(source) if ending else source.resolve().name
    ending = ending or (".nrrd" if tilt.is_tilted(source) else ".nii.gz")  # a DICOM folder
    extras: dict[str, Any] = {name: folder / f"{stem}_{name}{ending}" for name, folder in places.extras().items()}
    return Item(source, places.out / f"{stem}_enhanced{ending}", **extras, make_folders=True)


def volume_files(path: Path, only_results: bool = False) -> list[Path]:
    """The files that a path stands for; the path itself unless it is a folder of volumes.

    Results of earlier runs are no inputs; where there is nothing else, raises UsageError unless ``only_results``.
    """
    try:
        if not path.is_dir():
            return [path]
        found = sorted(file for file in path.iterdir() if file.is_file() and file_format(file) and file.name[0] != ".")
    except OSError:  # whoever reads it says why, and goes on with the others
        return [path]
    if found and all(map(records.is_result, found)):
        if _holds_more(path, found):
            return [path]
        if only_results:
            return found
        raise UsageError(f"'{path}' holds nothing but results of earlier runs; give the folder of the inputs.")
    return [file for file in found if not records.is_result(file)] or [path]


def _holds_more(folder: Path, results: Sequence[Path]) -> bool:
    """Whether there are files beside the results, as those of a DICOM series are."""
    mine = {part for file in results for part in (file, *records.voxel_files(file))}
    return any(file.is_file() and file.name[0] != "." and file not in mine for file in folder.iterdir())


def checked(items: Sequence[Item], common: EnhanceSettings) -> list[Item]:
    """The items, with the problem of those whose settings or models do not go with what they ask for."""
    chains: dict[str, list[ModelCard]] = {}
    found = []
    for item in items:
        try:
            model = item.settings(common).model
            if model not in chains:
                chains[model] = find_chain(model)
                for card in chains[model]:
                    verify(card)
            if item.residual is not None and all(card.restores == "noise" for card in chains[model]):
                raise ModelError(
                    f"Model '{model}' only takes away noise and makes no residual; --difference shows what it took."
                )
        except ValueError as error:
            item = dataclasses.replace(item, problem=item.problem or str(error))
        found.append(item)
    return found


def check_tables(tables: Sequence[Path], others: Iterable[Path], out: Path | None, overwrite: bool) -> None:
    """Raise ``ValueError`` for a table that could not be written after the work, or would replace another file.

    ``others`` are the other files of the run, and ``out`` is a folder that it makes.
    """
    taken = {place_of(path) for path in others}
    for path in tables:
        if path.parent.is_dir():
            if not os.access(path.parent, os.W_OK):
                raise ValueError(f"Folder '{path.parent}' can not be written to; choose another.")
        elif path.parent != out:
            raise ValueError(f"There is no folder '{path.parent}' to write '{path.name}' into; make it first.")
        if path.is_dir():
            raise ValueError(f"'{path}' is a folder; give the name of a file.")
        if place_of(path) in taken:
            raise ValueError(f"'{path}' is the name of another file of this run; name the table differently.")
        if path.exists() and not overwrite:
            raise ValueError(f"'{path}' exists already; add --overwrite to replace it.")
        taken.add(place_of(path))


def resolved_model(text: str, base: Path = Path()) -> str:
    """The same models, with the paths of bundle folders made absolute."""
    if not (os.sep in text or "/" in text):
        return text
    if os.path.isdir(base / text):
        return str((base / text).resolve())
    parts = text.split("+")
    return "+".join(str((base / part).resolve()) if os.sep in part or "/" in part else part for part in parts)


def checked_frames(text: str) -> str:
    """The frames of a 4D file, as in "0:10", always written alike; "" for all. Raises :class:`UsageError`."""
    if not text:
        return ""
    if not re.fullmatch(r"\d*:\d*", text):
        raise UsageError(f"--frames takes the first frame and the one to stop before, as in 0:10, not '{text}'.")
    start, _, stop = text.partition(":")
    return f"{int(start or 0)}:{int(stop) if stop else ''}"


def _single(paths: Sequence[Path], places: Places, frames: str) -> Item:
    if len(paths) != 2:
        raise UsageError("Say where to write: 'medgan enhance IN OUT' for one file, or '--out FOLDER' for several.")
    source, target = paths
    if not file_format(target):
        raise UsageError(
            f"'{target}' is not the name of a volume file; end it with one of {', '.join(FORMATS)}, or use --out "
            "for a folder."
        )
    files = volume_files(source)
    if len(files) > 1:
        raise UsageError(f"'{source}' holds several volumes; write them into a folder with --out.")
    return Item(files[0], target, **places.extras(), frames=frames)


def _check_twins(items: list[Item]) -> None:
    """Raise :class:`UsageError` for two items that would write one file."""
    sources = [[file.resolve() for file in (item.source, *records.voxel_files(item.source))] for item in items]
    inputs = set(itertools.chain(*sources))
    owners: dict[str, Item] = {}
    for item, own in zip(items, sources, strict=True):
        for file in (file for target in item.targets.values() for file in files_of(target)):
            if (there := file.resolve()) in inputs and there not in own:
                raise UsageError(f"'{file}' is one of the inputs and would be written over; give another name.")
            other = owners.setdefault(place_of(file), item)
            if other is item:
                continue
            if other.source.resolve() == own[0]:
                raise UsageError(f"'{item.source}' is given twice for '{file}'; name each file once.")
            raise UsageError(f"{other.source} and {item.source} would both become '{file}'; enhance them one by one.")
