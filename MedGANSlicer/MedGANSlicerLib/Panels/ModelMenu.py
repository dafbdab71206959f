"""The menu of models and chains of models: search, one line about the chosen one, and its whole card."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from medgan import models
from MedGANSlicerLib import Chains

SEARCH_FROM = 3
"""With fewer models of one's own than this a search line would only be in the way."""


class ModelMenu:
    """``ui`` has modelSearch, modelSelector, modelSummary and modelCard; ``onChosen(name)`` hears of a choice.

    ``task`` is that of the models, or several.
    """

    def __init__(self, ui, task: str | Sequence[str], onChosen: Callable[[str], None]) -> None:
        self._tasks = (task,) if isinstance(task, str) else tuple(task)
        self._ui, self._onChosen = ui, onChosen
        self._more: tuple = ()
        self._cards: dict[str, Any] = {}
        self._choices: dict[str, tuple] = {}
        self._chosen = ""
        self._shown: list[str] = []
        self._filling = False
        ui.modelSearch.connect("textChanged(QString)", self._fill)
        ui.modelSelector.connect("currentIndexChanged(int)", self._selected)
        ui.modelSelector.connect("activated(int)", self._selected)  # also when what is chosen was shown already
        self.reload()

    def offer(self, tasks: Sequence[str], more: Sequence = ()) -> None:
        """From now on the models of these tasks, and ``more`` cards besides those of the catalogue."""
        if (tuple(tasks), tuple(more)) != (self._tasks, self._more):
            self._tasks, self._more = tuple(tasks), tuple(more)
            self.reload()

    def reload(self) -> None:
        """Read the catalogue anew: a training may have added a model."""
        self._cards = {name: card for name, card in models.catalogue().items() if card.task in self._tasks}
        self._cards |= {card.name: card for card in self._more}
        self._choices = Chains.choices(self._cards)
        own = [card for card in self._cards.values() if not Chains.isShipped(card)]
        self._ui.modelSearch.setVisible(len(own) >= SEARCH_FROM)
        self._fill()

    def cards(self) -> list:
        return list(self._cards.values())

    def cardsOf(self, name: str) -> tuple:
        """The models that the text of the setting names, in the order in which they run; none if one is missing."""
        return Chains.cardsOf(name, self._cards)

    def titleOf(self, name: str) -> str:
        """What a model or chain is called in the menu."""
        cards = self.cardsOf(name)
        return title(cards) if cards else name

    def show(self, name: str, estimate: str) -> None:
        """Show ``name`` as what is chosen. ``estimate`` is the time a run will take, as text, or ""."""
        cards = self.cardsOf(name)
        chosen = Chains.nameOf(cards) if cards else name
        if chosen != self._chosen:
            self._chosen = chosen
            self._fill()
        self._ui.modelSummary.setText(summary(cards, estimate) if cards else missing(name))
        self._ui.modelCard.setText(cardText(cards))

    def _fill(self, words: str = "") -> None:
        words = words or self._ui.modelSearch.text
        names = [name for name, cards in self._choices.items() if name == self._chosen or matches(cards, words)]
        if self._chosen and self._chosen not in names:
            names.insert(0, self._chosen)
        self._filling = True
        self._ui.modelSelector.clear()
        for name in names:
            self._ui.modelSelector.addItem(self.titleOf(name))
        self._ui.modelSelector.setCurrentIndex(names.index(self._chosen) if self._chosen in names else -1)
        self._shown, self._filling = names, False

    def _selected(self, index: int) -> None:
        if not self._filling and 0 <= index < len(self._shown):
            self._onChosen(self._shown[index])


def title(cards: Sequence) -> str:
    """A model by its own title, a chain by what it does: "Denoise + super-resolve"."""
    if len(cards) == 1:
        return cards[0].title or cards[0].name
    verbs = {"noise": _("denoise"), "blur": _("deblur"), "resolution": _("super-resolve")}
    text = " + ".join(verbs[card.restores] if Chains.isShipped(card) else title([card]) for card in cards)
    return text[:1].upper() + text[1:]


def matches(cards: Sequence, words: str) -> bool:
    """Whether every word of the search occurs in what the cards say."""
    parts = [title(cards)]
    for card in cards:
        parts += [card.name, card.title, card.modality, card.description, *card.trained_on]
    text = " ".join(parts).lower()
    return all(word in text for word in words.lower().split())


def missing(name: str) -> str:
    return _("The model '{name}' is not on this computer; choose another one.").format(name=name)


def summary(cards: Sequence, estimate: str) -> str:
    """One line: for what all of the models are, under which licences, how long."""
    modalities = [card.modality.split(", ") for card in cards if card.modality]
    common = [each for each in modalities[0] if all(each in other for other in modalities)] if modalities else []
    licences = list(dict.fromkeys(card.licence for card in cards if card.licence))
    return " · ".join(part for part in (", ".join(common), ", ".join(licences), estimate) if part)


def cardText(cards: Sequence) -> str:
    """The cards as rich text for a label, one below the other."""
    if len(cards) == 1:
        return _cardText(cards[0])
    return "".join(
        f"<p style='margin:0 0 6px 0'><big><b>{html.escape(title([c]))}</b></big></p>{_cardText(c)}" for c in cards
    )


def _cardText(card) -> str:
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
