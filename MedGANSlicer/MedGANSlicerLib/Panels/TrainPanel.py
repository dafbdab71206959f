"""Train: the widgets of this task, what they start, and where the training keeps itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import slicer.util
from slicer.i18n import tr as _

from medgan import bundle_files, models
from medgan.job import JobStatus
from medgan.settings import Pairing, TrainKind, TrainSettings
from medgan.training import claim
from medgan.training.starts import refusal
from MedGANSlicerLib.NodePairs import LABELS, VOLUMES, nodesOf
from MedGANSlicerLib.Panels.ModelFiles import ModelFiles
from MedGANSlicerLib.Panels.PairsTable import Offer, PairsTable
from MedGANSlicerLib.Panels.Panel import Panel, RunTexts
from MedGANSlicerLib.Panels.TrainWatch import TrainWatch
from MedGANSlicerLib.SettingsPacks import snapshot
from MedGANSlicerLib.TrainInputs import CHOSEN, PARTNERS, classOf, engineInputs, guessPartner, obstacle, partnersOf
from MedGANSlicerLib.TrainRun import TrainRun
from MedGANSlicerLib.TrainSource import TrainSource


class TrainPanel(Panel):
    """``ui``: the widgets of Train.ui. Folders are not kept in the scene, which may go to another computer."""

    task = "train"
    uiFile = "UI/Train.ui"
    outlivesScene = True
    staysEnabled = True

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._volumes = PairsTable(ui.volumesTable, ui.partnerSelector, ui.partnerSelectorLabel, CHOSEN, getParameters)
        self._watch = TrainWatch(ui, host)
        self._files = ModelFiles(ui, host, lambda: self.changedModels())
        self._cards: dict = {}
        self._starts: list[str] = []
        self._run: TrainRun | None = None
        self._curvesAwaited = False  # a training that never starts leaves no empty charts behind
        self.reload()
        ui.startSelector.connect("activated(int)", self._chooseStart)
        for line in (ui.dataFolder, ui.runFolder):
            line.connect("textChanged(QString)", self._again)
        ui.dataFolderButton.connect("clicked(bool)", lambda checked=False: self._browse(ui.dataFolder))
        ui.runFolderButton.connect("clicked(bool)", lambda checked=False: self._browse(ui.runFolder))

    @staticmethod
    def title() -> str:
        return _("Train")

    def texts(self) -> RunTexts:
        goesOn = self._watch.log.resumable
        saved = _("Stopped at step {step} and saved; Continue goes on from there.").format(step=self._watch.log.step)
        return RunTexts(
            apply=_("Continue") if goesOn else _("Train"),
            applyToolTip=_("Go on with this training.") if goesOn else _("Train a model of your own."),
            cancel=_("Stop"),
            cancelToolTip=_("Stop and save; the training can go on later."),
            stopping=_("Stopping; the training is being saved…"),
            cancelled=saved if goesOn else _("Stopped before there was anything to save."),
        )

    def refresh(self, parameters) -> str:
        if self._run is not None:
            self._restore(parameters)
        ui, settings = self.ui, parameters.train
        inScene = parameters.trainSource is TrainSource.SCENE
        enhances = settings.kind is TrainKind.ENHANCE
        _show(enhances, ui.restores, ui.restoresLabel)
        _show(not inScene, ui.dataFolder, ui.dataFolderLabel, ui.dataFolderButton)
        for widget in (ui.pairing, ui.pairingLabel):  # a child that a closed section hides can not be hidden for good
            widget.setEnabled(settings.kind is TrainKind.TRANSLATE)
        self._volumes.show(parameters, _offer(parameters.parameterNode.GetScene(), settings.kind), inScene)
        self._showStarts(settings)
        ui.modelName.setPlaceholderText(nameOf(settings))
        ui.trainInputs.setEnabled(self._run is None)
        try:
            bundle_files.checked_name(nameOf(settings))
            ui.runFolder.setPlaceholderText(str(claim.default_folder(nameOf(settings))))
            if self._run is None:
                self._watch.watch(self._folder(settings))
            self._showFolder()
            snapshot(settings, TrainSettings)
        except ValueError as error:
            return str(error)
        made = self._stepsOfModel() if self._watch.log.resumable else 0
        if 0 < settings.steps <= made:
            return _("This training has its {n} steps; raise Steps or choose another name.").format(n=made)
        if not inScene:
            return "" if ui.dataFolder.text.strip() else _("Choose a folder of volumes.")
        return obstacle(self._volumes.chosen(), settings.kind, settings.validation_share)

    def _restore(self, parameters) -> None:
        """The scene was closed, or another one loaded, while a training runs: show what is trained all the same."""
        was, pack = self._run.settings, parameters.train
        if (was.name, was.kind) != (nameOf(pack), pack.kind):
            with slicer.util.NodeModify(parameters.parameterNode):
                for field in dataclasses.fields(TrainSettings):
                    if field.name not in ("data", "out"):  # folders are not kept in the scene
                        setattr(pack, field.name, getattr(was, field.name))

    def start(self, parameters):
        inScene = parameters.trainSource is TrainSource.SCENE
        settings = snapshot(parameters.train, TrainSettings)
        wanted = self._volumes.chosen() if inScene else []
        if inScene:
            pairing = settings.pairing
            if settings.kind is TrainKind.ENHANCE:
                pairing = Pairing.PAIRED if any(each.partner for each in wanted) else Pairing.UNPAIRED
            settings = dataclasses.replace(settings, pairing=pairing, source="", target="")
        settings = dataclasses.replace(
            settings,
            data="" if inScene else self.ui.dataFolder.text.strip(),
            name=nameOf(settings),
            out=str(self._folder(settings)),
        )
        messages: list[str] = []
        inputs = engineInputs(wanted, settings.kind, messages) if inScene else {}
        run = TrainRun(inputs, settings, messages=messages, python=self._host.python())
        self._run = run
        try:
            self.ui.trainInputs.setEnabled(False)
            self._watch.watch(run.log.folder)
            self._curvesAwaited = True
        except BaseException:
            run.close()
            self.ended()
            raise
        return run

    def watch(self, state) -> None:
        if state.status is JobStatus.RUNNING:
            self._watch.poll()
            self._showAwaitedCurves()

    def ended(self) -> None:
        folder = self._run.log.folder if self._run is not None else None
        self._run = None
        self.ui.trainInputs.setEnabled(True)
        if folder is not None:
            self._watch.watch(folder)
            self._showAwaitedCurves()
        self._curvesAwaited = False
        self._showFolder()

    def _showAwaitedCurves(self) -> None:
        """Once there is something to show, and while the module is open."""
        if self._curvesAwaited and self._watch.log.rows and self._getParameters() is not None:
            self._curvesAwaited = False
            self._watch.showCurves()

    def finish(self, result, report, preview: bool) -> None:
        self.changedModels()

    def summary(self, result, report) -> str:
        return _("The model '{name}' is in the menus. {done}").format(name=report["name"], done=report["done"])

    def reload(self) -> None:
        self._cards, self._starts = models.catalogue(), []
        self._files.reload()

    def tidy(self) -> None:
        self._watch.curves.tidy()

    def leave(self) -> None:
        self._watch.leave()

    def _folder(self, settings) -> Path:
        chosen = self.ui.runFolder.text.strip()
        return Path(os.path.expanduser(chosen)) if chosen else claim.default_folder(nameOf(settings))

    def _stepsOfModel(self) -> int:
        """How many steps the model has that the training in the folder made; 0 where it has still to be written."""
        run = claim.earlier(self._watch.log.folder).get("run")
        made = [card.details for card in self._cards.values() if run and card.details.get("run") == run]
        return max((details["training"]["steps"] for details in made), default=0)

    def _showFolder(self) -> None:
        """What is in the folder of the training already."""
        log, text = self._watch.log, ""
        if self._run is None and log.resumable:
            text = _(
                "This folder holds a training of {step} steps; Continue goes on with it. Another name starts a new one."
            ).format(step=log.step)
        self.ui.folderLabel.setText(text)
        self.ui.folderLabel.setVisible(bool(text))

    def _showStarts(self, settings) -> None:
        """Offer the models that this kind could go on from."""
        cards = [card for card in self._cards.values() if not refusal(card, settings.kind, settings.restores)]
        names = ["", *(card.name for card in cards)]
        if settings.start in self._cards and settings.start not in names:  # it was chosen for another kind
            settings.start = ""
        if settings.start not in names:
            names.append(settings.start)
        titles = [_("Random weights"), *(card.title or card.name for card in cards), settings.start][: len(names)]
        if names != self._starts:
            self._starts = names
            self.ui.startSelector.clear()
            for title in titles:
                self.ui.startSelector.addItem(title)
        self.ui.startSelector.setCurrentIndex(names.index(settings.start))

    def _chooseStart(self, index: int) -> None:
        parameters = self._getParameters()
        if parameters is not None and 0 <= index < len(self._starts):
            parameters.train.start = self._starts[index]

    def _browse(self, line) -> None:
        folder = self._host.chooseFolder(_("Choose a folder"), line.text or line.placeholderText)
        if folder:
            line.setText(folder)

    def _again(self, text: str = "") -> None:
        """Something that is not in the parameter node has changed."""
        parameters = self._getParameters()
        if parameters is not None:
            parameters.parameterNode.Modified()


def nameOf(settings) -> str:
    """What the model will be called: what the person says, or something that tells what it does."""
    if settings.name.strip():
        return settings.name.strip()
    what = settings.restores.value if settings.kind is TrainKind.ENHANCE else settings.kind.value
    return f"my-{what}"


def _offer(scene, kind: TrainKind) -> Offer:
    """The volumes of the scene, and what goes with them for that kind."""
    volumes = nodesOf(scene, VOLUMES)
    if kind is TrainKind.CLASSIFY:  # the class is the folder of the subject hierarchy
        return Offer(volumes, (_("Class: volume"), ""), shown=lambda node, name: f"{classOf(node) or '?'}: {name}")
    if kind not in PARTNERS:
        return Offer(volumes, (_("Volume"), ""))
    nodes = nodesOf(scene, (*VOLUMES, *LABELS))
    partner = {TrainKind.ENHANCE: _("Degraded"), TrainKind.TRANSLATE: _("Target")}.get(kind, _("Labels"))
    return Offer(
        volumes,
        (_("Volume"), partner),
        lambda node: partnersOf(node, kind, nodes),
        lambda node, taken: guessPartner(node, kind, taken),
        _("Made while training") if kind is TrainKind.ENHANCE else _("Nothing"),
    )


def _show(visible: bool, *widgets) -> None:
    for widget in widgets:
        widget.setVisible(visible)
