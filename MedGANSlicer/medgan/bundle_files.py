"""Models as files: a bundle packed into one zip file, one added from such a file, one put among the person's models.

Imports without torch and runs nothing of a file. What is added appears complete in the person's model folder or not at
all, and never takes the place of another model.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medgan import processes
from medgan.models import ModelCard, ModelError, catalogue, model_folders, read_card, verify

KNOWN = {"configs": (".json",), "models": (".pt",), "docs": (".md", ".txt", ".png", ".jpg")}
"""Folders of a bundle, and the endings of the files in them that are packed and added."""

LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")

MOST_BYTES = 8 * 10**9
"""Largest model, unpacked."""

MOST_FILES = 500

MOST_JSON_BYTES = 20 * 10**6

FOLDER_START = ".medgan-model-"
"""How the names of the folders begin in which a model is unpacked before it moves to its place."""

DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError,
    UnicodeDecodeError,
)  # fmt: skip
"""What the standard library raises for zip files that are none, are cut off, or were changed."""

WAITS_S = (0.1, 0.3, 0.6)
"""How long to wait before a folder is moved again: on Windows a virus scanner may have a fresh file of it open."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def person_folder() -> Path:
    """Where the person's own models lie; it may not exist yet. Raises :class:`ModelError` if none is named."""
    own = model_folders()[1:]
    if not own:
        if os.environ.get("MEDGAN_MODELS"):
            raise ModelError("The environment variable MEDGAN_MODELS names no folder; name one for your models.")
        raise ModelError(
            "There is no home folder to keep your models in; name a folder in the environment variable MEDGAN_MODELS."
        )
    return own[0]


def check_person_folder() -> None:
    """Raise :class:`ModelError` when no model can be put among the person's own."""
    with _room(person_folder()):
        pass


