"""Whether widgets can be made here, asked of a child process: Qt without its libraries may end the one that asks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

_QUESTION = "from PySide6 import QtUiTools, QtWidgets; QtWidgets.QApplication([]); QtWidgets.QPushButton('x').grab()"


def why_no_widgets() -> str:
    """One sentence on what is missing, or ""."""
    for module, package in (("PySide6", "PySide6-Essentials"), ("slicer", "slicer-core")):
        if importlib.util.find_spec(module) is None:
            return f"the widget tests need the Python package {package}"
    done = subprocess.run(
        [sys.executable, "-c", _QUESTION],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return f"Qt can not make widgets here: {said[-1] if said else f'exit code {done.returncode}'}"


class SkippedModule(pytest.Module):
    """A test file that is not even imported. ``reason`` is the sentence that pytest shows."""

    reason = ""

    def collect(self):
        pytest.skip(self.reason, allow_module_level=True)
