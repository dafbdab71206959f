"""A person at the panel: what they see, what they press, and a run that is quick or endless as the test needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import slicer
import slicer.util

import phantoms
from medgan.job import Job

REPOSITORY = Path(__file__).resolve().parents[2]
SCENE_TESTS = REPOSITORY / "Testing" / "Scene"
PATIENCE_S = 60.0


def oblique_volume(name: str = "Head", shape: tuple[int, int, int] = (12, 14, 16), sigma: float = 40.0):
    """An int16 volume node, oblique, left-handed, anisotropic, shown in the slice views."""
    array = np.rint(phantoms.rician(phantoms.head(shape), sigma)).astype(np.int16)
    node = slicer.util.addVolumeFromArray(array, phantoms.awkward_geometry(), name)
    slicer.util.setSliceViewerLayers(background=node)
    return node


RESTORES = {"deblur": "blur", "superres": "resolution"}


def models_that(folder: Path, *names: str) -> Path:
    """A folder of models whose names tell ``quick_enhance`` how to behave; their weights are never read."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name / "configs").mkdir(parents=True)
        (folder / name / "models").mkdir()
        (folder / name / "models" / "model.pt").write_bytes(b"")
        ours = {
            "title": f"The {name} model",
            "task": "enhance",
            "modality": "MR",
            "network": "medgan.DenoiseNet",
            "restores": RESTORES.get(name, "noise"),
            "weights": {"faithful": {"file": "models/model.pt", "sha256": "0" * 64}},
        }
        metadata = {"version": "0.0.1", "license": "Apache-2.0", "medgan": ours}
        (folder / name / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


class Person:
    """``model``: "quick", "endless" or "failing" (see ``quick_enhance``), or the shipped "denoise"."""

    def __init__(self, widget, wait_until, monkeypatch) -> None:
        self.widget, self._wait_until = widget, wait_until
        self._monkeypatch = monkeypatch

    @property
    def ui(self):
        return self.widget.ui

    @property
    def enhance_ui(self):
        return self.ui_of("enhance")

    def ui_of(self, task: str):
        """The widgets of the panel of a task."""
        return self.widget._panels[task][1].ui

    def choose_task(self, task: str) -> None:
        """Choose it in the menu at the top."""
        index = self.ui.taskSelector.findData(task)
        assert index >= 0, task
        self.ui.taskSelector.setCurrentIndex(index)
        assert self.parameters.task == task

    def tasks(self) -> list[str]:
        """The names in the menu of tasks."""
        selector = self.ui.taskSelector
        return [selector.itemText(n) for n in range(selector.count)]

    @property
    def parameters(self):
        return self.widget._parameters

    def choose_model(self, model: str) -> None:
        if model != "denoise":
            self._monkeypatch.setattr(Job, "child_script", SCENE_TESTS / "quick_child.py")
        self.parameters.enhance.model = model

    def choose_in_menu(self, title: str) -> None:
        """Choose the entry of the model menu with that title."""
        selector, index = self.enhance_ui.modelSelector, self.menu().index(title)
        selector.setCurrentIndex(index)
        selector.activated(index)

    def menu(self) -> list[str]:
        selector = self.enhance_ui.modelSelector
        return [selector.itemText(n) for n in range(selector.count)]

    def click_place(self, row: int) -> None:
        """Click on a line of the list of places."""
        places = self.ui.placesList
        places.setCurrentRow(row)
        places.itemClicked(places.item(row))

    def places(self) -> list[str]:
        places = self.ui.placesList
        return [places.item(row).text() for row in range(places.count)] if not places.isHidden() else []

    def layers(self) -> list[str]:
        """The maps that can be switched on."""
        names = ("difference", "residual", "uncertainty", "places")
        return [name for name in names if not getattr(self.ui, f"{name}CheckBox").isHidden()]

    def volume(self, *arguments, **keywords):
        """Load a volume and have it chosen, as opening the module does."""
        node = oblique_volume(*arguments, **keywords)
        self.wait(lambda: self.parameters.inputVolume is node)
        return node

    def wait(self, condition, timeout: float = PATIENCE_S) -> None:
        self._wait_until(condition, timeout=timeout)

    def press_apply(self) -> None:
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        self.ui.applyButton.click()

    def wait_for_end(self, timeout: float = PATIENCE_S) -> None:
        self.wait(lambda: not self.widget.taskPanel.busy, timeout)
        assert "unexpected" not in self.log(), self.log()

    def wait_for_work(self) -> None:
        """Until the child process works on the task."""
        self.wait(lambda: self.ui.progressBar.value >= 25)

    def log(self) -> str:
        return self.ui.logText.toPlainText()

    def volumes(self) -> list[str]:
        return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]


def save_scene(path: Path) -> None:
    """Write the nodes of the scene, for :func:`import_scene`."""
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit()


def import_scene(path: Path) -> None:
    """Add the nodes of a file to the scene."""
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Import()


def job_folders(folder: Path) -> list[Path]:
    return list(folder.glob("medgan-job-*"))
