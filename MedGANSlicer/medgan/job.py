"""Running one task in a child process: start, poll, cancel, outputs, close. No threads, no torch, no Qt.

The two processes share a folder: ``job.json`` and ``inputs/`` come from the parent, ``pid``, ``events.jsonl``,
``log.txt``, ``outputs/`` and ``result.json`` from the child, and a file ``cancel`` asks the child to stop.
The folder and the process live as long as the job: :meth:`Job.close`, the end of a ``with`` block, the garbage
collector and the end of the interpreter remove both. A child whose parent was killed removes them itself. A child that
has done its job may stay for the next one (see :mod:`medgan.waiting`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from medgan import exchange, processes, waiting
from medgan.settings import Settings
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

GRACE_S = 1.0
"""Time from cancel to ending the process tree. The child stops itself earlier, unless it hangs."""

WATCH_S = 0.05
"""How often :meth:`Job.complete` looks."""

ANSWER_S = 3.0
"""How long a child that has waited may take to begin with its next job before another is started in its place."""

FOLDER_START = "medgan-job-"
"""How the names of our temporary folders begin."""

BOOTSTRAP = (
    "import os, sys; script = os.environ['MEDGAN_CHILD_SCRIPT']; "
    "sys.argv[:] = [script, os.environ['MEDGAN_CHILD_FOLDER']]; "
    "sys.path[:] = [os.path.dirname(script), *filter(None, sys.path)]; "
    "import runpy; runpy.run_path(script, run_name='__main__')"
)
"""What the child is given in place of ``SCRIPT FOLDER``. The launcher of Slicer 5.10 for Windows loses the letters of
command lines that are not ASCII; environment variables arrive whole."""

LOG_TAIL = 4000
"""Characters of the child's log that an unexplained end is reported with."""


