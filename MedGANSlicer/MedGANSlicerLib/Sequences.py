"""A sequence of volumes (4D) in, a sequence out, browsed together with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer

from medgan.frame_reports import merged
from medgan.job import Job, JobState, JobStatus
from medgan.settings import Settings
from medgan.tasks import Outputs
from MedGANSlicerLib.Places import fillPlaces, knowsPlaces
from MedGANSlicerLib.ResultDisplay import showAs
from MedGANSlicerLib.ResultNodes import MAPS, PLACES_CONTENT, ResultNodes, provenance, resultWord
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, arrayOf, fillVoxels
from MedGANSlicerLib.SceneEdits import placeBeside, removeOnFailure, uniqueName
from MedGANSlicerLib.SequenceBrowsers import browserOf, browsersOf
from MedGANSlicerLib.TaskLogic import prepare, startJob
from MedGANSlicerLib.VoxelTypes import storedLike


def framesOf(sequenceNode) -> list:
    """The volume nodes of a sequence, in its order. Raises ``ValueError`` if it holds none or something else."""
    name = sequenceNode.GetName()
    frames = [sequenceNode.GetNthDataNode(n) for n in range(sequenceNode.GetNumberOfDataNodes())]
    if not frames:
        raise ValueError(f"The sequence '{name}' is empty; choose one that holds volumes.")
    other = next((frame for frame in frames if not frame.IsA("vtkMRMLScalarVolumeNode")), None)
    if other is not None:
        raise ValueError(f"The sequence '{name}' holds {other.GetNodeTagName()} nodes; choose one that holds volumes.")
    return frames


def sequenceOf(volumeNode):
    """The sequence whose current frame the volume node shows, or None for a volume of its own."""
    browser = browserOf(volumeNode)
    return browser.GetSequenceNode(volumeNode) if browser is not None else None


def shownFrame(sequenceNode):
    """The volume node that shows the current frame of a sequence, or None if no browser shows it."""
    for browser in browsersOf(sequenceNode.GetScene()):
        if browser.IsSynchronizedSequenceNode(sequenceNode, True):
            return browser.GetProxyNode(sequenceNode)
    return None


def publishSequence(
    outputs: Sequence[Outputs], sequenceNode, taskName: str = "enhance", placedNode=None
) -> ResultNodes:
    """New sequence nodes of the results, their maps and places to check, from the outputs of each frame.

    They join the browser of their source, so that one slider moves all of them; a source without a browser gets
    one. The nodes that show their current frames look, and lie in the scene, as that of the source, or as
    ``placedNode``, which showed it before, when its browser has gone and that is still there. A map is made
    if every frame has it, places if one has any. All frames get one voxel type. After a failure the scene is as
    it was.
    """
    scene, frames = sequenceNode.GetScene(), framesOf(sequenceNode)
    made: dict = {}
    browser = next((each for each in browsersOf(scene) if each.IsSynchronizedSequenceNode(sequenceNode, True)), None)
    newBrowser = browser is None
    with removeOnFailure(scene):
        try:
            if newBrowser:
                browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequenceNode.GetName()} browser")
                browser.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
            shown = browser.GetProxyNode(sequenceNode)
            if newBrowser and placedNode is not None and scene.IsNodePresent(placedNode):
                if shown is not None:
                    shown.SetAndObserveTransformNodeID(placedNode.GetTransformNodeID())
                shown = placedNode
            results = [output.volumes["volume"] for output in outputs]
            arrays = [storedLike(v.array, arrayOf(frame)) for v, frame in zip(results, frames, strict=True)]
            if len({array.dtype for array in arrays}) > 1:  # a sequence file holds one type
                arrays = [volume.array for volume in results]
            name = uniqueName(scene, f"{sequenceNode.GetName()} {resultWord(outputs[0].report, taskName)}")
            made["volume"] = _addVolumes(scene, name, arrays, outputs, "volume", sequenceNode)
            result = _proxy(scene, browser, made["volume"], shown)
            if result is not None and shown is not None:
                showAs(result.GetDisplayNode(), shown.GetDisplayNode())
            for key, kind in MAPS.items():
                if all(key in output.volumes for output in outputs):
                    arrays = [output.volumes[key].array for output in outputs]
                    made[key] = _addVolumes(scene, f"{name} {key}", arrays, outputs, key, sequenceNode)
                    proxy = _proxy(scene, browser, made[key], shown)
                    if proxy is not None:
                        kind.show(scene, proxy.GetDisplayNode(), arrays)
            if any(output.report.get("suspicions") for output in outputs) and knowsPlaces(scene):
                made["places"] = _addPlaces(scene, f"{name} to check", outputs, sequenceNode)
                _proxy(scene, browser, made["places"], shown)
        except BaseException:
            for sequence in made.values():
                browser.RemoveSynchronizedSequenceNode(sequence.GetID())
            raise
    return ResultNodes(**made)


class SequenceRun:
    """One job after the other for the frames of a sequence; polled, published and closed as ``TaskLogic.Run`` is."""

    def __init__(self, sequenceNode, settings: Settings, taskName: str = "enhance", **options) -> None:
        self.dropped = ""
        self.report: dict = {}
        self.taskName = taskName
        self._sequenceNode, self._settings, self._options = sequenceNode, settings, options
        self._scene, self._name = sequenceNode.GetScene(), sequenceNode.GetName()
        self._frames = framesOf(sequenceNode)
        self._shown = shownFrame(sequenceNode)
        self._outputs: list[Outputs] = []
        self._ended: JobState | None = None
        self.job = self._nextJob()

    def poll(self) -> JobState:
        """How far all frames together are. Starts the job of the next frame when one is done."""
        if self._ended is None or self._ended.status is JobStatus.DONE:
            self.dropped = self._whyUnwanted()
            if self.dropped:
                self._ended = JobState(JobStatus.CANCELLED, 0.0, self.dropped)
                self.close()
        if self._ended is not None:
            return self._ended
        state = self.job.poll()
        number, count = len(self._outputs), len(self._frames)
        if state.status is JobStatus.DONE:
            self._outputs.append(self.job.outputs())
            self.job.close()
            number += 1
            if number == count:
                self._ended = JobState(JobStatus.DONE, 1.0, state.message)
                return self._ended
            self.job = self._nextJob()
            return JobState(JobStatus.RUNNING, number / count, f"Frame {number + 1} of {count}")
        message = f"Frame {number + 1} of {count}: {state.message}"
        error = f"Frame {number + 1} of {count}: {state.error}" if state.error else ""
        state = JobState(state.status, (number + state.fraction) / count, message, error, state.details)
        if state.status is not JobStatus.RUNNING:
            self._ended = state
        return state

    def publish(self) -> ResultNodes | None:
        """The sequences of a run that is DONE, as :func:`publishSequence` makes them; None if it is dropped."""
        state = self.poll()
        if self.dropped:
            return None
        if state.status is not JobStatus.DONE or not self._outputs:
            raise RuntimeError(state.error or "The run has no result: it is not done, was cancelled or was closed.")
        nodes = publishSequence(self._outputs, self._sequenceNode, self.taskName, self._shown)
        self.report = merged({f"frame {n}": each.report for n, each in enumerate(self._outputs, 1)})
        return nodes

    def cancel(self) -> None:
        """Ask the job to stop; ``poll`` says CANCELLED soon after."""
        self.job.cancel()

    def close(self) -> None:
        """End the job, if one still works, remove its folder and free the frames. May be called again."""
        self.job.close()
        if self._ended is None:
            self._ended = JobState(JobStatus.CANCELLED, 0.0, f"The run on '{self._name}' is closed.")
        self._outputs, self._frames, self._shown = [], [], None

    def _whyUnwanted(self) -> str:
        if not self._scene.IsNodePresent(self._sequenceNode):
            return f"'{self._name}' has left the scene, so its result was dropped."
        if self._sequenceNode.GetNumberOfDataNodes() != len(self._frames):
            return f"'{self._name}' has another number of frames now, so its result was dropped."
        return ""

    def _nextJob(self) -> Job:
        frame = self._frames[len(self._outputs)]
        return startJob(prepare(frame, self._settings, self.taskName), self._settings, self.taskName, **self._options)


def _addVolumes(scene, name: str, arrays: Sequence[np.ndarray], outputs: Sequence[Outputs], key: str, source):
    """A new sequence node with one volume for each array, at the index values of ``source``."""
    nodes, content = [], MAPS[key].content if key in MAPS else ""
    for array, output, frame in zip(arrays, outputs, framesOf(source), strict=True):
        node = slicer.vtkMRMLScalarVolumeNode()
        attributes = _attributes(output, source, content)
        fillVoxels(node, array, output.volumes[key].ijk_to_ras, frame, attributes)
        nodes.append(node)
    return _addSequence(scene, name, nodes, _attributes(outputs[0], source, content), source)


def _addPlaces(scene, name: str, outputs: Sequence[Outputs], source):
    """A new sequence node with one point list for each frame; those of frames without suspicions are empty."""
    nodes = []
    for output in outputs:
        node = slicer.vtkMRMLMarkupsFiducialNode()
        fillPlaces(node, output.report.get("suspicions") or (), _attributes(output, source, PLACES_CONTENT))
        nodes.append(node)
    return _addSequence(scene, name, nodes, _attributes(outputs[0], source, PLACES_CONTENT), source)


def _addSequence(scene, name: str, nodes: Sequence, attributes: Mapping[str, str], source):
    """A new sequence node of these nodes, at the index values of ``source``."""
    sequence = slicer.vtkMRMLSequenceNode()
    sequence.SetName(name)
    sequence.SetIndexName(source.GetIndexName())
    sequence.SetIndexUnit(source.GetIndexUnit())
    sequence.SetIndexType(source.GetIndexType())
    sequence.SetNumericIndexValueTolerance(source.GetNumericIndexValueTolerance())
    for number, node in enumerate(nodes):
        node.SetName(name)
        sequence.SetDataNodeAtValue(node, source.GetNthIndexValue(number))
    for attribute, value in attributes.items():
        sequence.SetAttribute(attribute, value)
    sequence.SetNodeReferenceID(SOURCE_ROLE, source.GetID())
    return scene.AddNode(sequence)


def _attributes(output: Outputs, source, content: str) -> dict[str, str]:
    attributes = provenance(output.report, source)
    return {**attributes, "MedGAN.Content": content} if content else attributes


def _proxy(scene, browser, sequence, shown):
    """The node that shows the current frame of a sequence, placed as that of the source (``shown``)."""
    browser.AddSynchronizedSequenceNode(sequence.GetID())
    proxy = browser.GetProxyNode(sequence)  # made by the Sequences logic; a scene without it has none
    if proxy is not None and shown is not None:
        proxy.SetAndObserveTransformNodeID(shown.GetTransformNodeID())
        proxy.SetNodeReferenceID(SOURCE_ROLE, shown.GetID())
        placeBeside(scene, proxy, shown)
    return proxy
