"""What a training does: how far it is, its curves and pictures, what looks wrong, and whether it is done."""

from __future__ import annotations

import time
from pathlib import Path

import qt
from slicer.i18n import tr as _

from MedGANSlicerLib.Panels.CurvesView import CurvesView
from MedGANSlicerLib.RunLog import RunLog, titleOf

EVERY_S = 1.0
"""How often the files of a training that runs are looked at."""

PICTURE_WIDTH = 270

MOST_ALARMS = 3


class TrainWatch:
    """``ui``: the widgets of the section "Training". Shows a run folder, whether a training runs there or not."""

    def __init__(self, ui, host) -> None:
        self._ui, self._host = ui, host
        self.log = RunLog("")
        self.curves = CurvesView(host)
        self._looked = 0.0
        self._picture: tuple = ()
        ui.curvesButton.connect("toggled(bool)", self._showCurves)
        self._draw()

    def watch(self, folder: str | Path) -> None:
        """Show the run in that folder from now on."""
        if Path(folder) != self.log.folder:
            self.log, self._picture = RunLog(folder), ()
        self.log.update()
        self._draw()

    def poll(self) -> None:
        """Called often while the training runs; looks into the folder now and then."""
        now = time.monotonic()
        if now - self._looked >= EVERY_S:
            self._looked = now
            if self.log.update():
                self._draw()

    def showCurves(self) -> None:
        if not self._ui.curvesButton.checked:
            self._ui.curvesButton.setChecked(True)
        else:
            self.curves.show(self.log)

    def leave(self) -> None:
        """Give the person's layout back."""
        self._ui.curvesButton.setChecked(False)
        self.curves.leave()

    def _showCurves(self, wanted: bool) -> None:
        if wanted:
            self.curves.show(self.log)
        else:
            self.curves.leave()

    def _draw(self) -> None:
        ui, log = self._ui, self.log
        ui.watchSection.setVisible(bool(log.rows))
        if not log.rows:
            return
        ui.watchSection.setText(_("Training '{name}'").format(name=log.folder.name))
        ui.statusLabel.setText(statusText(log))
        ui.verdictLabel.setText(_("Is it done? {answer}").format(answer=log.verdict()))
        alarms = [f"{_('Step')} {step}: {advice or name}" for step, name, advice in log.alarms()[-MOST_ALARMS:]]
        ui.alarmsLabel.setText("\n\n".join(alarms))
        ui.alarmsLabel.setVisible(bool(alarms))
        self._drawPicture()
        self.curves.update(log)

    def _drawPicture(self) -> None:
        found = self.log.picture()
        ui = self._ui
        ui.samplePicture.setVisible(found is not None)
        ui.sampleCaption.setVisible(found is not None)
        if found is None or found[:2] == self._picture:
            return
        path, step, names = found
        picture = qt.QPixmap(str(path))
        if picture.isNull():
            return
        self._picture = (path, step)
        smooth = qt.Qt.SmoothTransformation if picture.width() > PICTURE_WIDTH else qt.Qt.FastTransformation
        ui.samplePicture.setPixmap(picture.scaledToWidth(PICTURE_WIDTH, smooth))
        ui.sampleCaption.setText(_("Step {step}: {names}").format(step=step, names=", ".join(names)))


def statusText(log: RunLog) -> str:
    """Step, speed and the latest figures, in one line."""
    parts = [_("Step {step}").format(step=log.step)]
    for name, text in (("generator_loss", _("generator")), ("critic_loss", _("critic"))):
        value = log.latest(name)
        if value is not None:
            parts.append(f"{text} {value:.3g}")
    title, curves = log.validation()
    if curves:
        parts.append(f"{titleOf(title)} {curves[title][1][-1]:.4g}")
    speed = log.latest("steps_a_second")
    if speed:
        parts.append(_("{speed:.3g} steps a second").format(speed=speed))
    return " · ".join(parts)
