"""A training in its child process: it needs no scene once it has started, and saves itself when stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from medgan.job import JobState, JobStatus
from medgan.settings import TrainSettings
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib.JobRun import JobRun
from MedGANSlicerLib.RunLog import RunLog

GRACE_S = 60.0
"""How long a training may take to save itself when it is stopped."""

CLOSING_S = 10.0
"""The same when Slicer quits or the module is reloaded, which waits for it."""


class TrainRun(JobRun):
    """Polled, cancelled and closed as any run; ``publish`` returns the report, for the scene gets nothing.

    ``inputs``: the volumes, or none if ``settings.data`` names a folder. ``settings.out`` is the folder of the run.
    """

    def __init__(self, inputs: Mapping[str, Volume | LabelMap], settings: TrainSettings, **options) -> None:
        if not settings.out:
            raise ValueError("The training has no folder; choose one.")
        self.settings = settings
        self.log = RunLog(settings.out)
        super().__init__("train", inputs, settings, (), grace_s=GRACE_S, **options)

    def put(self, outputs: Outputs) -> dict[str, Any]:
        return outputs.report

    def close(self) -> None:
        """End the training; if it still works, it is given a few seconds to save itself."""
        if self._sources is not None and self.job.poll().status is JobStatus.RUNNING:
            self.job.cancel()
            end = time.monotonic() + CLOSING_S
            while self.job.poll().status is JobStatus.RUNNING and time.monotonic() < end:
                time.sleep(0.05)
        super().close()

    def poll(self) -> JobState:
        return self.job.poll()
