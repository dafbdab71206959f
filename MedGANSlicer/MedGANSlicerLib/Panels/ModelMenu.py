"""The menu of models: search, one line about the chosen one, and its whole card."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from medgan import models

SEARCH_FROM = 4
"""With fewer models than this a search line would only be in the way."""


class ModelMenu:
    """``ui`` has modelSearch, modelSelector, modelSummary and modelCard; ``onChosen(name)`` hears of a choice."""

    def __init__(self, ui, task: str, onChosen: Callable[[str], None]) -> None:
        self._ui, self._task, self._onChosen = ui, task, onChosen
        self._cards: dict[str, Any] = {}
        self._chosen = ""
        self._shown: list[str] = []
        self._filling = False
        ui.modelSearch.connect("textChanged(QString)", self._fill)
        ui.modelSelector.connect("currentIndexChanged(int)", self._selected)
        self.reload()

    def reload(self) -> None:
        """Read the catalogue anew: a training may have added a model."""
        self._cards = {name: card for name, card in models.catalogue().items() if card.task == self._task}
        self._ui.modelSearch.setVisible(len(self._cards) >= SEARCH_FROM)
        self._fill()

    def cards(self) -> list:
        return list(self._cards.values())

    def show(self, name: str, estimate: str) -> None:
        """Show ``name`` as the chosen model. ``estimate`` is the time a run will take, as text, or ""."""
        if name != self._chosen:
            self._chosen = name
            self._fill()
        card = self._cards.get(name)
        self._ui.modelSummary.setText(summary(card, estimate) if card else missing(name))
        self._ui.modelCard.setText(cardText(card) if card else "")

    def _fill(self, words: str = "") -> None:
        words = words or self._ui.modelSearch.text
        names = [name for name, card in self._cards.items() if name == self._chosen or matches(card, words)]
        if self._chosen and self._chosen not in names:
            names.insert(0, self._chosen)
        self._filling = True
        self._ui.modelSelector.clear()
        for name in names:
            card = self._cards.get(name)
            self._ui.modelSelector.addItem(title(card) if card else name)
        self._ui.modelSelector.setCurrentIndex(names.index(self._chosen) if self._chosen in names else -1)
        self._shown, self._filling = names, False

    def _selected(self, index: int) -> None:
        if not self._filling and 0 <= index < len(self._shown):
            self._onChosen(self._shown[index])


def title(card) -> str:
    return card.title or card.name


def matches(card, words: str) -> bool:
    """Whether every word of the search occurs in what the card says."""
    text = " ".join([card.name, card.title, card.modality, card.description, *card.trained_on]).lower()
    return all(word in text for word in words.lower().split())


def missing(name: str) -> str:
    return _("The model '{name}' is not on this computer; choose another one.").format(name=name)


def summary(card, estimate: str) -> str:
    """One line: for what, under which licence, how long."""
    return " · ".join(part for part in (card.modality, card.licence, estimate) if part)


def cardText(card) -> str:
    """The card as rich text for a label."""
    rows = [
        (_("What it does"), card.description),
        (_("Trained on"), "<br>".join(html.escape(each) for each in card.trained_on)),
        (_("Measured"), "<br>".join(_figures(card.figures))),
        (_("Limits"), card.limits),
        (_("Meant for"), card.intended_use),
        (_("Version"), " · ".join(part for part in (card.version, card.licence) if part)),
    ]
    escaped = {_("Trained on"), _("Measured")}
    texts = [(name, text if name in escaped else html.escape(text)) for name, text in rows if text]
    return "".join(f"<p style='margin:0 0 6px 0'><b>{name}</b><br>{text}</p>" for name, text in texts)


def _figures(figures: dict[str, Any], before: str = "") -> list[str]:
    """One escaped line for each number; nested figures carry the names that they stand under."""
    lines = []
    for name, value in figures.items():
        label = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += _figures(value, f"{label}, ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(html.escape(f"{label}: {value:.4g}"))
        elif isinstance(value, str):
            lines.append(html.escape(f"{label}: {value}"))
    return lines
