"""Plays ``slicer.packaging`` of Slicer 5.12 and the ``PyTorchUtils`` module; both may be absent."""

from __future__ import annotations

import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from packaging.requirements import Requirement

from .utilities import installer
from .waiting import run_for

TORCH_S = 0.3
"""How long PyTorch takes to install."""


def load_requirements(path: str | Path) -> list[Requirement]:
    """The lines of the file, without comments and options. A comment behind a requirement raises, as in Slicer."""
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def _requirements(given: Any) -> list[Requirement]:
    if isinstance(given, str):
        given = given.split()
    return [Requirement(str(each)) for each in (given if isinstance(given, list) else [given])]


missing: set[str] = set()
"""Names that count as not installed, however the test's own environment is."""


def pip_check(req: Any) -> bool:
    return all(_is_installed(each) for each in _requirements(req))


def _is_installed(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name in missing:
        return False
    try:
        return version(requirement.name) in requirement.specifier
    except PackageNotFoundError:
        return False


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: Any = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Ask, then install what is missing. Raises ``RuntimeError`` when the person declines."""
    wanted = [str(each) for each in _requirements(requirements) if not pip_check(each)]
    if not wanted or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install:
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        text = f"{len(wanted)} Python packages need to be installed."
        if not slicer.util.confirmOkCancelDisplay(text, title, detailedText="\n".join(wanted)):
            raise RuntimeError("User declined package installation")
    pip_install(wanted)


def pip_install(
    requirements: Any,
    constraints: Any = None,
    no_deps_requirements: Any = None,
    skip_packages: Any = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> None:
    """Recorded. Non-blocking, the completed callback gets 0, or the code of the failure."""
    installer.calls.append(requirements)
    if blocking:
        installer.outcome(requirements)
        return
    try:
        installer.outcome(requirements)
    except Exception as error:
        completedCallback(getattr(error, "returncode", 1))
    else:
        completedCallback(0)


def isPipInstallInProgress() -> bool:
    return False


def packaging_module() -> types.ModuleType:
    module = types.ModuleType("slicer.packaging", __doc__)
    for function in (load_requirements, pip_check, pip_ensure, pip_install, isPipInstallInProgress):
        setattr(module, function.__name__, function)
    return module


def pytorch_module(present: Any = None, installs: Any = None) -> types.ModuleType:
    """A ``PyTorchUtils`` whose torch is ``present``, or appears by ``installTorch`` (None: the person declined;
    an exception is raised)."""

    class PyTorchUtilsLogic:
        installed: list[dict[str, Any]] = []  # noqa: RUF012
        _torch = present

        @staticmethod
        def torchInstalled() -> bool:
            return PyTorchUtilsLogic._torch is not None

        @property
        def torch(self) -> Any:
            return self._torch if self._torch is not None else self.installTorch()

        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
            torchvisionVersionRequirement: str | None = None,
        ) -> Any:
            wanted = {"backend": forceComputationBackend, "torch": torchVersionRequirement, "asked": askConfirmation}
            PyTorchUtilsLogic.installed.append(wanted)
            run_for(TORCH_S)  # it writes pip's output to the log, and turns the event loop for every line
            if isinstance(installs, Exception):
                raise installs
            PyTorchUtilsLogic._torch = installs
            return installs

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic  # type: ignore[attr-defined]
    return module
