"""What was finished with which settings: a small record for each result, in a folder ``.medgan`` beside it.

A record says "begun" before the first file of a result appears under its name and "done" after the last one did,
so a run that was killed in between is told from a finished one, by whoever looks, on any computer that sees the
folder. ``log.jsonl`` beside the records has one line for each result that was finished.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medgan import models
from medgan.settings import EnhanceSettings

FOLDER = ".medgan"
LOG = "log.jsonl"

_LONGEST_HEADER = 1 << 20

_NAMES_VOXELS = re.compile(r"\s*(data ?file\s*:|ElementDataFile\s*=)\s*", re.IGNORECASE)

_OBJECTS = ("key", "bytes", "report")
"""What of a record is an object, where it is there."""

NOT_IN_KEY = ("device", "memory_limit_gb")
"""Settings that say how a result is computed, not which one."""


def key_of(source: Path, settings: EnhanceSettings, targets: Mapping[str, Path], frames: str = "") -> dict[str, Any]:
    """What has to be the same for a result to be the same; plain JSON values. Raises ``ModelError``."""
    chosen = {name: value for name, value in settings.to_dict().items() if name not in NOT_IN_KEY}
    weights = {
        f"{card.name}/{key}": weight.sha256 or models.sha256_of(weight.path)
        for card in models.find_chain(settings.model)
        for key, weight in card.weights.items()
    }
    return {
        "input": _fingerprint(source),
        "settings": chosen,
        "weights": weights,
        "frames": frames,
        "outputs": {name: _beside(target, targets["volume"]) for name, target in targets.items()},
    }


def finished(target: Path, key: dict[str, Any], run: str = "") -> dict[str, Any] | None:
    """The report of a result that is there and was made with this key, in this ``run`` if one is named; else None."""
    record = _read(target)
    if record.get("status") != "done" or record.get("key") != key or (run and record.get("run") != run):
        return None
    for output in key["outputs"].values():
        file = target.parent / output
        if not file.is_file() or file.stat().st_size != record.get("bytes", {}).get(output):
            return None
    return record.get("report")


def was_begun(target: Path, run: str = "") -> bool:
    """Whether a run, or this ``run`` if one is named, was ended while it put its result in place."""
    record = _read(target)
    return record.get("status") == "begun" and (not run or record.get("run") == run)


def kept(targets: Iterable[Path]) -> dict[Path, str | None]:
    """The records of files as they are now, for :func:`put_back`; None for a file without one."""
    held: dict[Path, str | None] = {}
    for target in targets:
        try:
            held[target] = _path(target).read_text(encoding="utf-8")
        except (OSError, ValueError):
            held[target] = None
    return held


def put_back(held: Mapping[Path, str | None]) -> None:
    """Let the records be what they were; as far as that can be done."""
    for target, text in held.items():
        if text is None:
            forget([target])
        else:
            with contextlib.suppress(OSError):
                _put(target, text)


def begin(targets: Iterable[Path], key: dict[str, Any], run: str) -> None:
    """Note that the files are about to appear. Raises ``OSError``."""
    for target in targets:
        _write(target, {"status": "begun", "key": key, "run": run})


def finish(targets: Mapping[str, Path], key: dict[str, Any], run: str, report: dict[str, Any]) -> None:
    """Note that all files are in place; the main one, "volume", last. Raises ``OSError``."""
    sizes = {_beside(target, targets["volume"]): target.stat().st_size for target in targets.values()}
    record = {"status": "done", "key": key, "run": run, "bytes": sizes, "report": report}
    for target in sorted(targets.values(), key=lambda target: target == targets["volume"]):
        _write(target, record)
    line = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "output": targets["volume"].name,
        "run": run,
        "host": platform.node(),
        "process": os.getpid(),
    }
    with (targets["volume"].parent / FOLDER / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def note(targets: Iterable[Path], report: Mapping[str, Any]) -> None:
    """Say how files that are in place were made, where no later run asks for it. Raises ``OSError``."""
    for target in targets:
        _write(target, {"status": "done", "report": report})


def forget(targets: Iterable[Path]) -> None:
    """Remove the records of files that were not written after all, and their folder when it is empty."""
    for target in targets:
        with contextlib.suppress(OSError):
            _path(target).unlink()
        with contextlib.suppress(OSError):
            _path(target).parent.rmdir()


def voxel_files(header: Path) -> list[Path]:
    """The files beside an .mhd or .nhdr that hold its voxels, as it names them; none for other files."""
    if header.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    try:
        with header.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_LONGEST_HEADER).splitlines()
    except OSError:
        return []
    named = [number for number, line in enumerate(lines) if _NAMES_VOXELS.match(line)]
    if not named:
        return []
    text = _NAMES_VOXELS.sub("", lines[named[-1]]).strip()
    if text.upper().startswith("LIST"):
        names = [line.strip() for line in lines[named[-1] + 1 :]]
    elif "%" in (text.split() or [""])[0]:  # a pattern and its numbers
        pattern = header.parent / text.split()[0]
        found = pattern.parent.glob(re.sub(r"(%[0-9]*d)+", "*", glob.escape(pattern.name)))
        return sorted(file for file in found if file.is_file())
    else:
        names = [text]
    return [header.parent / name for name in names if name and (header.parent / name).is_file()]


def is_known(target: Path) -> bool:
    """Whether its record says how a result was made."""
    return "report" in _read(target)


def is_result(file: Path) -> bool:
    """Whether a run has made this file, rather than a scanner."""
    return _path(file).is_file()


def _path(target: Path) -> Path:
    return target.parent / FOLDER / f"{target.name}.json"


def _read(target: Path) -> dict[str, Any]:
    try:
        record = json.loads(_path(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(record, dict) and all(isinstance(record.get(name, {}), dict) for name in _OBJECTS)
    return record if is_ours else {}


def _write(target: Path, record: dict[str, Any]) -> None:
    _put(target, json.dumps(record, default=str))


def _put(target: Path, text: str) -> None:
    """Appears complete or not at all, also when two processes write it at once."""
    path = _path(target)
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _beside(target: Path, main: Path) -> str:
    """The path from the folder of the main file, which stays right when the folders move together."""
    try:
        return Path(os.path.relpath(target, main.parent)).as_posix()
    except ValueError:  # two drives of Windows
        return str(target.absolute())


def _fingerprint(source: Path) -> str:
    """Stands for name, length and time of every file that makes up an input; '' when there is none."""
    try:
        files = [source]
        if source.is_dir():
            files = sorted(file for file in source.iterdir() if file.is_file() and not is_result(file))
        else:
            files = [source, *voxel_files(source)]
        said = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except OSError:
        return ""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