def pack(card: ModelCard, path: Path) -> Path:
    """Write a model into a zip file, replacing it if it exists; the path. Raises :class:`ModelError`."""
    if path.suffix.lower() != ".zip":
        raise ModelError(f"'{path.name}' is no zip file by its name; end it with .zip.")
    verify(card)
    files = [file for file in sorted(card.folder.rglob("*")) if file.is_file() and _is_known(_relative(file, card))]
    for file in files:
        if not file.resolve().is_relative_to(card.folder.resolve()):
            raise ModelError(
                f"'{_relative(file, card)}' of model '{card.name}' is a link to a file outside its folder, which does "
                "not belong to the model; remove it, or put a copy of the file in its place."
            )
    left = {weight.path.resolve() for weight in card.weights.values()} - {file.resolve() for file in files}
    if left:
        raise ModelError(
            f"The weights '{min(left).name}' of model '{card.name}' can not be packed; a weight file lies in the "
            f"folder 'models' and ends in {' or '.join(KNOWN['models'])}, on the card as well."
        )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in files:
                packed.write(file, f"{card.name}/{_relative(file, card)}")
        os.replace(part, path)
    except OSError as error:
        raise ModelError(f"'{path}' can not be written: {error.strerror or error}; choose another place.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()  # gone to its place, or interrupted
    return path


def add(path: Path, name: str = "") -> ModelCard:
    """Add the model in a zip file to the person's models, under its own name or another; its card there.

    Raises :class:`ModelError` with one sentence for what is no model, is damaged, or has a name that is taken.
    """
    with _opened(path) as packed:
        inside, entries = _checked(packed, path)
        with _room(person_folder()) as folder:
            target = folder / checked_name(name or inside or path.stem)
            target.mkdir()
            for relative, entry in entries.items():
                file = target.joinpath(*PurePosixPath(relative).parts)
                file.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(entry) as source, file.open("wb") as copy:
                    _copied(source, copy, entry.file_size)
            card = read_card(target)
            verify(card)
            return _placed(target, person_folder())


def left_out(path: Path) -> list[str]:
    """The files of a zip file that :func:`add` does not take over, because no model needs them."""
    with _opened(path) as packed:
        names = [entry.filename for entry in packed.infolist() if not entry.is_dir()]
    top = _top(names)
    return [name for name in names if not _is_known(name.removeprefix(top))]


def install(bundle: Path, name: str) -> ModelCard:
    """Copy a bundle folder to the person's models. Where the name is taken the copy is called ``name-2``, and so on,
    unless it is the model of the same training (``medgan.run``), which is replaced. Raises :class:`ModelError`."""
    run = read_card(bundle).details.get("run")
    with _room(person_folder()) as folder:
        free = checked_name(name)
        taken = catalogue()
        number = 1
        while free in taken or (person_folder() / free).exists():
            if run and free in taken and taken[free].details.get("run") == run and _is_persons(taken[free]):
                break
            number += 1
            free = f"{name}-{number}"
        shutil.copytree(bundle, folder / free)
        return _placed(folder / free, person_folder(), replace=True)


def checked_name(name: str) -> str:
    """The name, if a model can have it. Raises :class:`ModelError`."""
    if not _NAME.fullmatch(name):
        raise ModelError(f"'{name}' can not be the name of a model; use letters, digits, '-', '_' and '.'.")
    return name


@contextlib.contextmanager
def _room(parent: Path) -> Iterator[Path]:
    """A folder that is removed again, on the same disk as the person's models."""
    folder: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        processes.sweep(parent, FOLDER_START)
        folder = Path(tempfile.mkdtemp(prefix=processes.folder_prefix(FOLDER_START), dir=parent))
        yield folder
    except OSError as error:
        raise ModelError(
            f"The model folder '{parent}' can not be written: {error.strerror or error}; make room, or name another "
            "folder in the environment variable MEDGAN_MODELS."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _placed(source: Path, parent: Path, replace: bool = False) -> ModelCard:
    target = parent / source.name
    if not replace and (source.name in catalogue() or target.exists()):
        raise ModelError(f"There is a model '{source.name}' already; give this one another name.")
    take_place(source, target, source.with_name(".before"))  # which no model is called
    return read_card(target)


def take_place(source: Path, target: Path, aside: Path) -> None:
    """Move a folder to the place of another, which is ``aside`` then, or in its place as before if that fails.

    Raises ``OSError``.
    """
    try:
        if target.exists():  # aside first, so that it is whole in one moment and new in the next
            _move(target, aside)
        _move(source, target)
    except BaseException:  # an interruption while waiting, too
        if aside.exists() and not target.exists():
            _move(aside, target)
        raise


def _move(source: Path, target: Path) -> None:
    for wait_s in WAITS_S:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait_s)
    os.replace(source, target)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as packed:
            yield packed
    except FileNotFoundError as error:
        raise ModelError(f"There is no file '{path}'; check the spelling.") from error
    except DAMAGED as error:
        raise ModelError(f"'{path.name}' is no zip file, or it is damaged; copy it again from its source.") from error
    except IsADirectoryError as error:
        raise ModelError(f"'{path}' is a folder; give a zip file.") from error
    except OSError as error:
        raise ModelError(f"'{path}' can not be read: {error.strerror or error}.") from error


def _checked(packed: zipfile.ZipFile, path: Path) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The name of the folder in a zip file ('' for none) and its known files by their place in the bundle."""
    entries = [entry for entry in packed.infolist() if not entry.is_dir()]
    if len(entries) > MOST_FILES:
        raise ModelError(f"'{path.name}' holds {len(entries)} files; a model has {MOST_FILES} at most.")
    for entry in entries:
        name, mode = entry.filename, entry.external_attr >> 16
        parts = re.split(r"[/\\]", name)
        if name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\0" in name:
            raise ModelError(f"'{path.name}' has a file '{name}' that would lie outside the model; it was not added.")
        if mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
            raise ModelError(f"'{path.name}' has '{name}', which is a link or no plain file; it was not added.")
        if entry.flag_bits & 1:
            raise ModelError(f"'{path.name}' is encrypted; unpack it with its password and pack it again.")
        if name.endswith(".json") and entry.file_size > MOST_JSON_BYTES:
            raise ModelError(f"'{path.name}' has a description '{name}' of {entry.file_size / 1e6:.0f} MB; too large.")
    total = sum(entry.file_size for entry in entries)
    if total > MOST_BYTES:
        raise ModelError(f"'{path.name}' unpacks to {total / 1e9:.1f} GB; a model has {MOST_BYTES / 1e9:g} GB at most.")
    top = _top([entry.filename for entry in entries])
    known = {
        entry.filename.removeprefix(top): entry for entry in entries if _is_known(entry.filename.removeprefix(top))
    }
    if "configs/metadata.json" not in known:
        raise ModelError(f"'{path.name}' holds no model: there is no 'configs/metadata.json' in it.")
    return top.rstrip("/"), known


def _top(names: list[str]) -> str:
    """The folder that all files of a zip file lie in, with a slash; '' when there is none."""
    place = next((name for name in names if name.endswith("configs/metadata.json")), "")
    top = place.removesuffix("configs/metadata.json")
    return top if top.count("/") <= 1 and all(name.startswith(top) for name in names) else ""


def _is_known(relative: str) -> bool:
    parts = PurePosixPath(relative).parts
    if len(parts) == 1:
        return parts[0] in LICENCES
    return len(parts) == 2 and PurePosixPath(relative).suffix.lower() in KNOWN.get(parts[0], ())


def _relative(file: Path, card: ModelCard) -> str:
    return file.relative_to(card.folder).as_posix()


def _copied(source: object, copy: object, size: int) -> None:
    """Copy at most what the zip file says a file has: more would be a trap for the disk."""
    left = size
    while left >= 0:
        block = source.read(min(1 << 20, left + 1))  # type: ignore[attr-defined]
        if not block:
            return
        left -= len(block)
        if left < 0:
            raise zipfile.BadZipFile("A file is longer than it says.")
        copy.write(block)  # type: ignore[attr-defined]


def _is_persons(card: ModelCard) -> bool:
    return card.folder.parent == person_folder().resolve()
