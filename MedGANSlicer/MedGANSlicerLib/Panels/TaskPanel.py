"""Apply that becomes Cancel, progress, log and errors: written once for every task.

One timer polls what is at work: an installation, then a run. Both have ``poll``, ``cancel``, ``close`` and
``dropped``. What is special about a task comes from its panel (see ``Panel``). Qt's event loop is never turned
from here.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from slicer.i18n import tr as _

from medgan.job import JobState, JobStatus
from MedGANSlicerLib.Estimates import secondsLeft, timeText
from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.Panel import Panel

POLL_MS = 100


class TaskPanel:
    """``ui``: the shared widgets. ``onResult(panel, result, report, preview, read)`` is called with what a run
    published; ``read`` holds the states of the nodes that it read, where the run knows them (see ``JobRun``)."""

    def __init__(self, ui, host, dependencies, onResult: Callable) -> None:
        self.ui, self._host, self._dependencies, self._onResult = ui, host, dependencies, onResult
        self._work = None
        self._panel: Panel | None = None
        self._next: Callable | None = None
        self._preview = False
        self._begun = 0.0
        self._ready = self._error = self._topic = ""
        self._previewToolTip = ui.previewButton.toolTip
        self._timer = host.timer(POLL_MS, self.poll)
        ui.errorDetailsButton.connect("toggled(bool)", ui.errorDetails.setVisible)
        ui.errorCopyButton.connect("clicked(bool)", self._copyError)
        ui.logCopyButton.connect("clicked(bool)", lambda: host.copyText(ui.logText.toPlainText()))
        ui.errorIcon.setPixmap(host.warningPicture())
        self._showError("")
        self._showIdle("")

    @property
    def busy(self) -> bool:
        return self._work is not None

    @property
    def working(self) -> Panel | None:
        """The panel of the task that is at work, or None."""
        return self._panel if self.busy else None

    def begin(self, panel: Panel, start: Callable, preview: bool = False) -> None:
        """Start the run that ``start()`` returns, after what it needs is installed. Shows what goes wrong."""
        if self.busy:
            return
        self._showError("")
        self._panel, self._preview = panel, preview
        try:
            needs = self._dependencies.missing() if panel.needsPackages else None
            if not needs:
                self._watch(start(), None)
                return
            obstacle = self._dependencies.obstacle(needs)
            if obstacle:
                self.fail(obstacle, self._dependencies.question(needs))
            elif self._host.confirm(self._dependencies.question(needs)):
                self._watch(self._dependencies.install(needs), start)
            else:
                self.say(_("Nothing was installed and nothing was run."))
        except Exception as error:
            self.fail(*_told(error))

    def cancel(self) -> None:
        """Ask the work to stop; the button says so until it has."""
        if self.busy:
            self._work.cancel()
            self.ui.applyButton.setEnabled(False)
            self.ui.progressLabel.setText(self._panel.texts().stopping)

    def stop(self, reason: str = "") -> None:
        """End the work at once and clean up: the scene, the module or Slicer is being closed."""
        if self.busy:
            self._end()
            self._showIdle(reason)
            self._note(reason)

    def closeScene(self, reason: str) -> None:
        """The scene is being closed: end the work, unless it goes on without one. What was said of it is gone."""
        if not self.busy:
            self._showError("")
            self._showIdle("")
        elif self._next is not None or not self._panel.outlivesScene:
            self.stop(reason)
            self._panel = None  # the next scene may begin with another task, and the reason is still to be read

    def present(self, panel: Panel, obstacle: str) -> None:
        """Show the buttons of a panel. ``obstacle``: "" when its task could start, else one sentence why not."""
        changed = self._panel is not None and (panel, panel.topic) != (self._panel, self._topic)
        self._panel, self._topic, self._ready = panel, panel.topic, obstacle
        if self.busy:  # then the panel is the one that works
            return
        if changed:
            self._showError("")
            self._showIdle("")
        self._showButtons()

    def say(self, sentence: str) -> None:
        """One sentence under the progress bar, kept in the log."""
        self.ui.progressLabel.setText(breakable(sentence))
        self.ui.progressLabel.setVisible(bool(sentence))
        self._note(sentence)

    def conclude(self, sentence: str) -> None:
        """A few words about the result, after those that it is done."""
        if sentence:
            self._add(sentence)
            self._note(sentence)

    def fail(self, sentence: str, details: str = "") -> None:
        """The error box: one sentence, and details behind a button."""
        self._showIdle("")
        self._showError(sentence, details)
        self._note(sentence)
        if details:
            self._note(details)

    def poll(self) -> None:
        """What the timer calls."""
        if not self.busy:
            return
        work = self._work
        try:
            state = work.poll()
            if self._work is not work:  # an installation of PyTorch turns the event loop: it was stopped from there
                return
            if state.status is JobStatus.RUNNING:
                self._showProgress(state)
                if self._next is None:
                    self._panel.watch(state)
            elif state.status is JobStatus.DONE:
                self._done()
            else:
                self._ended(state)
        except Exception as error:
            self._end()
            self.fail(*_told(error))

    def _watch(self, work, following: Callable | None) -> None:
        self._work, self._next = work, following
        self._begun = time.monotonic()
        self._timer.start()
        self.ui.progressBar.setVisible(True)
        self._showButtons()
        self._showProgress(JobState(message=_("Starting")))

    def _done(self) -> None:
        if self._next is not None:
            panel, following, preview = self._panel, self._next, self._preview
            self._end()
            self.begin(panel, following, preview)
            return
        self.ui.progressLabel.setText(_("Putting the result into the scene"))
        panel, result, report = self._panel, self._work.publish(), self._work.report
        dropped, elapsed = self._work.dropped, time.monotonic() - self._begun
        remark, read = getattr(self._work, "remark", ""), getattr(self._work, "read", {})
        self._end()
        if dropped:
            self._showIdle("")
            self.say(dropped)
            return
        self._showIdle("")
        self.say(f"{_('Done in {time}.').format(time=timeText(elapsed))} {remark}".strip())
        messages = list(report.get("messages", ()))
        for message in messages:
            self._note(message)
        for suspicion in report.get("suspicions") or ():
            self._note(suspicion["sentence"])
        self._onResult(panel, result, report, self._preview, read)
        if messages and not panel.showsMessages:
            self._add(_inShort(messages))

    def _ended(self, state: JobState) -> None:
        dropped = self._work.dropped
        self._end()
        if state.status is JobStatus.FAILED:
            self.fail(state.error, state.details)
        else:
            self._showIdle("")
            self.say(dropped or self._panel.texts().cancelled)

    def _end(self) -> None:
        self._timer.stop()
        work, installing, self._work, self._next = self._work, self._next is not None, None, None
        if work is not None:
            work.close()
            if not installing:
                self._panel.ended()

    def _showIdle(self, sentence: str) -> None:
        self.ui.progressBar.setVisible(False)
        self.ui.progressBar.setValue(0)
        self.ui.progressLabel.setText(breakable(sentence))
        self.ui.progressLabel.setVisible(bool(sentence))
        self._showButtons()

    def _showButtons(self) -> None:
        if self._panel is None:
            return
        apply, preview, texts = self.ui.applyButton, self.ui.previewButton, self._panel.texts()
        apply.setText(texts.cancel if self.busy else texts.apply)
        apply.setEnabled(self.busy or not self._ready)
        apply.setToolTip(texts.cancelToolTip if self.busy else self._ready or texts.applyToolTip)
        preview.setVisible(self._panel.hasPreview)
        preview.setEnabled(not self.busy and not self._ready)
        preview.setToolTip(self._ready or self._previewToolTip)
        self.ui.taskPlace.setEnabled(not self.busy or self._panel.staysEnabled)
        self.ui.taskSelector.setEnabled(not self.busy)

    def _showProgress(self, state: JobState) -> None:
        elapsed = time.monotonic() - self._begun
        left = secondsLeft(state.fraction, elapsed)
        self.ui.progressBar.setValue(int(100 * state.fraction))
        text = state.message or _("Working")
        if left is not None:
            text = _("{message} · about {time} left").format(message=text, time=timeText(left))
        if self.ui.applyButton.enabled:  # after Cancel it says "Stopping"
            self.ui.progressLabel.setText(breakable(text))
        self.ui.progressLabel.setVisible(True)

    def _showError(self, sentence: str, details: str = "") -> None:
        self._error = sentence
        self.ui.errorLabel.setText(breakable(sentence))
        self.ui.errorDetails.setPlainText(details)
        self.ui.errorDetailsButton.setVisible(bool(details))
        self.ui.errorDetailsButton.setChecked(False)
        self.ui.errorDetails.setVisible(False)
        self.ui.errorBox.setVisible(bool(sentence))

    def _copyError(self) -> None:
        parts = [self._error, self._host.describeInstall(), self.ui.errorDetails.toPlainText()]
        self._host.copyText("\n".join(part for part in parts if part))

    def _add(self, sentence: str) -> None:
        self.ui.progressLabel.setText(f"{self.ui.progressLabel.text} {breakable(sentence)}".strip())

    def _note(self, text: str) -> None:
        if text:
            self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")


def _inShort(messages: list[str]) -> str:
    """The first message, and how many more the log has: one of them may take the meaning from the result."""
    if len(messages) == 1:
        return messages[0]
    return _("{message} (And {count} more in the log.)").format(message=messages[0], count=len(messages) - 1)


def _told(error: Exception) -> tuple[str, str]:
    """An exception as one sentence and details. ``ValueError`` and ``RuntimeError`` carry their own sentence."""
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(error, ValueError | RuntimeError) and str(error):
        return str(error), details
    return _("Something unexpected went wrong; the details tell what."), details
