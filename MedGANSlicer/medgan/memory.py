"""How much memory is free, before a run is planned. Standard library only."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "alloc_failed",
    "seems to be oom",
)  # fmt: skip
"""What the errors of torch, CUDA, Apple's GPU and systems say in small letters when memory runs out."""


def free_memory_bytes() -> int:
    """Bytes of RAM that a new process could take without swapping, container limits counted in; 4 GB if unknown."""
    try:
        if sys.platform.startswith("linux"):
            return min(_linux_available(), _control_group_room())
        if sys.platform == "win32":
            return _windows_available()
        if sys.platform == "darwin":
            return _mac_available()
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        pass
    return 4_000_000_000


def _linux_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise KeyError("MemAvailable")


def _control_group_room(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """What the control groups (version 2 or 1) of this process leave; very much where there is no limit.

    A limit holds for all groups below it, so the least room on the way up counts (a job of Slurm has its limit in its
    own group, a container sees its own as the root). Files that were read and are kept in memory for a while count as
    used there, but give way when memory is needed.
    """
    versions = (
        (root, "", "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    rooms = [1 << 62]
    for top, controller, limit_file, usage_file, kept in versions:
        for folder in _groups(top, controller, membership):
            try:
                limit, usage = (folder / limit_file).read_text().strip(), (folder / usage_file).read_text().strip()
            except OSError:
                continue
            if limit.isdigit():
                rooms.append(max(0, int(limit) - int(usage) + _told(folder / "memory.stat", kept)))
    return min(rooms)


def _groups(top: Path, controller: str, membership: Path) -> list[Path]:
    """The folder of the group that this process is in, those above it, and ``top``.

    ``membership`` has a line ``number:controllers:/path`` for each hierarchy; version 2 names no controllers.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        lines = []
    for line in lines:
        if len(line) == 3 and controller in line[1].split(","):
            group = top / line[2].lstrip("/")
            return [folder for folder in (group, *group.parents) if folder == top or top in folder.parents]
    return [top]


def _told(details: Path, name: str) -> int:
    """The number behind a name in a file of lines ``name number``; 0 when it is not there."""
    try:
        lines = [line.split() for line in details.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if line[0] == name), 0)


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("total_page", ctypes.c_ulonglong),
        ("available_page", ctypes.c_ulonglong),
        ("total_virtual", ctypes.c_ulonglong),
        ("available_virtual", ctypes.c_ulonglong),
        ("available_extended", ctypes.c_ulonglong),
    )


def _windows_available() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        raise OSError("GlobalMemoryStatusEx failed")
    return int(status.available)


def _mac_available() -> int:
    """Free, inactive and speculative pages, as Activity Monitor counts them."""
    text = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True, timeout=5).stdout
    pages = 0
    for line in text.splitlines():
        name, _, number = line.partition(":")
        if name in ("Pages free", "Pages inactive", "Pages speculative"):
            pages += int(number.strip(" ."))
    return pages * os.sysconf("SC_PAGE_SIZE")
