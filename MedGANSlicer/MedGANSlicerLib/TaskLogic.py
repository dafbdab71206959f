"""A task from nodes to nodes: prepare (nodes to arrays), the engine, publish (arrays to nodes).

``process`` does the three in one process and returns when they are done. ``start`` gives the engine's part to
a child process and returns at once a :class:`Run`, which a panel polls. The scene is read and written only in
``prepare`` and ``publish``, on the caller's thread.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from medgan.progress import Progress, silent
from medgan.settings import Settings
from medgan.tasks import Outputs, task
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib import Places
from MedGANSlicerLib.JobRun import JobRun, startJob
from MedGANSlicerLib.NodePairs import PREVIEW
from MedGANSlicerLib.Places import publishPlaces
from MedGANSlicerLib.ResultNodes import MAPS, RESULT_ROLE, RESULT_WORD, ResultNodes, partsOf, provenance, resultWord
from MedGANSlicerLib.SceneBridge import Region, matrixOf, movementOf, publishMap, publishVolume, volumeFromNode
from MedGANSlicerLib.SceneEdits import placeBeside, removeNode, removeOnFailure, uniqueName

__all__ = ["PREVIEW", "Run", "prepare", "process", "publish", "start", "startJob"]


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


def publish(
    outputs: Outputs, inputNode, outputNode=None, taskName: str = "enhance", preview: bool = False
) -> ResultNodes:
    """The nodes that show the outputs beside their input: the result, its maps, and the places to check.

    A node that is given for the result is filled, otherwise a new one is made. What belonged to the result that it held
    is filled as well, or removed where this result has no such part. After a failure the scene and these nodes are as
    they were. The nodes of a ``preview`` say so in their name and by an attribute. Raises ``ValueError``.
    """
    scene = inputNode.GetScene()
    attributes = provenance(outputs.report, inputNode)
    word = resultWord(outputs.report, taskName)
    if preview:
        word += " preview"
        attributes[PREVIEW] = "yes"
    older = partsOf(scene, outputNode) if outputNode is not None else {}
    older = {key: node for key, node in older.items() if node is not inputNode}
    with removeOnFailure(scene, outputNode, *older.values()):
        name = uniqueName(scene, f"{inputNode.GetName()} {word}")
        result = publishVolume(scene, outputs.volumes["volume"], inputNode, name, attributes, outputNode)
        parts = {}
        for key in (key for key in MAPS if key in outputs.volumes):
            name = uniqueName(scene, f"{result.GetName()} {key}")
            told = {**attributes, "MedGAN.Content": MAPS[key].content}
            volume, show = outputs.volumes[key], MAPS[key].show
            parts[key] = publishMap(scene, volume, inputNode, name, told, show, older.get(key))
        name = uniqueName(scene, f"{result.GetName()} to check")
        suspicions = outputs.report.get("suspicions") or ()
        parts["places"] = publishPlaces(scene, suspicions, inputNode, name, attributes, older.get("places"))
        for part in filter(None, parts.values()):
            part.SetNodeReferenceID(RESULT_ROLE, result.GetID())
            if part not in older.values():
                placeBeside(scene, part, result)  # a given result may be in another folder than its input
    for node in older.values():
        if node not in parts.values():
            removeNode(scene, node)
    return ResultNodes(result, **parts)


def process(
    inputNode,
    settings: Settings,
    progress: Progress = silent,
    taskName: str = "enhance",
    outputNode=None,
) -> ResultNodes:
    """Prepare, run and publish in this process; for scripts and tests. Returns the nodes of the result.

    Raises what ``prepare``, the engine and ``publish`` raise; the scene is then as it was.
    """
    inputs = prepare(inputNode, settings, taskName)
    return publish(task(taskName)(inputs, settings, progress), inputNode, outputNode, taskName)


def start(inputNode, settings: Settings, taskName: str = "enhance", outputNode=None, **options) -> Run:
    """Prepare the input and start its job; returns while the job works. Raises as ``prepare`` does."""
    return Run(inputNode, settings, taskName, outputNode, **options)


class Run(JobRun):
    """One job from its input node to the nodes of its result. With a ``region`` it is a preview of that size."""

    def __init__(
        self,
        inputNode,
        settings: Settings,
        taskName: str = "enhance",
        outputNode=None,
        *,
        region: Region | None = None,
        **options,
    ) -> None:
        inputs = prepare(inputNode, settings, taskName, region)
        self._outputNode = outputNode
        self._ijkToRas = matrixOf(inputNode)
        self._preview = region is not None
        super().__init__(taskName, inputs, settings, [inputNode], **options)

    def put(self, outputs: Outputs) -> ResultNodes:
        """The nodes of the result, as :func:`publish` makes them.

        A result follows an input whose matrix was changed meanwhile, as hardening a transform does. An output
        node that has left the scene is made anew.
        """
        (inputNode,) = self._sources or ()
        moved = movementOf(inputNode, self._ijkToRas)
        if not np.allclose(moved, np.eye(4), atol=1e-9):
            for name, volume in outputs.volumes.items():
                outputs.volumes[name] = dataclasses.replace(volume, ijk_to_ras=moved @ volume.ijk_to_ras)
            outputs.report["suspicions"] = Places.moved(outputs.report.get("suspicions") or (), moved)
        outputNode = self._outputNode
        if outputNode is not None and not self._scene.IsNodePresent(outputNode):
            outputNode = None
        return publish(outputs, inputNode, outputNode, self.taskName, self._preview)

    def close(self) -> None:
        super().close()
        self._outputNode = None
