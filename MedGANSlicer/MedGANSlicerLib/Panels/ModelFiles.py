"""Models as files: one of the person's own is written into a file to be shared, one from a file is added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from medgan import models
from MedGANSlicerLib import Chains

ZIP = "MedGAN model (*.zip)"


class ModelFiles:
    """``ui`` has ownModels, exportButton, importButton and filesLabel; ``onChange()`` hears of an added model."""

    def __init__(self, ui, host, onChange: Callable[[], None]) -> None:
        self._ui, self._host, self._onChange = ui, host, onChange
        self._cards: list = []
        ui.exportButton.connect("clicked(bool)", self._export)
        ui.importButton.connect("clicked(bool)", self._import)
        self._say("")
        self.reload()

    def reload(self) -> None:
        """Read the catalogue anew."""
        self._cards = [card for card in models.catalogue().values() if not Chains.isShipped(card)]
        selector, before = self._ui.ownModels, self._ui.ownModels.currentText
        selector.clear()
        for card in self._cards:
            selector.addItem(card.title or card.name)
        selector.setCurrentIndex(max(0, selector.findText(before)) if self._cards else -1)
        selector.setEnabled(bool(self._cards))
        self._ui.exportButton.setEnabled(bool(self._cards))

    def _export(self, checked: bool = False) -> None:
        index = self._ui.ownModels.currentIndex
        if not 0 <= index < len(self._cards):
            return
        card = self._cards[index]
        path = self._host.chooseNewFile(_("Export model"), str(Path.home() / f"{card.name}.zip"), ZIP)
        if path:
            self._try(lambda: _("Written to {path}.").format(path=_pack(card, Path(path))))

    def _import(self, checked: bool = False) -> None:
        path = self._host.chooseFile(_("Import model"), str(Path.home()), ZIP)
        if path and self._try(lambda: _("Added '{name}'.").format(name=_add(Path(path)))):
            self._onChange()

    def _try(self, work: Callable[[], str]) -> bool:
        try:
            self._say(work())
        except (ValueError, OSError) as error:
            self._say(str(error))
            return False
        return True

    def _say(self, text: str) -> None:
        self._ui.filesLabel.setText(text)
        self._ui.filesLabel.setVisible(bool(text))


def _pack(card, path: Path) -> Path:
    from medgan import bundle_files

    return bundle_files.pack(card, path)


def _add(path: Path) -> str:
    from medgan import bundle_files

    return bundle_files.add(path).name
