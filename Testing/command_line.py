"""The ``medgan`` command as tests start it: as a process of its own, or within theirs where no child is involved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import medgan

PACKAGES = str(Path(medgan.__file__).resolve().parents[1])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGES, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1", **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "medgan", *map(str, arguments)]


def run(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment(**more),
        timeout=300,
        check=False,
    )


def one_sentence(done: subprocess.CompletedProcess[str], phrase: str, code: int = 1) -> None:
    """Exit code, silence on stdout, and one line on stderr that is a sentence with this phrase in it."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert phrase in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.endswith(".\n")
    assert "Traceback" not in done.stderr
