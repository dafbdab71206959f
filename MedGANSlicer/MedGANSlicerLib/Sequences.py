"""A sequence of volumes (4D) in, a sequence out, browsed together with its source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from medgan.job import Job, JobState, JobStatus
from medgan.settings import Settings
from medgan.tasks import Outputs
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, arrayOf, fillVoxels, reachOf, showAs, showAsDifference
from MedGANSlicerLib.SceneEdits import placeBeside, removeOnFailure, uniqueName
from MedGANSlicerLib.TaskLogic import RESULT_WORD, prepare, provenance, startJob
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
    for browser in _browsers(volumeNode.GetScene()):
        sequence = browser.GetSequenceNode(volumeNode)
        if sequence is not None:
            return sequence
    return None


def shownFrame(sequenceNode):
    """The volume node that shows the current frame of a sequence, or None if no browser shows it."""
    for browser in _browsers(sequenceNode.GetScene()):
        if browser.IsSynchronizedSequenceNode(sequenceNode, True):
            return browser.GetProxyNode(sequenceNode)
    return None


def publishSequence(outputs: Sequence[Outputs], sequenceNode, taskName: str = "enhance") -> list:
    """New sequence nodes of the results and, if there are any, of the differences, from the outputs of each frame.

    They join the browser of their source, so that one slider moves all of them; a source without a browser gets
    one. The volume nodes that show their current frames look, and lie in the scene, as that of the source.
    All frames get one voxel type. After a failure the scene is as it was.
    """
    scene, frames = sequenceNode.GetScene(), framesOf(sequenceNode)
    made: list = []
    browser = next((each for each in _browsers(scene) if each.IsSynchronizedSequenceNode(sequenceNode, True)), None)
    with removeOnFailure(scene):
        try:
            if browser is None:
                browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequenceNode.GetName()} browser")
                browser.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
            shown = browser.GetProxyNode(sequenceNode)
            results = [output.volumes["volume"] for output in outputs]
            arrays = [storedLike(v.array, arrayOf(frame)) for v, frame in zip(results, frames, strict=True)]
            if len({array.dtype for array in arrays}) > 1:  # a sequence file holds one type
                arrays = [volume.array for volume in results]
            name = uniqueName(scene, f"{sequenceNode.GetName()} {RESULT_WORD[taskName]}")
            made.append(_addSequence(scene, name, arrays, outputs, "volume", sequenceNode))
            result = _proxy(scene, browser, made[0], shown)
            if result is not None and shown is not None:
                showAs(result.GetDisplayNode(), shown.GetDisplayNode())
            if all("difference" in output.volumes for output in outputs):
                arrays = [output.volumes["difference"].array for output in outputs]
                made.append(_addSequence(scene, f"{name} difference", arrays, outputs, "difference", sequenceNode))
                difference = _proxy(scene, browser, made[1], shown)
                if difference is not None:
                    showAsDifference(scene, difference.GetDisplayNode(), max(map(reachOf, arrays)))
        except BaseException:
            for sequence in made:
                browser.RemoveSynchronizedSequenceNode(sequence.GetID())
            raise
    return made


class SequenceRun:
    """One job after the other for the frames of a sequence; polled, published and closed as ``TaskLogic.Run`` is."""

    def __init__(self, sequenceNode, settings: Settings, taskName: str = "enhance", **options) -> None:
        self.dropped = ""
        self.report: dict = {}
        self.taskName = taskName
        self._sequenceNode, self._settings, self._options = sequenceNode, settings, options
        self._scene, self._name = sequenceNode.GetScene(), sequenceNode.GetName()
        self._frames = framesOf(sequenceNode)
        self._outputs: list[Outputs] = []
        self._ended: JobState | None = None
        self.job = self._nextJob()

    def poll(self) -> JobState:
        """How far all frames together are. Starts the job of the next frame when one is done."""
        if self._ended is None and not self._scene.IsNodePresent(self._sequenceNode):
            self.dropped = f"'{self._name}' has left the scene, so its result was dropped."
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
        state = JobState(state.status, (number + state.fraction) / count, message, state.error, state.details)
        if state.status is not JobStatus.RUNNING:
            self._ended = state
        return state

    def publish(self) -> list:
        """The sequences of a run that is DONE, as :func:`publishSequence` makes them; none if it is dropped."""
        state = self.poll()
        if self.dropped:
            return []
        if state.status is not JobStatus.DONE or not self._outputs:
            raise RuntimeError(state.error or "The run has no result: it is not done, was cancelled or was closed.")
        nodes = publishSequence(self._outputs, self._sequenceNode, self.taskName)
        self.report = self._outputs[-1].report
        return nodes

    def cancel(self) -> None:
        """Ask the job to stop; ``poll`` says CANCELLED soon after."""
        self.job.cancel()

    def close(self) -> None:
        """End the job, if one still works, remove its folder and free the frames. May be called again."""
        self.job.close()
        if self._ended is None:
            self._ended = JobState(JobStatus.CANCELLED, 0.0, f"The run on '{self._name}' is closed.")
        self._outputs, self._frames = [], []

    def _nextJob(self) -> Job:
        frame = self._frames[len(self._outputs)]
        return startJob(prepare(frame, self._settings, self.taskName), self._settings, self.taskName, **self._options)


def _browsers(scene) -> list:
    return [node for node in scene.GetNodes() if node.IsA("vtkMRMLSequenceBrowserNode")]


def _addSequence(scene, name: str, arrays: Sequence[np.ndarray], outputs: Sequence[Outputs], key: str, source):
    """A new sequence node with one volume for each array, at the index values of ``source``."""
    sequence = slicer.vtkMRMLSequenceNode()
    sequence.SetName(name)
    sequence.SetIndexName(source.GetIndexName())
    sequence.SetIndexUnit(source.GetIndexUnit())
    sequence.SetIndexType(source.GetIndexType())
    sequence.SetNumericIndexValueTolerance(source.GetNumericIndexValueTolerance())
    for number, (array, output, frame) in enumerate(zip(arrays, outputs, framesOf(source), strict=True)):
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(name)
        attributes = provenance(output.report, source)
        fillVoxels(node, array, output.volumes[key].ijk_to_ras, frame, attributes)
        sequence.SetDataNodeAtValue(node, source.GetNthIndexValue(number))
    for attribute, value in provenance(outputs[0].report, source).items():
        sequence.SetAttribute(attribute, value)
    sequence.SetNodeReferenceID(SOURCE_ROLE, source.GetID())
    return scene.AddNode(sequence)


def _proxy(scene, browser, sequence, shown):
    """The volume node that shows the current frame of a sequence, placed as that of the source (``shown``)."""
    browser.AddSynchronizedSequenceNode(sequence.GetID())
    proxy = browser.GetProxyNode(sequence)  # made by the Sequences logic; a scene without it has none
    if proxy is not None and shown is not None:
        proxy.SetAndObserveTransformNodeID(shown.GetTransformNodeID())
        proxy.SetNodeReferenceID(SOURCE_ROLE, shown.GetID())
        placeBeside(scene, proxy, shown)
    return proxy
