"""Convert: segmentations to label maps and back, and what could not be kept as it was."""

from __future__ import annotations

import dataclasses
import itertools

from slicer.i18n import tr as _

from medgan.labeltable import TableError, write_table
from medgan.labelvalues import BY_TABLE, listed
from medgan.settings.convert import ConvertSettings, Direction, GridChoice
from medgan.volume import Label
from MedGANSlicerLib.Conversion import ConversionResult, labelsOfNode
from MedGANSlicerLib.ConvertRun import conversion
from MedGANSlicerLib.NodePairs import nodesOf
from MedGANSlicerLib.Panels.LongNames import breakable
from MedGANSlicerLib.Panels.Panel import Panel, RunTexts
from MedGANSlicerLib.SettingsPacks import snapshot
from MedGANSlicerLib.Surfaces import showSurfaces

VOLUMES = ("convertVolume", "convertVolume2", "convertVolume3", "convertVolume4")
"""The label or probability maps in the parameter node; a selector appears when it or the one before it is used."""

TABLES = "(*.csv *.tsv *.json *.label *.ctbl *.txt)"


class ConvertPanel(Panel):
    """``ui``: the widgets of Convert.ui."""

    task = "convert"
    uiFile = "UI/Convert.ui"
    inputs = ("convertSegmentation", "convertGridVolume", *VOLUMES)
    needsPackages = False
    showsMessages = True

    def __init__(self, ui, host, getParameters) -> None:
        super().__init__(ui, host, getParameters)
        self._result: ConversionResult | None = None
        ui.tableButton.connect("clicked(bool)", self._chooseTable)
        ui.openEditorButton.connect("clicked(bool)", self._openEditor)
        ui.saveTableButton.connect("clicked(bool)", self._saveTable)
        self._showResult()

    @staticmethod
    def title() -> str:
        return _("Convert")

    def texts(self) -> RunTexts:
        return dataclasses.replace(
            super().texts(), apply=_("Convert"), applyToolTip=_("Make the label map or segmentation.")
        )

    def refresh(self, parameters) -> str:
        """Show what belongs to the direction. Returns one sentence that keeps the task from running, or ""."""
        chosen = parameters.convert
        toLabelMap = chosen.direction is Direction.TO_LABEL_MAP
        ofVolume, ofSize = chosen.grid is GridChoice.VOLUME, chosen.grid is GridChoice.SPACING
        shown = {
            "convertSegmentation": toLabelMap,
            "grid": toLabelMap,
            "convertGridVolume": toLabelMap and ofVolume,
            "spacing": toLabelMap and ofSize,
            "values": toLabelMap,
            "overlap": toLabelMap,
        }
        before = True
        for name in VOLUMES:
            used = getattr(parameters, name) is not None
            shown[name] = not toLabelMap and (used or before)
            before = used
        for name, visible in shown.items():
            getattr(self.ui, name).setVisible(visible)
            getattr(self.ui, f"{name}Label").setVisible(visible)
        for name in ("probabilities", "keepEmpty", "surfaces"):
            getattr(self.ui, name).setVisible(not toLabelMap)
        self.ui.keepEmpty.setEnabled(not chosen.probabilities)
        self._showResult()
        if not toLabelMap:
            return "" if any(self._volumes(parameters)) else _("Choose a label map.")
        if parameters.convertSegmentation is None:
            return _("Choose a segmentation.")
        if ofVolume and parameters.convertGridVolume is None:
            return _("Choose a volume for the grid.")
        if chosen.values in BY_TABLE and not chosen.table:
            return _("Choose the table that the label values come from.")
        return ""

    def start(self, parameters):
        settings = snapshot(parameters.convert, ConvertSettings)
        segmentation, grid = parameters.convertSegmentation, parameters.convertGridVolume
        return conversion(settings, segmentation, self._volumes(parameters), grid)

    def offer(self, parameters, volume) -> None:
        if parameters.convertGridVolume is None:
            parameters.convertGridVolume = volume
        segmentations = nodesOf(volume.GetScene(), ("vtkMRMLSegmentationNode",))
        if parameters.convertSegmentation is None and len(segmentations) == 1:
            parameters.convertSegmentation = segmentations[0]

    def forget(self, parameters, node) -> None:
        super().forget(parameters, node)
        if self._result is not None and node in self._result.nodes:
            self._result = None

    def finish(self, result: ConversionResult, report, preview: bool) -> None:
        """Offer the result for the way back, and show its surfaces if they are wanted."""
        self._result = result
        parameters = self._getParameters()
        if parameters is not None:
            node = result.nodes[0]
            if node.IsA("vtkMRMLSegmentationNode"):
                parameters.convertSegmentation = node
                if parameters.convert.surfaces:
                    showSurfaces(node)
            else:
                self._chooseVolumes(parameters, result)
        self._showResult()

    def summary(self, result: ConversionResult, report) -> str:
        names = listed(node.GetName() for node in result.nodes)
        return _("{names}: {count} labels.").format(names=names, count=len(result.values))

    def _chooseVolumes(self, parameters, result: ConversionResult) -> None:
        """The label maps of a result, and no others."""
        for name, node in itertools.zip_longest(VOLUMES, result.nodes[: len(VOLUMES)]):
            setattr(parameters, name, node)
        if len(result.nodes) > len(VOLUMES):
            result.messages.append(
                _("Only the first {count} label maps can be chosen for the way back.").format(count=len(VOLUMES))
            )

    def _volumes(self, parameters) -> list:
        return [node for node in dict.fromkeys(getattr(parameters, name) for name in VOLUMES) if node is not None]

    def _showResult(self) -> None:
        result = self._result
        text = "\n".join(result.messages) if result is not None else ""
        self.ui.reportLabel.setText(breakable(text))
        self.ui.reportLabel.setVisible(bool(text))
        self.ui.saveTableButton.setVisible(result is not None)
        edits = result is not None and result.nodes[0].IsA("vtkMRMLSegmentationNode")
        self.ui.openEditorButton.setVisible(edits)

    def _chooseTable(self, checked=False) -> None:
        parameters = self._getParameters()
        path = self._host.chooseFile(
            _("Table of labels"), parameters.convert.table, _("Label tables {endings}").format(endings=TABLES)
        )
        if path:
            parameters.convert.table = path

    def _saveTable(self, checked=False) -> None:
        path = self._host.chooseNewFile(
            _("Table of labels"), "labels.csv", _("Label tables {endings}").format(endings=TABLES)
        )
        if not path:
            return
        labels: dict[int, Label] = {}
        for node in self._result.nodes:
            labels |= labelsOfNode(node)
        try:
            said = write_table(labels, path)
        except TableError as error:
            said = [str(error)]
        self.ui.reportLabel.setText("\n".join(said or [_("The table is in '{path}'.").format(path=path)]))
        self.ui.reportLabel.setVisible(True)

    def _openEditor(self, checked=False) -> None:
        parameters = self._getParameters()
        volume = parameters.convertGridVolume if parameters is not None else None
        self._host.openSegmentEditor(self._result.nodes[0], volume)
