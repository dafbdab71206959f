"""Whether a process is alive, ending one with everything it started, and removing what a dead one left behind.

Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WINDOWS = os.name == "nt"


def alive(pid: int) -> bool:
    """Whether a process with this number exists."""
    if not WINDOWS:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    synchronize, timed_out = 0x00100000, 0x102
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return kernel.WaitForSingleObject(handle, 0) == timed_out
    finally:
        kernel.CloseHandle(handle)


def started(pid: int) -> str:
    """When a process began, in the words of its system: its number is given to others later; '' if that is unknown."""
    with contextlib.suppress(OSError, IndexError):
        if WINDOWS:
            kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
            handle = kernel.OpenProcess(0x1000, False, pid)  # to ask, no more
            times = [ctypes.c_ulonglong() for _ in range(4)]
            known = kernel.GetProcessTimes(handle, *map(ctypes.byref, times))
            kernel.CloseHandle(handle)
            return str(times[0].value) if known else ""
        if Path("/proc/self/stat").exists():
            return (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
            )
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        same_for_all = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # it tells local time in the words of a language
        return subprocess.run(command, capture_output=True, check=False, text=True, env=same_for_all).stdout.strip()
    return ""


def own_group() -> dict[str, Any]:
    """Arguments for ``subprocess.Popen`` that let :func:`end_tree` reach the grandchildren too.

    They also keep Ctrl-C from the child: the parent asks it to stop instead.
    """
    if WINDOWS:
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
        return {"creationflags": flags}
    return {"start_new_session": True}


def end_tree(process: subprocess.Popen[bytes], real_pid: int | None = None) -> None:
    """End a process started with :func:`own_group` and its descendants, and wait until it is gone.

    ``real_pid`` is the interpreter behind a launcher: on Windows it outlives the launcher otherwise.
    """
    if WINDOWS:
        for pid in {process.pid, real_pid} - {None}:
            command = ["taskkill", "/F", "/T", "/PID", str(pid)]
            subprocess.run(command, capture_output=True, check=False, **own_group())
    else:
        end_group(process.pid)
    with contextlib.suppress(OSError):
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def end_group(leader_pid: int) -> None:
    """End what is left of a process group on POSIX; nothing elsewhere."""
    if not WINDOWS:
        # macOS answers "not permitted" for a group of which only a zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader_pid, signal.SIGKILL)


def was_out_of_memory(exit_code: int, log: str) -> bool:
    """Whether a process that nobody stopped was ended for lack of memory, as far as one can tell.

    On Linux and macOS the kernel kills with signal 9 (137 through a shell); Windows refuses the allocation, with a
    status of its own. Slicer's launcher makes 1 of both and says "exit abnormally", in the log of the process's first
    job only. Other crashes leave the trace of ``faulthandler``, and a child of ours that fails by itself leaves words.
    """
    if exit_code in (-9, 137) or exit_code & 0xFFFFFFFF in (0xC0000017, 0xC000012D):
        return True
    end = "\n" + log[-2000:].lower()
    crashed = "Fatal Python error" in log or "Windows fatal exception" in log
    if exit_code == 1 and not crashed and ("exit abnormally" in end or not end.strip()):
        return True
    return any(
        word in end for word in ("\nkilled", "bad_alloc", "out of memory", "memoryerror", "cannot allocate memory")
    )


def remove_folder(folder: Path) -> None:
    """Remove a folder that a process has had which is ended: Windows keeps the files of one for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def folder_prefix(start: str) -> str:
    """The beginning of the names of this process's temporary folders; :func:`sweep` knows its owner by it.

    It tells the host too, because a folder may be shared by several.
    """
    return f"{_of_this_host(start)}{os.getpid()}-"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and ``kill`` come when the block is left. Does nothing but in the first thread, which alone gets them."""
    came: list[int] = []
    earlier: dict[int, Any] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        if signal.getsignal(number) is not None:  # None: of a program around Python, which could not be set again
            with contextlib.suppress(ValueError):
                earlier[number] = signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def sweep(folder: Path, start: str) -> None:
    """Remove temporary folders in ``folder`` whose process on this host was killed before it could do so."""
    for left in folder.glob(f"{_of_this_host(start)}*-*"):
        pid = left.name.removeprefix(_of_this_host(start)).split("-")[0]
        if pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _of_this_host(start: str) -> str:
    # A hash of the whole name: those of a cluster's hosts often differ in their last letters only.
    return f"{start}{hashlib.sha256(os.fsencode(platform.node())).hexdigest()[:16]}-"
