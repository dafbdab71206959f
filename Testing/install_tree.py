"""What a person has on disk after Slicer installed the extension: one flat folder with the files that CMake lists."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from update_file_list import MODULE_FOLDER, files_in_cmake


def install(folder: Path) -> Path:
    """Copy exactly the listed files into a ``qt-scripted-modules`` with an awkward path; that folder."""
    installed = folder / "Slicer é x" / "lib" / "qt-scripted-modules"
    for name in files_in_cmake():
        target = installed / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MODULE_FOLDER / name, target)
    return installed


def environment(folder: Path) -> dict[str, str]:
    """Environment variables for a child process that knows neither this tree nor the person's own models."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MEDGAN_MODELS")}
    return {**kept, "HOME": str(folder), "USERPROFILE": str(folder), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
