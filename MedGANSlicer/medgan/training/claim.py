"""The folder of a training run: where it is, what belongs to it, and that only one training works in it.

Imports without torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medgan import bundle_files, exchange, processes
from medgan.models import catalogue
from medgan.settings import TrainSettings
from medgan.training.checkpoint_files import NAME, has_checkpoint
from medgan.volume import file_format, stem_of

MAY_CHANGE = (
    "out", "name", "steps", "minutes", "device", "precision", "save_minutes", "log_every", "validate_every",
    "sample_every", "patience", "tensorboard",
)  # fmt: skip
"""Settings that may differ when a training goes on."""


RENEWED_S, SILENT_S = 30.0, 300.0
"""A training shows every so many seconds that it is alive; one on another host that has not for so long is over."""


class RunError(ValueError):
    """A run folder that can not be used; the text is one sentence for a person."""


def completed(settings: TrainSettings) -> TrainSettings:
    """The settings with a name for the model and a folder for the run, where the person gave none, and with absolute
    paths, which mean the same in every folder. Raises ``ValueError`` for a name that no model can have, and where
    there is no folder for models."""
    bundle_files.person_folder()  # where the model goes in the end
    if settings.data:
        settings = dataclasses.replace(settings, data=_absolute(settings.data))
    if settings.start and Path(settings.start).is_dir() and settings.start not in catalogue():
        settings = dataclasses.replace(settings, start=_absolute(settings.start))
    name = settings.name
    if not name:
        source = Path(settings.data).name or "scene"
        source = stem_of(source) if file_format(source) else source.removesuffix(".csv")
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip("-._") or "data"
        name = plain if plain.startswith(settings.kind.value) else f"{settings.kind.value}-{plain}"
        name = name[:60]
    bundle_files.checked_name(name)
    out = settings.out or str(default_folder(name))
    return dataclasses.replace(settings, name=name, out=str(Path(os.path.expanduser(out))))


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def default_folder(name: str) -> Path:
    """Where a run of that name keeps itself unless told: beside the person's models."""
    return bundle_files.person_folder().parent / "runs" / name


@contextlib.contextmanager
def opened(settings: TrainSettings) -> Iterator[str]:
    """Hold the run folder ``settings.out`` while training; gives the name of the run, by which its model is known.

    Makes it if need be and writes ``settings.json``. Raises :class:`RunError` when it can not be written, another
    process trains in it, or it holds a training of other settings.
    """
    folder = Path(settings.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = _claimed(settings, folder)
    except OSError as error:
        raise RunError(
            f"The run folder '{folder}' can not be written: {error.strerror or error}; choose another folder."
        ) from error
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(folder / "running.json", over), daemon=True)
    renewing.start()
    try:
        yield run
    finally:
        over.set()
        renewing.join()
        with contextlib.suppress(OSError):
            (folder / "running.json").unlink()


def _renew(path: Path, over: threading.Event) -> None:
    while not over.wait(RENEWED_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def earlier(folder: Path) -> dict[str, Any]:
    """The settings of the training in a folder, and its "run"; empty for a folder without one."""
    try:
        held = exchange.read_json(folder / "settings.json")
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _claimed(settings: TrainSettings, folder: Path) -> str:
    held = earlier(folder)
    begun = has_checkpoint(folder)
    if not held and any(entry.name not in ("running.json", "settings.json") for entry in folder.iterdir()):
        raise RunError(f"Folder '{folder}' holds other files and no training; give an empty or a new folder.")
    if begun:
        _check_same(settings, held, folder)
    _check_alone(folder)
    run = str(held.get("run") or uuid.uuid4().hex)
    exchange.write_json({**settings.to_dict(), "run": run}, folder / "settings.json")
    return run


def _check_same(settings: TrainSettings, held: dict[str, Any], folder: Path) -> None:
    plain = settings.to_dict()
    for name, value in plain.items():
        if name not in MAY_CHANGE and name in held and not _same(name, held[name], value):
            called = f"The {name}" if name in ("kind", "data") else f"Setting '{name}'"  # the first two are no options
            raise RunError(
                f"The run folder '{folder}' holds a training with other settings. {called} is {held[name]!r} there, "
                f"not {value!r}; give the same settings to go on, or another folder for a new training."
            )


def _same(name: str, one: Any, other: Any) -> bool:
    if name in ("data", "start") and one and other:
        return Path(one).resolve() == Path(other).resolve()
    return bool(one == other)


def _check_alone(folder: Path) -> None:
    path, host = folder / "running.json", platform.node()
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        pid, where, started = int(held["pid"]), str(held.get("host", host)), str(held.get("started", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pid, where, started = 0, host, ""
    elsewhere = where != host
    if elsewhere:
        trains = _written_lately(folder)
    else:  # a number is given again to other processes
        trains = pid not in (0, os.getpid()) and processes.alive(pid) and started in ("", processes.started(pid))
    if trains:
        which = f"process {pid} on '{where}'" if elsewhere else f"process ({pid})"
        free = f"wait {SILENT_S / 60:.0f} minutes or delete" if elsewhere else "delete"
        raise RunError(
            f"Another {which} is training in '{folder}'; wait for it or choose another folder. If none is, {free} "
            f"'{path}'."
        )
    exchange.write_json({"pid": os.getpid(), "host": host, "started": processes.started(os.getpid())}, path)


def _written_lately(folder: Path) -> bool:
    """Whether a training has left a sign of life in its folder, which is all that is seen of one on another host."""
    written = 0.0
    for name in ("running.json", "log.jsonl", NAME):
        with contextlib.suppress(OSError):
            written = max(written, (folder / name).stat().st_mtime)
    return time.time() - written < SILENT_S
