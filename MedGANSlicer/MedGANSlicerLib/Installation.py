"""One installation of Python packages, polled like a run: plan, check the plan, install, try the imports.

Every step is a child process. Before anything is written, pip tells what it would do; a plan that changes a package
Slicer brings is refused. After it, a child process imports what a run imports: "installed" is not yet "works".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from slicer.i18n import tr as _

from medgan import processes, waiting
from medgan.job import JobState, JobStatus

TORCH = "torch>=2.8"
"""The oldest PyTorch that the engine is tested with."""

_TAIL = 4000


class Step:
    """A child process that works in ``folder``, where its output goes into a file. The command is ASCII: the launcher
    of Slicer 5.10 for Windows loses other letters."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUTF8": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                **processes.own_group(),
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]

    def end(self) -> None:
        if self._process.poll() is None:
            processes.end_tree(self._process)  # PythonSlicer is a launcher: pip is its child


class PackagingStep:
    """pip by ``slicer.packaging`` (Slicer 5.12 and newer), which keeps two installations apart."""

    def __init__(self, packaging, arguments: list[str], constraints: Path) -> None:
        self._code: int | None = None
        self._lines: list[str] = []
        packaging.pip_install(
            arguments,
            constraints=str(constraints),
            blocking=False,
            show_progress=False,
            requester="MedGAN",
            logCallback=self._lines.append,
            completedCallback=self._completed,
        )

    def _completed(self, code: int) -> None:
        self._code = code

    def poll(self) -> int | None:
        return self._code

    def text(self) -> str:
        return "\n".join(self._lines)[-_TAIL:]

    def end(self) -> None:
        """pip is left to finish: half an installation would be worse."""


