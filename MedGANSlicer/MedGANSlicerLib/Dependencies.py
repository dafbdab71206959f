"""Which Python packages a run needs, the one question about them, and what is wrong when they can not be had.

Nothing is imported into Slicer's own process to find out. PyTorch comes through the PyTorch extension, which knows
the build for the graphics card; the NumPy and SimpleITK that Slicer brings are never replaced.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from MedGANSlicerLib.Installation import TORCH, Installation

MODULES = {"torch": "torch", "monai": "monai", "SimpleITK": "SimpleITK", "scipy": "scipy"}
"""What a run imports, by the name of its package."""

PROTECTED = ("numpy", "SimpleITK", "torch", "scipy")
"""Packages that an installation may add but never change."""

WHEELS = "MEDGAN_WHEELS"
"""Environment variable: a folder of wheels to install from, without any network."""

SIZES_MB = {"torch": (200, 3000), "monai": (2, 5), "scipy": (35, 40), "SimpleITK": (50, 55)}
"""What a download weighs, from and to; PyTorch is large when it brings CUDA."""


@dataclass(frozen=True)
class Needs:
    """What is missing. False in a condition when it is nothing."""

    torch: bool = False
    requirements: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.torch or bool(self.requirements)

    def names(self) -> list[str]:
        return ([TORCH] if self.torch else []) + list(self.requirements)

    def sizeText(self) -> str:
        sizes = [SIZES_MB.get(nameOf(each), (5, 50)) for each in self.names()]
        low, high = (sum(each) for each in zip(*sizes, strict=True))
        return _sized(low) if high < 1.5 * low else _("{low} to {high}").format(low=_sized(low), high=_sized(high))


class Dependencies:
    """``requirementsFile``: one requirement a line; comments only on lines of their own."""

    def __init__(self, requirementsFile: str | Path, host, environment: Mapping[str, str] = os.environ) -> None:
        self._file, self._host, self._environment = Path(requirementsFile), host, environment

    @property
    def wheels(self) -> str:
        """The folder of wheels to install from, or ""."""
        return self._environment.get(WHEELS, "")

    def missing(self) -> Needs:
        """What must be installed before a run, found without importing anything."""
        importlib.invalidate_caches()
        lines = [*self._requirements(), "SimpleITK"]
        return Needs(not self._satisfied(TORCH), tuple(line for line in lines if not self._satisfied(line)))

    def question(self, needs: Needs) -> str:
        """What the person is asked, once, before anything is downloaded."""
        listed = "\n".join(f"  - {name}" for name in needs.names())
        if self.wheels:
            where = _("They are taken from the folder {folder}; nothing is downloaded.").format(folder=self.wheels)
        else:
            where = _("About {size} will be downloaded, once.").format(size=needs.sizeText())
        text = _("MedGAN needs these Python packages, which are not in this Slicer yet:")
        kept = _("The packages that came with Slicer stay as they are.")
        return f"{text}\n\n{listed}\n\n{where} {kept}\n\n" + _("Install them now?")

    def obstacle(self, needs: Needs) -> str:
        """One sentence if the installation can not even begin, else ""."""
        if self._host.isTesting():
            return _("{names} are missing, and tests install nothing.").format(names=", ".join(needs.names()))
        if needs.torch and sys.platform == "darwin" and platform.machine() == "x86_64":  # also under Rosetta
            return _(
                "This Slicer is built for Intel, and PyTorch 2.8 exists on macOS for Apple silicon only; use a Slicer "
                "that is built for Apple silicon, or the command 'medgan' in a Python that is."
            )
        if self.wheels and not Path(self.wheels).is_dir():
            return _(
                "The folder {folder}, named by {variable}, does not exist; correct it and press Apply again."
            ).format(folder=self.wheels, variable=WHEELS)
        older = versionsOf(["torch"]) if needs.torch and self.wheels else {}
        if older:  # what goes with it, as torchvision, would stay behind and not work any more
            return _(
                "PyTorch {version} is installed, which is too old; uninstall it in the module PyTorch Utils, restart "
                "Slicer and press Apply again."
            ).format(version=older["torch"])
        if needs.torch and not self.wheels and self._host.pytorch() is None:
            return _(
                "PyTorch is missing: install the extension 'PyTorch' in the Extensions Manager, restart Slicer and "
                "press Apply again."
            )
        return ""

    def install(self, needs: Needs) -> Installation:
        """A started installation, to be polled like a run."""
        return Installation(needs, self._host, self.wheels, versionsOf(PROTECTED))

    def _requirements(self) -> list[str]:
        lines = [line.strip() for line in self._file.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line and line[0] not in "#-"]

    def _satisfied(self, requirement: str) -> bool:
        packaging = self._host.packaging()
        if packaging is not None:
            from packaging.requirements import Requirement

            known = packaging.pip_check(Requirement(requirement))
        else:
            known = _installedAs(requirement)
        # A module without metadata (as SimpleITK in older Slicers) is there all the same.
        name = nameOf(requirement)
        return known or (name == "SimpleITK" and self._host.isInstalled(MODULES[name]))


def nameOf(requirement: str) -> str:
    """The package of a requirement such as ``monai>=1.5``."""
    return requirement.split(";")[0].split("[")[0].rstrip("0123456789.*,<>=!~ ")


def versionsOf(names) -> dict[str, str]:
    """Version of each package that is installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _installedAs(requirement: str) -> bool:
    """Slicer 5.10 has no ``slicer.packaging`` to ask."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    try:
        return wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _sized(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
