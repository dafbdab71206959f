"""Connecting and calling slots as PythonQt does, on PySide's own objects."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import shiboken6
from PySide6 import QtCore

from .declare import declared_signals, declared_slots, normalized, parse
from .problems import problems, refuse

Slot = Callable[..., Any]

QT6_ONLY = {
    "checkStateChanged(Qt::CheckState)": "stateChanged(int)",
    "colorSchemeChanged(Qt::ColorScheme)": None,
}
"""Signals that Qt 5.15 lacks, and what works in both."""

_connections: dict[int, list[tuple[str, Slot, Slot]]] = {}
"""By address of the sender: signature, the person's callable, the relay that Qt calls."""


_signatures: dict[tuple[type, str], dict[str, list[str]]] = {}
"""By Python class and C++ class: the signatures of each signal name. A class keeps its signals."""


def signal_signatures(native: QtCore.QObject) -> list[str]:
    """C++ signatures of all signals of the object, in Qt's normal form."""
    return [text for same in _by_name(native).values() for text in same]


def signatures_named(native: QtCore.QObject, name: str) -> list[str]:
    return _by_name(native).get(name, [])


def _by_name(native: QtCore.QObject) -> dict[str, list[str]]:
    meta = native.metaObject()
    key = (type(native), meta.className())
    if key not in _signatures:
        methods = [meta.method(index) for index in range(meta.methodCount())]
        signals = [method for method in methods if method.methodType() == QtCore.QMetaMethod.MethodType.Signal]
        known = [bytes(method.methodSignature().data()).decode() for method in signals]
        backing = set(declared_signals(native).values())
        named: dict[str, list[str]] = {}
        for text in [each for each in known if each.partition("(")[0] not in backing] + list(declared_signals(native)):
            named.setdefault(text.partition("(")[0], []).append(text)
        _signatures[key] = named
    return _signatures[key]


def checked_signature(native: QtCore.QObject, signature: Any) -> str:
    """The normal form of a signal's signature. Refuses one that the object does not have."""
    name = native.metaObject().className()
    if not isinstance(signature, str):
        raise ValueError(f"{name}: the signal must be given as a C++ signature, not {signature!r}")
    text = normalized(signature)
    if text not in signal_signatures(native):
        same = signatures_named(native, text.partition("(")[0]) or signal_signatures(native)
        refuse(f"{name} has no signal {signature!r}: Slicer's connect would return False. It has: {', '.join(same)}")
    if text in QT6_ONLY:
        refuse(f"The signal {text} is missing in Qt 5.15; use {QT6_ONLY[text] or 'no signal'}.")
    return text


def connect(native: QtCore.QObject, signature: str, slot: Slot, convert: Callable[[Any], Any]) -> bool:
    """Have the signal call the slot. ``convert`` makes PythonQt values of Qt's."""
    text = checked_signature(native, signature)
    if not callable(slot):
        raise ValueError(f"connect({signature!r}, …): {slot!r} can not be called")
    relay = relayed(slot, convert, f"slot of {native.metaObject().className()}.{text}")
    backing = declared_signals(native).get(text)
    if backing is not None:
        getattr(native, backing).connect(relay)
    else:
        QtCore.QObject.connect(native, QtCore.SIGNAL(text), relay)
    address = _address(native)
    if address not in _connections:
        _connections[address] = []
        native.destroyed.connect(lambda *_: _connections.pop(address, None))
    _connections[address].append((text, slot, relay))
    return True


def disconnect(native: QtCore.QObject, signature: str, slot: Slot | None = None) -> bool:
    """Undo one connection, or all of the signal's without a slot. False if there was none, as in Slicer."""
    text = checked_signature(native, signature)
    made = _connections.get(_address(native), [])
    found = [entry for entry in made if entry[0] == text and (slot is None or entry[1] == slot)]
    for entry in found if slot is None else found[:1]:
        made.remove(entry)
        backing = declared_signals(native).get(text)
        if backing is not None:
            getattr(native, backing).disconnect(entry[2])
        else:
            QtCore.QObject.disconnect(native, QtCore.SIGNAL(text), entry[2])
    return bool(found)


def connect_objects(sender: QtCore.QObject, signature: str, receiver: QtCore.QObject, slot: str) -> None:
    """Have the signal call a C++ slot, as Designer's connections do. Refuses what does not exist or does not fit."""
    signal = parse(checked_signature(sender, signature))
    wanted = parse(slot)
    meta = receiver.metaObject()
    marked = declared_slots(receiver)
    if str(wanted) not in marked and meta.indexOfSlot(str(wanted)) < 0:
        refuse(f"{meta.className()} has no slot {slot!r}; it has: {', '.join([*marked, *_slots(meta)])}")
    if signal.types[: len(wanted.types)] != wanted.types:
        refuse(f"The signal {signature} does not carry what the slot {slot} takes.")
    function = getattr(receiver, wanted.name)

    def forward(*values: Any) -> None:
        if shiboken6.isValid(receiver):
            function(*values[: len(wanted.types)])

    connect(sender, signature, forward, lambda value: value)


def _slots(meta: QtCore.QMetaObject) -> Iterator[str]:
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() == QtCore.QMetaMethod.MethodType.Slot:
            yield bytes(method.methodSignature().data()).decode()


def relayed(slot: Slot, convert: Callable[[Any], Any], where: str) -> Slot:
    """What Qt calls: passes as many values as PythonQt would, and keeps an exception instead of raising it."""
    count = argument_count(slot)

    def relay(*values: Any) -> None:
        try:
            slot(*[convert(value) for value in values[:count]])
        except Exception as error:
            problems.add(where, error)

    return relay


def argument_count(slot: Slot) -> int | None:
    """How many values PythonQt passes at most; None is all of them.

    It counts every positional parameter of a Python function, also those with a default value: a signal's value
    lands in ``lambda name=name: …``.
    """
    function = slot.__func__ if isinstance(slot, types.MethodType) else slot
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & 0x04:
        return None
    return function.__code__.co_argcount - isinstance(slot, types.MethodType)


def _address(native: QtCore.QObject) -> int:
    return shiboken6.getCppPointer(native)[0]