class Installation:
    """``needs``: what is missing; ``versions``: of the packages that must stay. Close it, whatever happened."""

    def __init__(self, needs, host, wheels: str, versions: dict[str, str]) -> None:
        self.dropped = ""
        self._needs, self._host, self._wheels, self._versions = needs, host, wheels, versions
        self._folder = Path(tempfile.mkdtemp(prefix="medgan-install-"))
        self._state = JobState(message=_("Preparing the installation"))
        self._step: Step | PackagingStep | None = None
        self._stages = self._work()
        self._advancing = self._cancelled = False
        self._advance()

    def poll(self) -> JobState:
        """Where it is; returns at once, except while the PyTorch extension installs.

        That turns the event loop for every line that pip writes: Cancel and the end of the scene come from within.
        """
        waiting = self._step is None or self._step.poll() is not None
        if self._state.status is JobStatus.RUNNING and waiting and not self._advancing:
            self._advance()
        return self._state

    def cancel(self) -> None:
        """Stop; while the PyTorch extension installs, as soon as it has ended."""
        self._cancelled = True
        if self._state.status is JobStatus.RUNNING and not self._advancing:
            goesOn = isinstance(self._step, PackagingStep) and self._step.poll() is None
            self.dropped = (
                _("Nothing was run. pip finishes what it has begun; press Apply later to go on.")
                if goesOn
                else _("The installation was cancelled and nothing was run.")
            )
            self._end(JobState(JobStatus.CANCELLED, message=_("The installation was cancelled.")))

    def close(self) -> None:
        self.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _advance(self) -> None:
        self._advancing = True
        try:
            state = next(self._stages)
        except StopIteration:
            state = JobState(JobStatus.DONE, 1.0, _("The packages are installed."))
        except _Failure as failure:
            state = JobState(JobStatus.FAILED, 0.0, "", str(failure), failure.details)
        except Exception as error:  # whatever another extension raises is told, with its text
            sentence = _("The installation of {names} failed; see the details.").format(names=self._names())
            state = JobState(JobStatus.FAILED, 0.0, "", sentence, f"{type(error).__name__}: {error}")
        finally:
            self._advancing = False
        if self._cancelled:
            self.cancel()
        elif state.status is JobStatus.RUNNING:
            self._state = state
        else:
            self._end(state)

    def _end(self, state: JobState) -> None:
        if self._step is not None:
            self._step.end()
        self._stages.close()
        self._state = state

    def _work(self) -> Iterator[JobState]:
        """The stages; each yields while its step works and goes on when that has ended."""
        waiting.end_all()  # Windows replaces no file that a process has loaded
        if self._needs.torch and not self._wheels:
            yield JobState(fraction=0.02, message=_("Installing PyTorch through the PyTorch extension"))
            self._installTorch()
            if self._cancelled:
                return
        wanted = list(self._needs.requirements) + ([TORCH] if self._needs.torch and self._wheels else [])
        if wanted:
            wheels = Path(self._wheels).absolute().as_uri()  # ASCII, as a path may not be
            offline = ["--no-index", "--find-links", wheels] if self._wheels else []
            constraints, report = self._constraints(), self._folder / "report.json"
            dry = ["--dry-run", "--quiet", "--report", report.name, "-c", constraints.name]
            yield self._begin(0.3, _("Checking what pip would install"), self._pip([*dry, *offline, *wanted]))
            self._succeeded(_("No set of packages fits this Slicer ({names})."))
            self._refuseChanges(report)
            packaging = self._host.packaging()
            while packaging is not None and packaging.isPipInstallInProgress():  # one that was cancelled, or another's
                yield JobState(fraction=0.45, message=_("Waiting until pip has finished another installation"))
            yield self._begin(0.5, _("Installing {names}").format(names=", ".join(wanted)), self._install(
                [*offline, *wanted], constraints
            ))  # fmt: skip
            self._succeeded(_("pip could not install {names}."))
        trial = "import torch, monai, SimpleITK, scipy"
        yield self._begin(
            0.9, _("Trying the new packages"), lambda: Step([self._host.python(), "-c", trial], self._folder)
        )
        self._succeeded(
            _("{names} are installed but can not be imported."),
            _("Restart Slicer; if that does not help, install PyTorch anew in the module PyTorch Utils."),
        )

    def _begin(self, fraction: float, message: str, start: Callable[[], Step | PackagingStep]) -> JobState:
        self._step = start()
        return JobState(fraction=fraction, message=message)

    def _pip(self, arguments: list[str]) -> Callable[[], Step]:
        return lambda: Step([self._host.python(), "-m", "pip", "install", *arguments], self._folder)

    def _install(self, arguments: list[str], constraints: Path) -> Callable[[], Step | PackagingStep]:
        packaging = self._host.packaging()
        if packaging is None:
            return self._pip([*arguments, "-c", constraints.name])
        return lambda: PackagingStep(packaging, arguments, constraints)

    def _installTorch(self) -> None:
        advice = _(
            "PyTorch was not installed; open the module PyTorch Utils, choose a version from 2.8 on and a computation "
            "backend, install it and press Apply again."
        )
        logic = self._host.pytorch()
        try:
            installed = logic is not None and logic.installTorch(torchVersionRequirement=TORCH.removeprefix("torch"))
        except Exception as error:  # it runs pip, and raises what becomes of that
            network = _("Check the network connection too; the Python console shows what pip said.")
            raise _Failure(f"{advice} {network}", f"{type(error).__name__}: {error}") from error
        if not installed:
            raise _Failure(advice)
        from MedGANSlicerLib.Dependencies import versionsOf

        self._versions = {**self._versions, **versionsOf(["torch"])}

    def _constraints(self) -> Path:
        path = self._folder / "constraints.txt"
        path.write_text("".join(f"{name}=={version}\n" for name, version in self._versions.items()), encoding="utf-8")
        return path

    def _refuseChanges(self, report: Path) -> None:
        """Raise if the plan holds a package that must stay as it is."""
        plan = json.loads(report.read_text(encoding="utf-8"))["install"]
        kept = {name.lower(): version for name, version in self._versions.items()}
        for each in plan:
            name, version = each["metadata"]["name"], each["metadata"]["version"]
            if kept.get(name.lower(), version) != version:
                raise _Failure(
                    _(
                        "{name} {old} came with Slicer and would be replaced by {new}, so nothing was installed; use a "
                        "newer Slicer."
                    ).format(name=name, old=kept[name.lower()], new=version)
                )
            if name.lower() == "torch" and not self._wheels:
                raise _Failure(
                    _("pip would install its own PyTorch, so nothing was installed; use the PyTorch extension.")
                )

    def _succeeded(self, sentence: str, advice: str = "") -> None:
        """Raise with the sentence, the reason and what to do (``advice``) if the step has failed."""
        assert self._step is not None
        code, text = self._step.poll(), self._step.text()
        if code == 0:
            return
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        reasons = [
            line for line in lines if line.startswith(("ERROR:", "ModuleNotFoundError", "ImportError", "OSError"))
        ]
        reason = (reasons or lines or [_("exit code {code}").format(code=code)])[-1].removeprefix("ERROR:").strip()
        source = _("the folder of wheels") if self._wheels else _("the network connection")
        advice = advice or _("Check {source}, then press Apply again.").format(source=source)
        raise _Failure(f"{sentence.format(names=self._names())} {reason.rstrip('.')}. {advice}", text)

    def _names(self) -> str:
        return ", ".join(self._needs.names())


class _Failure(Exception):
    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details
