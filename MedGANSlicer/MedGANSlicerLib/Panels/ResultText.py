"""What the panel says: of the volume that was chosen, and of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from MedGANSlicerLib.Recommend import MAP, THICK, Advice, Seen

SHARP = 0.6
"""Blur in voxels up to which a volume counts as sharp, and nothing is said of it."""


def seenText(seen: Seen | None, advice: Advice | None, title: str) -> str:
    """What was measured in the volume, and which model (by its ``title`` in the menu) is recommended, and why."""
    if seen is None or advice is None:
        return ""
    nothing = _("Nothing is recommended: {reason}.").format(reason=advice.reason)
    if seen.kind == MAP:
        return nothing
    parts = [seen.kind or _("Unknown modality")]
    if seen.sigma is not None:
        parts.append(_("noise {sigma:.3g} ({share:.1%} of the range)").format(sigma=seen.sigma, share=seen.share))
    if seen.blur is not None and seen.blur > SHARP:
        parts.append(_("blur {blur:.2g} voxels").format(blur=seen.blur))
    if seen.thickness >= THICK:
        parts.append(_thickness(seen))
    first = ", ".join(parts) + ". "
    if not advice.task:
        return first + nothing
    if advice.reason:
        return first + _("Recommended: {title} ({reason}).").format(title=title, reason=advice.reason)
    thick = _("thick slices") if seen.coarsest == "k" else _("coarse voxels along {axis}").format(axis=seen.coarsest)
    causes = {"noise": _("noise"), "blur": _("blur"), "resolution": thick}
    why = [causes[need] for need in advice.needs]
    listed = _(" and ").join([", ".join(why[:-1]), why[-1]] if len(why) > 1 else why)
    return first + _("Recommended: {title}, because of {causes}.").format(title=title, causes=listed)


def _thickness(seen: Seen) -> str:
    if seen.coarsest == "k":
        return _("slices {ratio:.1f}× thicker than wide").format(ratio=seen.thickness)
    return _("voxels {ratio:.1f}× longer along {axis}").format(ratio=seen.thickness, axis=seen.coarsest)


def summary(report: Mapping[str, Any]) -> str:
    """A few words about a result: what every step did, how much was changed, and what to check."""
    steps = {step.get("restores"): step for step in report.get("steps") or ()}
    parts = []
    if "noise" in steps or not steps:
        given = report.get("sigma_source") == "given"
        noise = _("noise set to {sigma_before:.3g}, measured after: {sigma_after:.3g}")
        parts.append((noise if given else _("noise {sigma_before:.3g} → {sigma_after:.3g}")).format(**report))
    if steps.get("blur", {}).get("blur_sigma"):
        parts.append(_("blur of {sigma:.2g} voxels taken away").format(sigma=steps["blur"]["blur_sigma"]))
    if steps.get("resolution", {}).get("spacing_mm_after"):
        spacing = " × ".join(f"{step:.3g}" for step in steps["resolution"]["spacing_mm_after"])
        parts.append(_("voxels of {spacing} mm").format(spacing=spacing))
    parts.append(_("mean change {change:.3g}").format(change=report["mean_absolute_change"]))
    if report.get("consistency"):
        parts.append(_consistency(report["consistency"]))
    text = ", ".join(parts) + "; " + report["device"] + "."
    count = len(report.get("suspicions") or ())
    if count:
        text += " " + (_("1 place to check.") if count == 1 else _("{count} places to check.").format(count=count))
    return text


def _consistency(consistency: Mapping[str, Any]) -> str:
    text = _("residual {rms:.3g}").format(rms=consistency["residual_rms"])
    if consistency.get("residual_sigmas") is not None:
        text += " " + _("({sigmas:.2g} of the noise)").format(sigmas=consistency["residual_sigmas"])
    return text
