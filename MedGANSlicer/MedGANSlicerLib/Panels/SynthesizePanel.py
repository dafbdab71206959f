"""Synthesize: volumes from labels, from noise or from one volume, and a gallery of what was made."""

from __future__ import annotations

import dataclasses

import slicer.util
import vtk
from slicer.i18n import tr as _

from medgan.settings import Contrast, SynthesizeSettings, Target
from medgan.synthesis.cards import CONTRASTS, SHAPES, idle
from MedGANSlicerLib import Places
from MedGANSlicerLib.JobRun import JobRun
from MedGANSlicerLib.NodePairs import nodesOf
from MedGANSlicerLib.Panels.Gallery import Gallery
from MedGANSlicerLib.Panels.ModelMenu import ModelMenu
from MedGANSlicerLib.Panels.Panel import Comparison, Panel, RunTexts
from MedGANSlicerLib.Panels.SynthesizeOptions import IntensitiesTable, LatentSliders, sliderNames
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, matrixOf, voxelCount
from MedGANSlicerLib.SettingsPacks import snapshot
from MedGANSlicerLib.SynthesizeNodes import SAMPLE, labelInputs, publishSamples, volumeInputs
from MedGANSlicerLib.SynthesizeSource import VARIATIONS, SynthesizeSource

MOST = 24
"""Volumes that one run puts into the scene."""

REFERENCED = (Contrast.USUAL, Contrast.REFERENCE)
"""Intensities that a reference volume may give."""

NEEDY = (Contrast.REFERENCE, Contrast.BY_HAND)
"""Intensities that need to know the labels."""

TYPED = (Contrast.BY_HAND, Contrast.T1, Contrast.T2, Contrast.FLAIR, Contrast.CT)
"""Intensities that the table may say or change."""


