"""What the processor and the graphics card have free. Asks a child process, so that nobody waits."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

from medgan.memory import free_memory_bytes


class GpuQuestion:
    """Asks the NVIDIA driver; ``poll`` is None until it has answered, then a list of (name, free GB)."""

    _ARGUMENTS = ("--query-gpu=name,memory.free", "--format=csv,noheader,nounits")

    def __init__(self) -> None:
        program = shutil.which("nvidia-smi")
        self._process = None
        if program is not None:
            quiet = {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}
            self._process = subprocess.Popen(
                [program, *self._ARGUMENTS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **quiet
            )

    def poll(self) -> list[tuple[str, float]] | None:
        if self._process is None:
            return []
        if self._process.poll() is None:
            return None
        text, _ = self._process.communicate()
        return parsed(text)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def parsed(text: str) -> list[tuple[str, float]]:
    """Names and free GB of the lines that nvidia-smi wrote."""
    found = []
    for line in text.splitlines():
        name, _, free = line.rpartition(",")
        if name and free.strip().isdigit():
            found.append((name.strip(), int(free) * 1048576 / 1e9))
    return found


def freeText(gpus: list[tuple[str, float]]) -> list[str]:
    """One short line for each device: what it is and what it has free."""
    lines = [f"{name}: {free:.0f} GB" for name, free in gpus]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        lines.append("Apple GPU")
    return [*lines, f"CPU ({os.cpu_count() or 1} threads): {free_memory_bytes() / 1e9:.0f} GB"]