class JobError(RuntimeError):
    """A job that can not be started, failed, or has no outputs: one sentence for a person, and the child's traceback or
    log if there is one."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


class JobStatus(Enum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True)
class JobState:
    """Where a job is. ``fraction`` is 0..1; ``error`` is one sentence and ``details`` a traceback or log."""

    status: JobStatus = JobStatus.RUNNING
    fraction: float = 0.0
    message: str = ""
    error: str = ""
    details: str = ""


class Job:
    """One run of ``medgan.tasks.task(task)`` in a child process.

    ``python`` may be a launcher such as PythonSlicer. ``parent_folder`` is where the folder of the job is
    made, the system's temporary folder unless told; it needs room for inputs and outputs as float32.
    ``environment`` is added to the child's. ``keep`` names the outputs that are handed back, all unless told.
    ``grace_s`` is how long the child may take to stop when it is asked to, as a task does that saves something.
    ``stay_s`` is how many seconds the child may wait for a next job that is started in the same way, once it has done
    this one: that begins at once. A child whose job failed or was cancelled never stays.

    With ``each`` the one child runs the task once for every input, handed over under that name. Outputs are
    then called ``"<input>/<output>"``, the report is ``{"runs": {"<input>": its report}}``, and messages and
    errors begin with the name of the input, its first letter a capital. ``inputs`` may then be a mapping that
    makes each volume on demand.
    """

    child_script = Path(__file__).with_name("job_child.py")

    def __init__(
        self,
        task: str,
        inputs: Mapping[str, Volume | LabelMap],
        settings: Settings,
        *,
        python: str = sys.executable,
        parent_folder: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        each: str = "",
        keep: Collection[str] = (),
        grace_s: float | None = None,
        stay_s: float = 0.0,
    ) -> None:
        self._task, self._settings, self._python = task, settings, python
        self._inputs = dict(inputs) if isinstance(inputs, dict) else inputs
        self._environment, self._each, self._keep = dict(environment or {}), each, list(keep)
        self._grace_s, self._stay_s = GRACE_S if grace_s is None else grace_s, stay_s
        self._begun_as: waiting.Start | None = None
        self._handed_over_at: float | None = None
        self._parent_folder = Path(parent_folder) if parent_folder else Path(tempfile.gettempdir())
        self._state = JobState()
        self._remains = _Remains()
        self._events_read = 0
        self._last_event: dict[str, Any] = {}
        self._cancelled_at: float | None = None
        self._finalizer = weakref.finalize(self, self._remains.remove)

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def folder(self) -> Path | None:
        """The folder of the job, from :meth:`start` to :meth:`close`."""
        return self._remains.folder

    def start(self) -> None:
        """Write the inputs and start the child. Raises :class:`JobError`, and then leaves nothing behind."""
        if self._remains.folder is not None or self._state.status is not JobStatus.RUNNING:
            raise JobError("This job was started, cancelled or closed before; make another one.")
        processes.sweep(self._parent_folder, FOLDER_START)
        try:
            prefix = processes.folder_prefix(FOLDER_START)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._parent_folder)).resolve()
            self._remains.folder = folder
            job = {
                "task": self._task,
                "settings": self._settings.to_dict(),
                "inputs": exchange.save(self._inputs, folder / "inputs"),
                "each": self._each,
                "keep": self._keep,
                "parent_pid": os.getpid(),
                "stay_s": self._stay_s,
                "environment": waiting.own_variables(self._whole_environment()),
            }
            if self._grace_s > GRACE_S:  # the child waits for itself as long as we do
                job["patience_s"] = self._grace_s
            exchange.write_json(job, folder / "job.json")
        except OSError as error:
            self.close()
            raise JobError(_no_room(self._parent_folder, error)) from error
        self._begin(folder)
        self._inputs = {}  # the child has them; the parent's memory is free for the outputs

    def _begin(self, folder: Path, fresh: bool = False) -> None:
        """Have a child do what is in the folder: one that waits, if there is one and it is not to be ``fresh``."""
        environment = self._whole_environment()
        script = str(self.child_script)
        self._begun_as = waiting.Start.of((self._python, script), environment)
        if not fresh and (process := waiting.hand_over(self._begun_as, folder)) is not None:
            self._remains.process, self._handed_over_at = process, time.monotonic()
            return
        self._handed_over_at = None
        try:
            with (folder / "log.txt").open("wb") as log:
                self._remains.process = subprocess.Popen(
                    [self._python, "-u", "-c", BOOTSTRAP],
                    stdin=subprocess.PIPE if self._stay_s else subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment, "MEDGAN_CHILD_SCRIPT": script, "MEDGAN_CHILD_FOLDER": str(folder)},
                    **processes.own_group(),
                )
        except OSError as error:
            self.close()
            raise JobError(f"Python '{self._python}' can not be started: {error.strerror or error}.") from error

    def _whole_environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUTF8": "1", **self._environment}

    def poll(self) -> JobState:
        """The state right now; returns at once. A timer of 20 to 200 ms is the right caller."""
        process = self._remains.process
        if process is None or self._state.status is not JobStatus.RUNNING:
            return self._state
        exit_code = process.poll()  # before the events: what the child wrote last is then there to read
        self._read_events()
        if self._handed_over_at is not None and self._never_began(exit_code):
            return self._state
        if exit_code is None:
            if self._last_event.get("waits"):
                self._let_wait(process)
            elif self._cancelled_at is not None and time.monotonic() - self._cancelled_at > self._grace_s:
                self._remains.end_process()
                self._finish(JobStatus.CANCELLED)
            return self._state
        processes.end_group(process.pid)  # whatever the child had started and left
        self._conclude(exit_code)
        return self._state

    def _never_began(self, exit_code: int | None) -> bool:
        """Whether a child that had waited ended, or did not listen, before it began; then another is started."""
        folder = self._remains.folder
        assert folder is not None
        assert self._handed_over_at is not None
        if (folder / "pid").exists() or self._last_event:
            self._handed_over_at = None
            return False
        if exit_code is None and time.monotonic() - self._handed_over_at < ANSWER_S:
            return False
        self._remains.end_process()
        try:
            self._begin(folder, fresh=True)
        except JobError as error:
            self._finish(JobStatus.FAILED, str(error))
        return True

    def _let_wait(self, process: subprocess.Popen[bytes]) -> None:
        """Done; the child stays for the next job."""
        assert self._begun_as is not None
        if self._cancelled_at is not None:
            self._remains.end_process()
            self._finish(JobStatus.CANCELLED)
            return
        self._remains.process, self._remains.kept = None, process
        self._state = replace(self._state, fraction=1.0)
        self._finish(JobStatus.DONE)
        waiting.keep(self._begun_as, process)

    def cancel(self) -> None:
        """Ask the child to stop; returns at once, and :meth:`poll` says when it has."""
        if self._remains.folder is None:
            self._finish(JobStatus.CANCELLED)
        elif self._cancelled_at is None and self._state.status is JobStatus.RUNNING:
            self._cancelled_at = time.monotonic()
            with contextlib.suppress(OSError):  # no room for an empty file: poll ends the process
                (self._remains.folder / "cancel").touch()

    def wait(self, timeout: float | None = None) -> JobState:
        """The state once the job has ended, or after ``timeout`` seconds. Not for a program with windows."""
        end = None if timeout is None else time.monotonic() + timeout
        state = self.poll()
        while self._remains.process and state.status is JobStatus.RUNNING and (end is None or time.monotonic() < end):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._remains.process.wait(timeout=0.03)
            state = self.poll()
        return state

    def complete(self, watch: Callable[[JobState], None]) -> None:
        """Start and wait for the end, for a command: ``watch`` gets the state 20 times a second and may raise.

        Raises :class:`JobError` when the task failed or was cancelled.
        """
        self.start()
        while (state := self.poll()).status is JobStatus.RUNNING:
            watch(state)
            time.sleep(WATCH_S)
        if state.status is not JobStatus.DONE:
            raise JobError(state.error or "The task was cancelled.", state.details)

    def outputs(self) -> Outputs:
        """What the task returned. Raises :class:`JobError` unless the job is done and not closed."""
        return Outputs(dict(self.each_output()), self.report())

    def each_output(self) -> Iterator[tuple[str, Volume | LabelMap]]:
        """Name and volume of every output, one in memory at a time. Raises :class:`JobError` as :meth:`outputs`."""
        folder, result = self._result()
        return exchange.load_each(result["volumes"], folder / "outputs")

    def report(self) -> dict[str, Any]:
        """The report that the task returned. Raises :class:`JobError` as :meth:`outputs`."""
        return self._result()[1]["report"]

    def _result(self) -> tuple[Path, dict[str, Any]]:
        folder = self._remains.folder
        if self._state.status is not JobStatus.DONE or folder is None:
            raise JobError(self._state.error or "The job has no outputs: it is not done, was cancelled or was closed.")
        return folder, exchange.read_json(folder / "result.json")

    def close(self) -> None:
        """End the process with all it started and remove the folder. Does nothing the second time."""
        if self._state.status is JobStatus.RUNNING:
            self._finish(JobStatus.CANCELLED)
        self._inputs = {}
        self._finalizer()

    def _read_events(self) -> None:
        assert self._remains.folder is not None
        try:
            with (self._remains.folder / "events.jsonl").open("rb") as events:
                events.seek(self._events_read)
                fresh = events.read()
        except FileNotFoundError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1]  # the child may be in the middle of a line
        self._events_read += len(whole)
        for line in whole.splitlines():
            try:
                self._last_event = json.loads(line)
            except ValueError:  # cut off by a full disk
                continue
            if self._last_event["event"] == "progress":
                fraction, message = self._last_event["fraction"], self._last_event["message"]
                self._state = replace(self._state, fraction=fraction, message=message or self._state.message)

    def _conclude(self, exit_code: int) -> None:
        """The final state of a child that is gone, from its last event and its exit code."""
        event, last = self._last_event.get("event"), self._last_event
        if self._cancelled_at is not None or event == "cancelled":
            self._finish(JobStatus.CANCELLED)
        elif event == "done" and exit_code == 0:
            self._state = replace(self._state, fraction=1.0)
            self._finish(JobStatus.DONE)
        elif event == "failed":
            self._finish(JobStatus.FAILED, last["error"], last["details"])
        else:
            log = self._log()
            self._finish(JobStatus.FAILED, _unexplained(exit_code, log), log[-LOG_TAIL:])

    def _finish(self, status: JobStatus, error: str = "", details: str = "") -> None:
        self._state = replace(self._state, status=status, error=error, details=details)

    def _log(self) -> str:
        assert self._remains.folder is not None
        with contextlib.suppress(OSError):
            return (self._remains.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        return ""


class _Remains:
    """What must not outlive the job. Apart from it, so that the finalizer does not keep the job alive."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.kept: subprocess.Popen[bytes] | None = None
        """The process after its job, once it waits for the next one."""

    def end_process(self) -> None:
        if self.process is not None and self.process.returncode is None:  # not yet waited for: its number is still its
            real_pid = None
            with contextlib.suppress(OSError, ValueError, TypeError):
                real_pid = int((self.folder / "pid").read_text())  # type: ignore[operator]
            processes.end_tree(self.process, real_pid)
        if self.process is not None:
            waiting.close(self.process)

    @processes.uninterrupted()
    def remove(self) -> None:
        self.end_process()
        folder, self.folder = self.folder, None
        if folder is not None and self.kept is not None:
            waiting.remove_folder(folder, self.kept)
        elif folder is not None:
            processes.remove_folder(folder)


def _no_room(folder: Path, error: OSError) -> str:
    # Numpy tells of a full disk by numbers of items, without a reason.
    reason = error.strerror or "the disk is full"
    return f"The inputs can not be written into the temporary folder '{folder}': {reason}; make room or choose another."


def _unexplained(exit_code: int, log: str) -> str:
    if processes.was_out_of_memory(exit_code, log):
        return (
            "The system ended the task, most likely because the computer ran out of memory; close other programs, set "
            "a lower memory limit or use a smaller volume."
        )
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return f"The task ended without an answer ({how}); its log says more."
