"""The options of Enhance that only some models have, and what super-resolution will make of the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from slicer.i18n import tr as _

from medgan.gridplan import GridPlan, planned
from medgan.settings import EnhanceSettings
from medgan.settings.enhance import SETTINGS_FOR
from MedGANSlicerLib.SceneBridge import voxelCount
from MedGANSlicerLib.SettingsPacks import snapshot

FITTED = {"blur", "resolution"}
"""What a volume can teach a model to restore."""


class EnhanceOptions:
    """``ui``: the widgets of Enhance.ui; one group of them for each thing that a model restores."""

    def __init__(self, ui) -> None:
        self._ui = ui

    def show(self, parameters, node, cards: Iterable) -> tuple[GridPlan | None, str]:
        """Show the options of the chosen models. Returns the grid of the result and "", or a sentence why not.

        The grid is None without super-resolution.
        """
        roles = {card.restores for card in cards}
        ui, settings = self._ui, parameters.enhance
        ui.superresGroup.setVisible("resolution" in roles)
        ui.deblurGroup.setVisible("blur" in roles)
        ui.fitGroup.setVisible(bool(roles & FITTED))
        ui.fitFromScratch.setEnabled(settings.fit_minutes > 0)
        if "resolution" not in roles:
            return None, ""
        ui.planLabel.setVisible(node is not None)
        if not voxelCount(node):
            return None, ""
        size, spacing = node.GetImageData().GetDimensions(), node.GetSpacing()
        try:
            plan = planned(size, spacing, settings.axis, settings.ratio, settings.slice_gap_mm)
        except ValueError as error:
            ui.planLabel.setText(str(error))
            return None, str(error)
        ui.planLabel.setText(gridPlanText(plan, size, spacing))
        return plan, ""


def settingsOf(parameters, cards: Iterable, preview: bool = False) -> EnhanceSettings:
    """The settings for a run of these models: those that the panel shows for them, and without a fit where it is not
    offered, needs no time, or is a preview."""
    settings, cards = snapshot(parameters.enhance, EnhanceSettings), list(cards)
    if cards:
        hidden = {kind: names for kind, names in SETTINGS_FOR.items() if kind not in {card.restores for card in cards}}
        idle = {name: getattr(EnhanceSettings, name) for names in hidden.values() for name in names}
        settings = dataclasses.replace(settings, **idle)
    fits = any(card.restores in FITTED for card in cards) and settings.fit_minutes > 0
    if preview or not fits:
        settings = dataclasses.replace(settings, fit_minutes=0.0, fit_from_scratch=False)
    return settings


def gridPlanText(plan: GridPlan, size: Sequence[int], spacing: Sequence[float]) -> str:
    """Which axis and ratio, and the grid before and after."""
    where = _("All axes") if len(plan.axes) > 1 else _("Along {axis}").format(axis=plan.axes)
    return _("{where}, ratio {ratio:.3g}:\n{before}\n→ {after}").format(
        where=where, ratio=plan.ratio, before=gridText(size, spacing), after=gridText(plan.size, plan.spacing_mm)
    )


def gridText(size: Sequence[int], spacing: Sequence[float]) -> str:
    """Voxels and spacing along i, j and k."""
    voxels = " × ".join(str(count) for count in size)
    return _("{voxels} at {spacing} mm").format(voxels=voxels, spacing=" × ".join(f"{step:.3g}" for step in spacing))
