"""Child processes that have done a job and wait for the next one, so that the seconds that the import of torch takes
are paid once and not for every file, frame and preview.

A child waits at its standard input for the folder of its next job, and gets one only if that would have been started in
the same way. It ends when its time is over, when this process closes the other end or is gone, and by :func:`end_all`.
Standard library only.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medgan import processes

BETWEEN_FILES_S = 30.0
"""How long the children of a command wait: while one result is written and the next volume read."""


def own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that a waiting child takes over with its next job."""
    return {name: value for name, value in environment.items() if name.startswith("MEDGAN_")}


@dataclass(frozen=True)
class Start:
    """All that decides how a child begins: interpreter and script, its folder and its environment."""

    command: tuple[str, ...]
    folder: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, command: tuple[str, ...], environment: Mapping[str, str]) -> Start:
        """From here, with that environment."""
        own = own_variables(environment)
        return cls(command, os.getcwd(), tuple(sorted(pair for pair in environment.items() if pair[0] not in own)))


_lock = threading.Lock()
_waiting: list[tuple[Start, subprocess.Popen[bytes]]] = []
_left: list[tuple[Path, subprocess.Popen[bytes]]] = []
"""Folders that wait for the end of the process that was started in them."""


def keep(start: Start, process: subprocess.Popen[bytes]) -> None:
    """A child that was started so, with a pipe as its standard input, and says that it waits."""
    with _lock:
        _waiting[:] = [one for one in _waiting if one[1].poll() is None] + [(start, process)]
        _remove_left()


def hand_over(start: Start, folder: Path) -> subprocess.Popen[bytes] | None:
    """Tell a waiting child of its next job. None if no child waits that was started so; the caller starts one.

    The child may end, or may never hear of it, before it has written its ``pid`` into the folder.
    """
    with _lock:
        alike = [number for number, (each, _) in enumerate(_waiting) if each == start]
        taken = [_waiting.pop(number)[1] for number in reversed(alike)]
        chosen = next((process for process in taken if process.poll() is None and _told(process, folder)), None)
        _waiting.extend((start, process) for process in taken if process is not chosen and process.poll() is None)
        _remove_left()
    return chosen


def remove_folder(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Remove the folder of a job whose process was kept; on Windows the log stays in it until that has ended, if a
    launcher such as PythonSlicer writes to it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _left.append((folder, process))  # without the lock: the garbage collector may close a job while it is held


def _remove_left() -> None:
    """Remove the folders whose process has ended meanwhile."""
    for one in [one for one in _left if one[1].poll() is not None]:
        _left.remove(one)
        processes.remove_folder(one[0])


def end_all() -> None:
    """End the children that wait, as before packages are replaced that they have loaded."""
    with _lock:
        ended = [process for _, process in _waiting]
        _waiting.clear()
    for process in ended:
        end(process)
    with _lock:
        _remove_left()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child that waits, with all it may have started."""
    close(process)
    if process.poll() is None:
        processes.end_tree(process)


def _told(process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(str(folder)).encode() + b"\n")
        process.stdin.flush()
    except (OSError, ValueError):  # it has just ended, or its end of the pipe was closed
        end(process)
        return False
    return True


def close(process: subprocess.Popen[bytes]) -> None:
    """Close this end of the pipe to a child, if there is one; a child that waits then ends."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


atexit.register(end_all)