class SynthesizePanel(Panel):
    """``ui``: the widgets of Synthesize.ui."""

    task = "synthesize"
    uiFile = "UI/Synthesize.ui"
    inputs = ("synthesizeVolume", "synthesizeLabels", "synthesizeReference")

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._models = ModelMenu(ui, SynthesizeSource.LABELS.tasks, self._chooseModel)
        self._intensities = IntensitiesTable(ui, getParameters)
        self._latents = LatentSliders(ui, getParameters)
        self._gallery = Gallery(ui, host)
        self._offered = vtk.vtkWeakReference()
        ui.modelCardButton.connect("toggled(bool)", ui.modelCard.setVisible)
        ui.modelCard.setVisible(False)

    @staticmethod
    def title() -> str:
        return _("Synthesize")

    def texts(self) -> RunTexts:
        return dataclasses.replace(super().texts(), apply=_("Make"), applyToolTip=_("Make the volumes."))

    def refresh(self, parameters) -> str:
        """Show what belongs to the source. Returns one sentence that keeps the task from running, or ""."""
        source, pack = parameters.synthesizeSource, parameters.synthesize
        self._gallery.tidy()
        self._models.offer(source.tasks, source.more())
        self._preselect(parameters)
        cards = self._models.cardsOf(pack.model)
        self._showOptions(parameters, cards)
        self._models.show(pack.model, self._estimate(parameters))
        if not self._models.cards():
            return _("There is no model for this; train one of your own in the task Train.")
        if len(cards) != 1:
            return _("There is no model '{name}'; choose another.").format(name=pack.model)
        if pack.count > MOST and self._makesSeveral(parameters):
            return _("More than {most} volumes are written to files: use 'medgan synthesize --count'.").format(
                most=MOST
            )
        if source is SynthesizeSource.LABELS:
            if parameters.synthesizeLabels is None:
                return _("Choose a segmentation or label map.")
            if pack.contrast is Contrast.REFERENCE and parameters.synthesizeReference is None:
                return _("Choose the reference volume.")
            return self._intensities.problem
        if source is SynthesizeSource.NOISE and _hasShapes(cards) and pack.contrast in NEEDY:
            return _("There are no labels yet that intensities could belong to; choose other intensities.")
        if source is SynthesizeSource.VOLUME:
            if parameters.synthesizeVolume is None:
                return _("Choose an input volume.")
            if _hasContrasts(cards) and pack.target is Target.ANY:
                return _("Choose the contrast to make.")
        return ""

    def start(self, parameters):
        source = parameters.synthesizeSource
        settings = snapshot(parameters.synthesize, SynthesizeSettings)
        if not self._makesSeveral(parameters):
            settings = dataclasses.replace(settings, count=1)
        for card in self._models.cardsOf(settings.model):  # what was set for another model and is hidden
            hidden = {name: getattr(SynthesizeSettings, name) for name in idle(card, settings)}
            settings = dataclasses.replace(settings, **hidden)
        scene = parameters.parameterNode.GetScene()
        messages: list[str] = []
        if source is SynthesizeSource.NOISE:
            numbers = settings.sliders.split()[: len(sliderNames(self._models.cardsOf(settings.model)))]
            settings = dataclasses.replace(settings, intensities="", sliders=" ".join(numbers))
            inputs, frame, nodes, name = {}, None, [], self._models.titleOf(settings.model)
        elif source is SynthesizeSource.LABELS:
            if settings.contrast not in TYPED:
                settings = dataclasses.replace(settings, intensities="")
            labels = parameters.synthesizeLabels
            reference = parameters.synthesizeReference if settings.contrast in REFERENCED else None
            inputs, name = labelInputs(labels, reference, messages), labels.GetName()
            nodes = [labels] if reference is None else [labels, reference]
            frame = nodes[-1]
        else:
            settings = dataclasses.replace(settings, deformation_mm=0.0)
            frame = parameters.synthesizeVolume
            labels = parameters.synthesizeLabels if settings.model == VARIATIONS.name else None
            inputs, name = volumeInputs(frame, labels, messages), frame.GetName()
            nodes = [frame] if labels is None else [frame, labels]
        matrix = matrixOf(frame) if frame is not None and frame.IsA("vtkMRMLVolumeNode") else None
        return JobRun(
            self.task,
            inputs,
            settings,
            nodes,
            lambda outputs: publishSamples(scene, outputs, frame, name, matrix),
            messages,
            python=self._host.python(),
        )

    def offer(self, parameters, volume) -> None:
        if parameters.synthesizeVolume is None and not volume.GetAttribute(SAMPLE):
            parameters.synthesizeVolume = volume
        segmentations = nodesOf(volume.GetScene(), ("vtkMRMLSegmentationNode",))
        if len(segmentations) != 1 or self._offered.Get() is segmentations[0]:  # refused before
            return
        self._offered.Set(segmentations[0])
        if parameters.synthesizeLabels is None:
            parameters.synthesizeLabels = segmentations[0]

    def forget(self, parameters, node) -> None:
        super().forget(parameters, node)
        self._gallery.forget(node)

    def reload(self) -> None:
        self._models.reload()

    def finish(self, result, report, preview: bool) -> None:
        compared = any(sample.maps is not None for sample in result)
        self._gallery.add(result, show=self._getParameters() is not None and not compared)
        voxels = sum(voxelCount(sample.volume) for sample in result)
        self.rememberSpeed(report["settings"], voxels, report.get("seconds", 0))

    def summary(self, result, report) -> str:
        count = len(result)
        if count == 1:
            return _("'{name}' is synthetic; {device}.").format(
                name=result[0].volume.GetName(), device=report["device"]
            )
        return _("{count} synthetic volumes; {device}.").format(count=count, device=report["device"])

    def comparison(self, result, report) -> Comparison | None:
        """A translated volume is compared with what it was translated from, as an enhanced one is."""
        maps = result[0].maps
        source = maps.volume.GetNodeReference(SOURCE_ROLE) if maps is not None else None
        if source is None:
            return None
        places = report["samples"][0].get("suspicions") or ()
        return Comparison(source, maps, Places.worldSentences(places, source))

    def leave(self) -> None:
        self._gallery.leave()

    def _showOptions(self, parameters, cards) -> None:
        ui, source, pack = self.ui, parameters.synthesizeSource, parameters.synthesize
        labels, noise = source is SynthesizeSource.LABELS, source is SynthesizeSource.NOISE
        varied = source is SynthesizeSource.VOLUME and pack.model == VARIATIONS.name
        translated = source is SynthesizeSource.VOLUME and _hasContrasts(cards)
        several = self._makesSeveral(parameters)
        painted = labels or (noise and _hasShapes(cards))
        shown = {
            "synthesizeLabels": labels or varied,
            "contrast": painted,
            "synthesizeReference": labels and pack.contrast in REFERENCED,
            "deformation": painted,
            "noise": painted,
            "bias": painted,
            "slice": painted,
            "synthesizeVolume": not labels and not noise,
            "truncation": noise,
            "toward": noise,
            "mix": noise and pack.toward >= 0 and pack.count == 1,
            "spacing": noise,
            "target": translated,
            "scan": translated,
            "minutes": varied,
            "coarse": varied,
            "count": several,
            "seed": several,
        }
        for name, visible in shown.items():
            getattr(ui, name).setVisible(visible)
            getattr(ui, f"{name}Label").setVisible(visible)
        self._intensities.show(parameters.synthesizeLabels, pack.intensities, labels and pack.contrast in TYPED)
        self._latents.show(sliderNames(cards) if noise else [], pack.sliders)

    def _makesSeveral(self, parameters) -> bool:
        """Whether chance plays a part, so that there can be several different volumes."""
        return (
            parameters.synthesizeSource is not SynthesizeSource.VOLUME or parameters.synthesize.model == VARIATIONS.name
        )

    def _preselect(self, parameters) -> None:
        """The first model for the source, where the chosen one is for another."""
        cards = self._models.cards()
        known = self._models.cardsOf(parameters.synthesize.model)
        if cards and not known:
            parameters.synthesize.model = cards[0].name

    def _chooseModel(self, name: str) -> None:
        parameters = self._getParameters()
        with slicer.util.NodeModify(parameters):
            parameters.synthesize.model = name

    def _estimate(self, parameters) -> str:
        node = parameters.synthesizeVolume
        if parameters.synthesizeSource is SynthesizeSource.LABELS:
            node = parameters.synthesizeReference
        if parameters.synthesizeSource is SynthesizeSource.NOISE:
            return ""
        count = parameters.synthesize.count if self._makesSeveral(parameters) else 1
        return self.estimate(parameters.synthesize, count * voxelCount(node))


def _hasShapes(cards) -> bool:
    """Whether the chosen model makes labels from noise, which another model then paints."""
    return len(cards) == 1 and cards[0].network == SHAPES


def _hasContrasts(cards) -> bool:
    """Whether the chosen model makes several contrasts, so that one has to be named."""
    return len(cards) == 1 and cards[0].network == CONTRASTS
