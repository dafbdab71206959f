"""The volumes of a folder, of a CSV list or of the scene, before anything is read: where they lie and their names.

Names alone are looked at here; whether two of them belong together is decided in medgan.training.data_pairs.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgan import exchange
from medgan.cells import separator_of
from medgan.synthesis.files import sidecar_of
from medgan.synthesis.set_layouts import COLUMNS, MANIFEST
from medgan.volume import LabelMap, Volume, file_format, stem_of

MOST_FILES = 100_000
"""Files after which a folder is not searched further: somebody named the root of a disk."""

PATIENT_COLUMNS = ("patient", "patientid", "subject", "subjectid", "participant", "participantid", "case", "id")
"""What the column of patients may be called, the surest first; without regard to case, "_", "-" and spaces."""

MOSTLY = 0.5
"""A column in which more than this share of the cells names volumes is one of volumes."""


class DataError(ValueError):
    """Training data that can not be used; the text is one sentence for a person."""


@dataclass(frozen=True, eq=False)
class Found:
    """One volume that may take part: a file, a DICOM folder, or a volume of the scene.

    ``name`` is relative to the data folder, with ``/``, and without the ending: "sub-01/anat/sub-01_T1w".
    """

    name: str
    path: Path | None = None
    volume: Volume | LabelMap | None = None

    @property
    def is_dicom(self) -> bool:
        return self.path is not None and self.path.is_dir()

    @property
    def shown(self) -> str:
        """How messages call it."""
        ending = file_format(self.path) if self.path is not None and not self.is_dicom else ""
        return self.name + ending


@dataclass
class Listed:
    """One row of a CSV list: a volume for each column that names one, and the patient if a column does."""

    line: int
    volumes: dict[str, Found]
    patient: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    """Everything that stands in the row, by column."""


@dataclass
class Search:
    """What lies in a place: volumes, or the rows of a list, and what was left aside and why."""

    volumes: list[Found] = field(default_factory=list)
    rows: list[Listed] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    others: int = 0
    """Files that are no volumes."""
    patients: dict[Path, str] = field(default_factory=dict)
    """Of files in sets that ``medgan synthesize`` made, by the list that lies in each."""


def search(data: str, inputs: Mapping[str, Volume | LabelMap]) -> Search:
    """The volumes in a folder or CSV list, or those given. Raises :class:`DataError` when there is nothing."""
    if not data:
        if not inputs:
            raise DataError("There is nothing to train on; name a folder of volumes, or choose volumes.")
        return Search([Found(name, volume=volume) for name, volume in inputs.items()])
    path = Path(os.path.expanduser(data))
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return _listed(path)
    if path.is_file():
        raise DataError(f"'{data}' is one file; give the folder in which the volumes lie, or a .csv that lists them.")
    if not path.is_dir():
        raise DataError(f"There is no folder '{data}'; check the spelling.")
    found = _in_folder(path)
    if not found.volumes:
        raise DataError(_nothing_there(path, found))
    return found


def _in_folder(root: Path) -> Search:
    found = Search()
    pending, seen = [root], 0
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            found.rejected.append((_relative(folder, root), f"The folder can not be read: {error.strerror}."))
            continue
        files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
        folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        seen += len(files)
        if seen > MOST_FILES:
            raise DataError(
                f"'{root}' holds more than {MOST_FILES} files; give the folder that holds the volumes alone."
            )
        found.patients |= _patients_of_set(folder)
        volumes = [file for file in files if file_format(file)]
        found.volumes += [Found(_relative(file, root), file) for file in volumes]
        if not volumes and any(_is_dicom(file) for file in files[:5]):
            found.volumes.append(Found(_relative(folder, root), folder))
        else:
            found.others += len(files) - len(volumes)
        # A model folder or the cache of another run inside the data is not data.
        pending += [entry for entry in reversed(folders) if not entry.is_symlink() and not _is_ours(entry)]
    found.patients = _joined(found.patients)
    found.volumes.sort(key=lambda volume: volume.name)
    return found


def _patients_of_set(folder: Path) -> dict[Path, str]:
    """Variants of one label map have names of their own there, and are of one patient."""
    try:
        with (folder / MANIFEST).open(encoding="utf-8", newline="") as held:
            rows = csv.DictReader(held)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                return {}
            return {
                folder / row[name]: row["patient"]
                for row in rows
                for name in ("image", "labels")
                if row[name] and row["patient"]
            }
    except (OSError, ValueError, csv.Error):
        return {}


def _joined(patients: Mapping[Path, str]) -> dict[Path, str]:
    """The same with one name for the patients that files made from one source have, whatever their sets call them."""
    same: dict[str, str] = {}

    def root(name: str) -> str:
        while name in same:
            name = same[name]
        return name

    first: dict[str, str] = {}
    for path, patient in patients.items():
        for source in _made_from(path):
            one, other = root(first.setdefault(source, patient)), root(patient)
            if one != other:
                same[other] = one
    return {path: root(patient) for path, patient in patients.items()}


def _made_from(path: Path) -> list[str]:
    """SHA-256 of the files of its patient that a volume of a set was made from."""
    try:
        held = exchange.read_json(sidecar_of(path))
        return [source["sha256"] for source in held["inputs"] if source["role"] != "reference"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _relative(path: Path, root: Path) -> str:
    if path == root:
        return root.name
    relative = path.relative_to(root)
    name = stem_of(path) if path.is_file() else path.name
    return (relative.parent / name).as_posix()


def _is_ours(folder: Path) -> bool:
    return (folder / "settings.json").is_file() and (folder / "data.json").is_file()


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _nothing_there(path: Path, found: Search) -> str:
    readable = "NIfTI, NRRD, MetaImage and NumPy files, and folders of DICOM files"
    if found.others:
        return f"Folder '{path}' holds {found.others} files, but no volumes; readable are {readable}."
    return f"Folder '{path}' is empty; readable are {readable}."


def _listed(path: Path) -> Search:
    """The rows of a list whose columns name files, relative to the list, and the patient if you like."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise DataError(f"List '{path}' can not be read: {reason}.") from error
    reader = csv.reader(io.StringIO(text), delimiter=separator_of(text))
    try:
        columns = [name.strip() for name in next(reader, [])]
        cells = [(reader.line_num, dict(zip(columns, map(str.strip, row), strict=False))) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"List '{path}' can not be read: {error}.") from error
    plain = {re.sub(r"[\s_-]", "", name.lower()): name for name in reversed(columns)}
    patient_column = next((plain[word] for word in PATIENT_COLUMNS if word in plain), "")
    named = [
        name
        for name in columns
        if name != patient_column and _names_volumes([row[name] for _, row in cells if row.get(name)], path.parent)
    ]
    if not named:
        raise DataError(
            f"List '{path.name}' names no volumes; its first line must name the columns, for example 'image,label'."
        )
    found = Search(columns=named)
    for line, row in cells:
        volumes = {name: _named(row[name], path.parent) for name in named if row.get(name)}
        if volumes:
            found.rows.append(Listed(line, volumes, row.get(patient_column, ""), row))
    return found


def _names_volumes(cells: Sequence[str], folder: Path) -> bool:
    """Whether most of the cells are files by their endings, or DICOM folders; a class may be called "MS/NMO"."""
    return sum(_is_place(text.replace("\\", "/"), folder) for text in cells) > MOSTLY * len(cells)


def _is_place(text: str, folder: Path) -> bool:
    return bool(file_format(text)) or ("/" in text and (folder / text).is_dir())


def _named(text: str, folder: Path) -> Found:
    written = Path(text.replace("\\", "/"))
    return Found((written.parent / stem_of(written)).as_posix(), folder / written)
