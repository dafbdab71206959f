"""Whatever would stop and wait for a person, or turn the event loop: answered by the test, or refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtCore, QtWidgets

from .problems import refuse


@dataclass(frozen=True)
class Message:
    """What a person would have seen: ``kind`` is information, warning, critical, question, status or modal."""

    kind: str
    text: str
    title: str = ""
    details: str = ""


@dataclass
class Desk:
    """The person: what was shown to them, and what they will answer."""

    messages: list[Message] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)

    def show(self, message: Message) -> None:
        self.messages.append(message)

    def ask(self, message: Message) -> Any:
        """The next prepared answer; a callable is asked with the message. Refuses if the test prepared none."""
        self.messages.append(message)
        if not self.answers:
            refuse(f"A box waits for a person and the test gave no answer: {message}")
        answer = self.answers.popleft()
        return answer(message) if callable(answer) else answer


desk = Desk()

_PUMPS = {"exec", "exec_", "processEvents", "sendPostedEvents"}
_BOXES = {"question", "information", "warning", "critical", "about"}


def member_function(native: Any, name: str) -> Callable[..., Any] | None:
    """The replacement of a member function that would block, or None."""
    if name in _PUMPS and isinstance(native, QtCore.QCoreApplication | QtCore.QEventLoop | QtCore.QThread):
        return lambda *_: _no_pumping(type(native).__name__, name)
    if name in ("exec", "exec_") and isinstance(native, QtWidgets.QDialog | QtWidgets.QMenu):
        return lambda *_: desk.ask(Message("modal", _text(native), getattr(native, "windowTitle", str)()))
    return None


def static_function(native_class: type, name: str) -> Callable[..., Any] | None:
    """The replacement of a static function that would block, or None."""
    if name in _PUMPS and issubclass(native_class, QtCore.QCoreApplication):
        return lambda *_: _no_pumping(native_class.__name__, name)
    if issubclass(native_class, QtWidgets.QMessageBox) and name in _BOXES:
        return lambda parent, title, text, *_: desk.ask(Message(name, text, title))
    if issubclass(native_class, QtWidgets.QDialog) and name.startswith("get"):
        return lambda *arguments: desk.ask(Message("modal", f"{native_class.__name__}.{name}", _title(arguments)))
    return None


def _no_pumping(owner: str, name: str) -> None:
    refuse(f"{owner}.{name}: this project never turns the event loop by hand; use a QTimer.")


def _text(native: Any) -> str:
    return native.text() if isinstance(native, QtWidgets.QMessageBox) else native.metaObject().className()


def _title(arguments: tuple[Any, ...]) -> str:
    return next((each for each in arguments if isinstance(each, str)), "")
