"""A task from nodes to nodes: prepare (nodes to arrays), the engine, publish (arrays to nodes).

``process`` does the three in one process and returns when they are done. ``start`` gives the engine's part to
a child process and returns at once a :class:`Run`, which a panel polls. The scene is read and written only in
``prepare`` and ``publish``, on the caller's thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from medgan.job import Job, JobState, JobStatus
from medgan.progress import Progress, silent
from medgan.settings import Settings
from medgan.tasks import Outputs, task
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib import Places
from MedGANSlicerLib.Places import publishPlaces
from MedGANSlicerLib.ResultNodes import MAPS, RESULT_WORD, ResultNodes, provenance, resultWord
from MedGANSlicerLib.SceneBridge import Region, arrayOf, matrixOf, publishMap, publishVolume, volumeFromNode
from MedGANSlicerLib.SceneEdits import placeBeside, removeOnFailure, uniqueName

PREVIEW = "MedGAN.Preview"
"""Attribute of the nodes that show the result of a part of their source, until the next run."""


def prepare(
    inputNode, settings: Settings, taskName: str = "enhance", region: Region | None = None
) -> dict[str, Volume | LabelMap]:
    """What the task reads, copied out of the scene. Raises ``ValueError`` with one sentence for the person.

    With a ``region`` (see :mod:`MedGANSlicerLib.Preview`) it reads only that part of the volume.
    """
    settings.check()
    if taskName not in RESULT_WORD:
        raise ValueError(f"There is no task '{taskName}' for a volume; there are: {', '.join(RESULT_WORD)}.")
    if inputNode is None:
        raise ValueError("There is no input; choose a volume.")
    if inputNode.GetScene() is None:
        raise ValueError(f"'{inputNode.GetName()}' is in no scene; add it to one first.")
    return {"volume": volumeFromNode(inputNode, region)}


def startJob(inputs: Mapping[str, Volume | LabelMap], settings: Settings, taskName: str = "enhance", **options) -> Job:
    """A started child process that does the task; ``options`` go to :class:`medgan.job.Job`."""
    job = Job(taskName, inputs, settings, **options)
    try:
        job.start()
    except BaseException:
        job.close()
        raise
    return job


def publish(
    outputs: Outputs, inputNode, outputNode=None, differenceNode=None, taskName: str = "enhance", preview: bool = False
) -> ResultNodes:
    """The nodes that show the outputs beside their input: the result, its maps, and the places to check.

    Nodes that are given are filled, otherwise new ones are made. After a failure the scene and the given nodes
    are as they were. The nodes of a ``preview`` say so in their name and by an attribute. Raises ``ValueError``.
    """
    if outputNode is not None and outputNode is differenceNode:
        raise ValueError("The result and the difference can not share one node; choose another for the difference.")
    scene = inputNode.GetScene()
    attributes = provenance(outputs.report, inputNode)
    word = resultWord(outputs.report, taskName)
    if preview:
        word += " preview"
        attributes[PREVIEW] = "yes"
    given = {"difference": differenceNode}
    with removeOnFailure(scene, outputNode, differenceNode):
        name = uniqueName(scene, f"{inputNode.GetName()} {word}")
        result = publishVolume(scene, outputs.volumes["volume"], inputNode, name, attributes, outputNode)
        parts = {}
        for key in (key for key in MAPS if key in outputs.volumes):
            name = uniqueName(scene, f"{result.GetName()} {key}")
            told = {**attributes, "MedGAN.Content": MAPS[key].content}
            volume, show = outputs.volumes[key], MAPS[key].show
            parts[key] = publishMap(scene, volume, inputNode, name, told, show, given.get(key))
        name = uniqueName(scene, f"{result.GetName()} to check")
        parts["places"] = publishPlaces(scene, outputs.report.get("suspicions") or (), inputNode, name, attributes)
        for part in parts.values():
            if part is not None and part is not differenceNode:
                placeBeside(scene, part, result)  # a given result may be in another folder than its input
    return ResultNodes(result, **parts)


def process(
    inputNode,
    settings: Settings,
    progress: Progress = silent,
    taskName: str = "enhance",
    outputNode=None,
    differenceNode=None,
) -> ResultNodes:
    """Prepare, run and publish in this process; for scripts and tests. Returns the nodes of the result.

    Raises what ``prepare``, the engine and ``publish`` raise; the scene is then as it was.
    """
    inputs = prepare(inputNode, settings, taskName)
    return publish(task(taskName)(inputs, settings, progress), inputNode, outputNode, differenceNode, taskName)


def start(
    inputNode, settings: Settings, taskName: str = "enhance", outputNode=None, differenceNode=None, **options
) -> Run:
    """Prepare the input and start its job; returns while the job works. Raises as ``prepare`` does."""
    return Run(inputNode, settings, taskName, outputNode, differenceNode, **options)


class Run:
    """One job from its input node to the nodes of its result, for somebody who polls.

    ``dropped`` is empty while the result is wanted. Once the input has left the scene, or its grid is another
    one, it is a sentence that says so: the job is then ended, ``poll`` says CANCELLED and ``publish`` does nothing.
    ``report`` is what the task says about its result, once that is published. Call :meth:`close` when done with
    the run, whatever happened. With a ``region`` the run is a preview: its result has the size of the region.
    """

    def __init__(
        self,
        inputNode,
        settings: Settings,
        taskName: str = "enhance",
        outputNode=None,
        differenceNode=None,
        *,
        region: Region | None = None,
        **options,
    ) -> None:
        inputs = prepare(inputNode, settings, taskName, region)
        self.dropped = ""
        self.report: dict[str, Any] = {}
        self.taskName = taskName
        self._inputNode, self._outputNode, self._differenceNode = inputNode, outputNode, differenceNode
        self._scene = inputNode.GetScene()
        self._name = inputNode.GetName()
        self._shape = arrayOf(inputNode).shape
        self._ijkToRas = matrixOf(inputNode)
        self._preview = region is not None
        self.job = startJob(inputs, settings, taskName, **options)

    def poll(self) -> JobState:
        """How far the job is. Costs next to nothing; call it a few times a second."""
        return self._drop() or self.job.poll()

    def publish(self) -> ResultNodes | None:
        """The nodes of the result of a job that is DONE, as :func:`publish` makes them; None if it is dropped.

        A result follows an input whose matrix was changed meanwhile, as hardening a transform does. Output nodes
        that have left the scene are made anew.
        """
        if self._drop() is not None:
            return None
        outputs = self.job.outputs()
        moved = matrixOf(self._inputNode) @ np.linalg.inv(self._ijkToRas)
        if not np.allclose(moved, np.eye(4), atol=1e-9):
            for name, volume in outputs.volumes.items():
                outputs.volumes[name] = dataclasses.replace(volume, ijk_to_ras=moved @ volume.ijk_to_ras)
            outputs.report["suspicions"] = Places.moved(outputs.report.get("suspicions") or (), moved)
        outputNode, differenceNode = (
            node if node is not None and self._scene.IsNodePresent(node) else None
            for node in (self._outputNode, self._differenceNode)
        )
        nodes = publish(outputs, self._inputNode, outputNode, differenceNode, self.taskName, self._preview)
        self.report = outputs.report
        return nodes

    def cancel(self) -> None:
        """Ask the job to stop; ``poll`` says CANCELLED soon after."""
        self.job.cancel()

    def close(self) -> None:
        """End the job, if it still works, and remove its folder. May be called again."""
        self.job.close()
        self._inputNode = self._outputNode = self._differenceNode = None

    def _drop(self) -> JobState | None:
        """The state of a run whose result nobody can use, or None."""
        if not self.dropped:
            self.dropped = self._whyUnwanted()
            if not self.dropped:
                return None
            self.close()
        return JobState(JobStatus.CANCELLED, 0.0, self.dropped)

    def _whyUnwanted(self) -> str:
        node = self._inputNode
        if node is None:
            return f"The run on '{self._name}' is closed."
        if not self._scene.IsNodePresent(node):
            return f"'{self._name}' has left the scene, so its result was dropped."
        image = node.GetImageData()
        if image is None or image.GetDimensions()[::-1] != self._shape:
            return f"'{self._name}' has another number of voxels now, so its result was dropped."
        return ""
