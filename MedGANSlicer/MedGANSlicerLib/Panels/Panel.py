"""What the module asks of the panel of a task, with the answers of one that has nothing special to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from MedGANSlicerLib import Estimates
from MedGANSlicerLib.ResultNodes import ResultNodes


@dataclass(frozen=True)
class RunTexts:
    """What the buttons and the line below them say about a run."""

    apply: str
    applyToolTip: str
    cancel: str
    cancelToolTip: str
    stopping: str
    cancelled: str


@dataclass(frozen=True)
class Comparison:
    """What is faded over what after a run. ``sentences``: what is to be checked in it."""

    source: Any
    nodes: ResultNodes
    sentences: Sequence[str] = ()


class Panel:
    """``ui``: the widgets of the panel's own .ui file. ``getParameters()`` is None while the module is not open.

    A subclass has a ``task`` (its value in the parameter node and its name in the engine), a ``uiFile``,
    :meth:`title`, :meth:`refresh` and :meth:`start`; the rest as it needs.
    """

    task = ""
    uiFile = ""

    inputs: Sequence[str] = ()
    """The parameters that hold nodes. A selector whose node is deleted goes on to the one above, which nobody chose."""

    hasPreview = False
    """Whether there is :meth:`startPreview`, and a button for it."""

    needsPackages = True
    """Whether PyTorch and the packages of ``requirements.txt`` are asked for before a run."""

    outlivesScene = False
    """Whether a run goes on when the scene is closed."""

    staysEnabled = False
    """Whether the panel can be used while it runs; what may not change then, it locks itself."""

    showsMessages = False
    """Whether the panel shows by itself what a run says about its result."""

    topic = ""
    """What the panel is about, where it may be about several things: what was said of one is not left to another."""

    def __init__(self, ui, host, getParameters) -> None:
        self.ui, self._host, self._getParameters = ui, host, getParameters
        self.changedModels = _nothing
        """To be called when a model was added or removed; the module has the panels read the catalogue anew."""

    @staticmethod
    def title() -> str:
        """The name of the task in the menu."""
        raise NotImplementedError

    def rememberSpeed(self, settings: Mapping[str, Any], voxels: int, seconds: float) -> None:
        """Keep how fast this machine was with the settings of a report, for the next estimate."""
        if voxels and seconds > 0:
            key = Estimates.settingsKey(settings["model"], settings["device"], settings.get("uncertainty", False))
            self._host.setSetting(key, voxels / seconds)

    def measuredSpeed(self, settings) -> float:
        """Voxels a second of the last run with these settings; 0 before the first."""
        uncertainty = getattr(settings, "uncertainty", False)
        return self._host.setting(Estimates.settingsKey(settings.model, settings.device.value, uncertainty), 0.0)

    def estimate(self, settings, voxels: int) -> str:
        """How long a run will take, as a person says it; "" while nothing is known of it."""
        speed = self.measuredSpeed(settings)
        if not voxels or not speed:
            return ""
        return _("about {time}").format(time=Estimates.timeText(Estimates.seconds(voxels, speed)))

    def texts(self) -> RunTexts:
        return RunTexts(
            apply=_("Apply"),
            applyToolTip=_("Run the task."),
            cancel=_("Cancel"),
            cancelToolTip=_("Stop; the scene stays as it is."),
            stopping=_("Stopping…"),
            cancelled=_("Cancelled; the scene is as it was."),
        )

    def refresh(self, parameters) -> str:
        """Show what belongs to the parameters. Returns one sentence that keeps the task from running, or ""."""
        raise NotImplementedError

    def start(self, parameters):
        """A started run. It has ``poll()``, ``cancel()``, ``publish()``, ``close()``, ``dropped`` and ``report``.

        It may have a ``remark``: one more sentence for the person when it is done.

        See :class:`MedGANSlicerLib.JobRun.JobRun`. A ``ValueError`` or ``RuntimeError`` is shown as it stands.
        """
        raise NotImplementedError

    def startPreview(self, parameters):
        """As :meth:`start`, for a part of the input."""
        raise NotImplementedError

    def enter(self) -> None:
        """The module is opened, or a new scene is there."""

    def offer(self, parameters, volume) -> None:
        """The person looks at this volume: take it as input if there is none."""

    def forget(self, parameters, node) -> None:
        """A node is about to leave the scene, and the node selectors have not heard of it yet. ``parameters`` is None
        while the module is not open."""
        for name in self.inputs if parameters is not None else ():
            if getattr(parameters, name) is node:
                setattr(parameters, name, None)

    def watch(self, state) -> None:
        """The run goes on; called several times a second with its ``JobState``."""

    def ended(self) -> None:
        """The run has ended, in whatever way, and is closed."""

    def finish(self, result, report, preview: bool) -> None:
        """The run has put its result into the scene: ``result`` is what ``publish`` returned."""

    def summary(self, result, report) -> str:
        """A few words about a result."""
        return ""

    def comparison(self, result, report) -> Comparison | None:
        """What the slice views are to compare, or None."""
        return None

    def previewNodes(self, result) -> list:
        """The nodes of the result of a preview, which the next run removes."""
        return []

    def leave(self) -> None:
        """The module or the task is left, or the scene is closed: give back the views that were taken."""

    def tidy(self) -> None:
        """A scene was opened, perhaps with what only a run of this task ends."""

    def reload(self) -> None:
        """There may be other models now."""

    def close(self) -> None:
        """The module is unloaded."""


def _nothing() -> None:
    pass
