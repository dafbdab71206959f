"""Fixtures of the widget tests: a Slicer to open modules in, the module's own panel, time, and pictures."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qt_probe import SkippedModule, why_no_widgets

INSIDE_SLICER = hasattr(sys.modules.get("slicer"), "app")
SkippedModule.reason = "" if INSIDE_SLICER else why_no_widgets()
if not SkippedModule.reason:
    from panel_tools import Person, models_that

    if INSIDE_SLICER:
        from inside_slicer import Heartbeat, take
        from inside_slicer import wait_until as run_until
    else:
        import standin
        from standin.problems import problems
        from standin.screens import take
        from standin.waiting import Heartbeat
        from standin.waiting import wait_until as run_until

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE_FILE = REPOSITORY / "MedGANSlicer" / "MedGANSlicer.py"
PICTURES = Path(os.environ.get("MEDGAN_SCREENSHOTS", REPOSITORY / "build" / "screenshots"))
PANEL_WIDTH = 350


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Without Qt's libraries every file here is skipped with the reason; otherwise pytest goes on as it does."""
    return SkippedModule.from_parent(parent, path=module_path) if SkippedModule.reason else None


@pytest.fixture(scope="session")
def make_standin() -> Iterator[Callable[[Path], standin.Standin] | None]:
    """Starts a stand-in in a folder; None inside the real Slicer."""
    if INSIDE_SLICER:
        yield None
        return
    with standin.install() as make:
        yield make


@pytest.fixture
def slicer_standin(make_standin: Any, tmp_path: Path) -> Iterator[standin.Standin]:
    """A Slicer that has just started, with a main window. What its slots raise fails the test."""
    if make_standin is None:
        pytest.skip("this is the real Slicer")
    problems.clear()
    folder = tmp_path / "Slicer"
    folder.mkdir()
    running = make_standin(folder)
    yield running
    running.close()
    problems.check()


@pytest.fixture
def a_module_widget(make_standin: Any, request: pytest.FixtureRequest) -> Any:
    """The Python widget of MedGANSlicer, opened as a person opens it; inside Slicer, the running one."""
    if not MODULE_FILE.is_file():
        pytest.skip(f"{MODULE_FILE.name} does not exist yet")
    if make_standin is None:
        import slicer
        import slicer.util

        slicer.mrmlScene.Clear()
        slicer.util.selectModule(MODULE_FILE.stem)
        return slicer.util.getModuleWidget(MODULE_FILE.stem)
    running = request.getfixturevalue("slicer_standin")
    running.load_module(MODULE_FILE)
    running.start_up()
    return running.open_module(MODULE_FILE.stem)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """``wait_until(condition, timeout=10.0)`` runs Qt's event loop until the condition holds."""
    return run_until


@pytest.fixture
def heartbeat() -> Heartbeat:
    """``with heartbeat: …`` measures how long the event loop stood still: ``heartbeat.longest_gap`` in seconds."""
    return Heartbeat()


@pytest.fixture
def screenshot() -> Callable[..., list[Path]]:
    """``screenshot(widget, name)`` writes the panel's picture at 350 pixels, light and dark; the files' paths."""

    def picture(widget: Any, name: str, width: int = PANEL_WIDTH) -> list[Path]:
        is_python_widget = hasattr(widget, "moduleName")
        return take(widget.parent if is_python_widget else widget, name, PICTURES, width)

    return picture


# The person at MedGAN's own panel


@pytest.fixture
def jobs_folder(tmp_path, monkeypatch):
    """Where the jobs of this test are made."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def person(jobs_folder, tmp_path, monkeypatch, a_module_widget, wait_until):
    """Somebody at the opened panel who also has the models \"quick\", \"endless\" and \"failing\"."""
    monkeypatch.setenv("MEDGAN_MODELS", str(models_that(tmp_path / "models", "quick", "endless", "failing")))
    a_module_widget._panels["enhance"][1]._models.reload()
    return Person(a_module_widget, wait_until, monkeypatch)


@pytest.fixture
def equipped_person(person, tmp_path, monkeypatch):
    """Somebody whose shipped models are quick stand-ins for denoising, deblurring and super-resolution."""
    from medgan import models
    from medgan.job import Job

    monkeypatch.setattr(models, "SHIPPED", models_that(tmp_path / "shipped", "denoise", "deblur", "superres"))
    monkeypatch.setattr(Job, "child_script", REPOSITORY / "Testing" / "Scene" / "quick_child.py")
    person.widget._panels["enhance"][1]._models.reload()
    person.widget._refresh()
    return person
