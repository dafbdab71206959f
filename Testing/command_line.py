"""The ``medgan`` command as tests start it: as a process of its own, or within theirs, which takes seconds less."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import medgan
from medgan import cli

PACKAGES = str(Path(medgan.__file__).resolve().parents[1])


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGES, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1", **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "medgan", *map(str, arguments)]


def run(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Within this process: the same entry point. The child that does the work waits for the next test."""
    with contextlib.ExitStack() as undo:
        out, err = (undo.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        undo.enter_context(mock.patch.dict(os.environ, environment(**more)))
        undo.enter_context(mock.patch.object(sys, "argv", ["medgan", *map(str, arguments)]))
        undo.enter_context(_printing_to(1, "stdout", out, "surrogateescape"))
        undo.enter_context(_printing_to(2, "stderr", err, "backslashreplace"))
        if cwd is not None:
            undo.callback(os.chdir, os.getcwd())
            os.chdir(cwd)
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        said = [_written(file).decode("utf-8") for file in (out, err)]
    return subprocess.CompletedProcess(list(arguments), code, *said)


def _written(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def _printing_to(number: int, name: str, file: IO[bytes], errors: str) -> Iterator[None]:
    """What is printed there, in Python or below it, goes to the file; letters it has no code for as Python does it."""
    before = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        with (
            open(number, "w", encoding="utf-8", errors=errors, closefd=False) as stream,
            mock.patch.object(sys, name, stream),
        ):
            yield
    finally:
        os.dup2(before, number)
        os.close(before)


def run_alone(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """As a process of its own."""
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
