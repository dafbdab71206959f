"""The module works from the files that are packaged, and from nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import install_tree


def test_module_opens_and_runs_from_the_installed_files_alone(tmp_path):
    installed = install_tree.install(tmp_path)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_installed_panel.py")), str(installed)],
        cwd=tmp_path,
        env=install_tree.environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["error"] == ""
    assert said["engine"] == str(installed / "medgan" / "__init__.py")
    assert said["library"] == str(installed / "MedGANSlicerLib" / "__init__.py")
    assert said["sources"] == ["BrainT1"]
    assert said["spread_after"] < 20.0  # 40 before
