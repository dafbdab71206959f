"""A job that was started from nodes of the scene, and whose result is wanted as long as they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgan.job import Job, JobState, JobStatus
from medgan.settings import Settings
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib.SegmentGrids import layersOf
from MedGANSlicerLib.SequenceBrowsers import browserOf

STAY_S = 120.0
"""How long a child waits for the next run of the person; one that trains does not."""


def startJob(inputs: Mapping[str, Volume | LabelMap], settings: Settings, taskName: str = "enhance", **options) -> Job:
    """A child process that does the task, started or waiting until now; ``options`` go to :class:`medgan.job.Job`."""
    options.setdefault("stay_s", 0.0 if taskName == "train" else STAY_S)
    job = Job(taskName, inputs, settings, **options)
    try:
        job.start()
    except BaseException:
        job.close()
        raise
    return job


class JobRun:
    """A started job and what becomes of its outputs, for somebody who polls.

    ``sources``: the nodes that the result belongs to, all in one scene; ``alsoRead``: others that the inputs were
    copied from. ``dropped`` is empty while the result is wanted. Once a source has left the scene, or has another
    number of voxels, it is a sentence that says so: the job is then ended, ``poll`` says CANCELLED and ``publish``
    does nothing. ``put(outputs)`` makes the nodes of the result and returns them in the form that the panel wants.
    ``report`` is what the task says about its result, once that is published, with ``messages`` about the inputs
    before its own; ``remark`` is then a sentence if voxels that were read were written to meanwhile, else empty.
    ``read`` is the :func:`stateOf` of every node that was read, as it was then. Call :meth:`close` when done with the
    run, whatever happened.
    """

    def __init__(
        self,
        taskName: str,
        inputs: Mapping[str, Volume | LabelMap],
        settings: Settings,
        sources: Sequence,
        put: Callable[[Outputs], Any] | None = None,
        messages: Sequence[str] = (),
        alsoRead: Sequence = (),
        **options,
    ) -> None:
        self.dropped = self.remark = ""
        self.report: dict[str, Any] = {}
        self.taskName = taskName
        self._sources: list | None = list(sources)
        self._scene = sources[0].GetScene() if sources else None
        self._name = sources[0].GetName() if sources else taskName
        self._sizes = [_sizeOf(node) for node in sources]
        self.read = {node: stateOf(node) for node in (*sources, *alsoRead)}
        self._put = put
        self._messages = list(messages)
        self.job = startJob(inputs, settings, taskName, **options)

    def poll(self) -> JobState:
        """How far the job is. Costs next to nothing; call it a few times a second."""
        return self._drop() or self.job.poll()

    def publish(self) -> Any:
        """The nodes of the result of a job that is DONE; None if it is dropped."""
        if self._drop() is not None:
            return None
        self.remark = next(filter(None, (whatChanged(node, state) for node, state in self.read.items())), "")
        outputs = self.job.outputs()
        result = self.put(outputs)
        self.report = outputs.report
        if self._messages:
            self.report["messages"] = [*self._messages, *(self.report.get("messages") or ())]
        return result

    def put(self, outputs: Outputs) -> Any:
        return self._put(outputs) if self._put is not None else None

    def cancel(self) -> None:
        """Ask the job to stop; ``poll`` says CANCELLED soon after."""
        self.job.cancel()

    def close(self) -> None:
        """End the job, if it still works, and remove its folder. May be called again."""
        self.job.close()
        self._sources = self._put = None
        self.read = {}

    def _drop(self) -> JobState | None:
        """The state of a run whose result nobody can use, or None."""
        if not self.dropped:
            self.dropped = self._whyUnwanted()
            if not self.dropped:
                return None
            self.close()
        return JobState(JobStatus.CANCELLED, 0.0, self.dropped)

    def _whyUnwanted(self) -> str:
        if self._sources is None:
            return f"The run on '{self._name}' is closed."
        for node, size in zip(self._sources, self._sizes, strict=True):
            if not self._scene.IsNodePresent(node):
                return f"'{node.GetName()}' has left the scene, so its result was dropped."
            if _sizeOf(node) != size:
                return f"'{node.GetName()}' has another number of voxels now, so its result was dropped."
        return ""


@dataclass(frozen=True)
class NodeState:
    """``times``: when the voxels were last written. ``frame``: the number of the frame of a sequence, or None."""

    times: list[int]
    frame: int | None


def stateOf(node) -> NodeState:
    """What tells whether the voxels of a node are still those that were read."""
    browser = browserOf(node)
    return NodeState(_timesOf(node), browser.GetSelectedItemNumber() if browser is not None else None)


def whatChanged(node, read: NodeState) -> str:
    """One sentence if a node shows other voxels than when it was read, else ""."""
    now = stateOf(node)
    if now.times == read.times:
        return ""
    if now.frame != read.frame:
        return f"'{node.GetName()}' shows another frame now; this is the result of the one that it showed."
    return f"'{node.GetName()}' was edited meanwhile; this is the result of what it was before."


def _timesOf(node) -> list[int]:
    """When the voxels of a volume or segmentation were last written; nothing for another node or an empty one."""
    if node.IsA("vtkMRMLSegmentationNode"):
        return [image.GetMTime() for image in layersOf(node.GetSegmentation())]
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    voxels = image.GetPointData().GetScalars() if image is not None else None
    return [voxels.GetMTime()] if voxels is not None else []


def _sizeOf(node) -> tuple[int, int, int] | None:
    """Voxels along i, j and k of a volume; None for another node or an empty one."""
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    return tuple(image.GetDimensions()) if image is not None else None
