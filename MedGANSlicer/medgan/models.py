"""The models there are, and the verified weights and network of one. Imports without torch, so that menus fill.

A model is one bundle folder (see :mod:`medgan.bundle`). Nothing in it is ever run: the network class comes from
an allow-list, and weights load with ``weights_only=True`` after their SHA-256 was compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medgan.bundle import MONAI_PREFIX, RESTORES, ModelCard, ModelError, WeightFile, read_card

if TYPE_CHECKING:
    import torch

__all__ = [
    "ModelCard",
    "ModelError",
    "WeightFile",
    "build_network",
    "catalogue",
    "find",
    "find_chain",
    "load_state",
    "model_folders",
    "problems",
    "read_card",
    "sha256_of",
    "verify",
]

T = TypeVar("T")

SHIPPED = Path(__file__).parent / "bundles"
"""The models that come with the extension."""


def model_folders() -> list[Path]:
    """Where models are looked for: ours, then the person's (``MEDGAN_MODELS`` or ``~/.medgan/models``).

    Services and containers may have no home folder; the person has none then.
    """
    own = [Path(part) for part in os.environ.get("MEDGAN_MODELS", "").split(os.pathsep) if part]
    if not os.environ.get("MEDGAN_MODELS"):
        with contextlib.suppress(RuntimeError):
            own = [Path.home() / ".medgan" / "models"]
    return [SHIPPED, *own]


def catalogue() -> dict[str, ModelCard]:
    """Every usable model by name. A broken bundle is left out here and listed by :func:`problems`."""
    return _scan()[0]


def problems() -> dict[Path, str]:
    """One sentence for each bundle folder that can not be used."""
    return _scan()[1]


def find(name_or_folder: str | Path) -> ModelCard:
    """The model of that name, or in that bundle folder. Raises :class:`ModelError`."""
    name = str(name_or_folder)
    if not name:
        raise ModelError("Say which model: its name is empty.")
    cards, broken = _scan()
    if name in cards:
        return cards[name]
    if os.path.isdir(name):  # which takes names of any length
        return read_card(Path(name))
    for folder, problem in broken.items():
        if folder.name == name:
            raise ModelError(problem)
    known = ", ".join(cards) or "none"
    raise ModelError(f"There is no model '{name}'; there are: {known}; or give the path of a bundle folder.")


def find_chain(text: str) -> list[ModelCard]:
    """The models of one run, named "denoise+superres" (or one folder), in the order in which they have to work.

    Raises :class:`ModelError` for an unknown or empty name, for a model that is for another task, and for two models
    that restore the same.
    """
    if os.path.isdir(text) or "+" not in text:  # the path of a folder may hold a plus
        return [_enhancing(find(text.strip()))]
    names = [name.strip() for name in text.split("+")]
    if not all(names):
        raise ModelError(f"'{text}' has an empty place beside a '+'; join names of models, as in 'denoise+superres'.")
    cards = [_enhancing(find(name)) for name in names]
    for restores in RESTORES:
        twins = [card.name for card in cards if card.restores == restores]
        if len(twins) > 1:
            raise ModelError(
                f"Models '{twins[0]}' and '{twins[1]}' both restore the {restores}; a chain takes one of each kind."
            )
    return sorted(cards, key=lambda card: RESTORES.index(card.restores))


def _enhancing(card: ModelCard) -> ModelCard:
    if card.task != "enhance":
        raise ModelError(f"Model '{card.name}' is for the task '{card.task}'; choose one that enhances.")
    return card


def load_state(card: ModelCard, key: str) -> dict[str, torch.Tensor]:
    """The state dict of the weights called ``key``, on the CPU, as stored (float16 stays float16); in float32 where
    the file holds the difference to other weights of the card.

    Raises :class:`ModelError` for a missing or changed file, and for one that holds anything but dense tensors of
    finite numbers.
    """
    import torch

    content, path = _verified(card, key), card.weights[key].path
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"Model '{card.name}': '{path.name}' holds Python objects besides tensors, so it was not loaded; "
            "save it as a plain state dict."
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise ModelError(
            f"Model '{card.name}': '{path.name}' is damaged or no state dict; install the model again."
        ) from error
    state = _plain_state(card, path, held)
    return _sum(card, state, card.weights[key].added_to) if card.weights[key].added_to else state


def _sum(card: ModelCard, difference: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    """The weights called ``key`` with a difference added, in float32."""
    if key not in card.weights or card.weights[key].added_to:
        raise ModelError(f"Model '{card.name}' adds weights to '{key}', which it does not hold as they are.")
    begun = load_state(card, key)
    if {name: held.shape for name, held in begun.items()} != {name: held.shape for name, held in difference.items()}:
        raise ModelError(f"Model '{card.name}': its two sets of weights do not belong to the same network.")
    return {name: begun[name].float() + held.float() for name, held in difference.items()}


def verify(card: ModelCard) -> None:
    """Raise :class:`ModelError` for a weight file that is missing or not the one the card describes; no torch."""
    for key in card.weights:
        _compare(card, key, _read(card, key, sha256_of))


def build_network(card: ModelCard, state: dict[str, torch.Tensor] | None) -> torch.nn.Module:
    """The card's network in float32 and evaluation mode, with ``state`` in it or untrained.

    Raises :class:`ModelError`.
    """
    make = _network(card)
    try:
        network = make(**card.network_arguments)
    except Exception as error:  # whatever a constructor finds wrong with its arguments
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"Model '{card.name}': {card.network} can not be made with its arguments: {reason}."
        ) from error
    try:
        if state is not None:
            network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"Model '{card.name}': its weights do not fit its network {card.network}; the bundle is not consistent."
        ) from error
    return network.float().eval()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:  # in blocks: it may be larger than the memory
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _scan() -> tuple[dict[str, ModelCard], dict[Path, str]]:
    cards: dict[str, ModelCard] = {}
    broken: dict[Path, str] = {}
    for root in model_folders():
        found = []
        for folder in _bundles(root):
            try:
                found.append(read_card(folder))
            except ModelError as error:
                broken[folder] = str(error)
        for card in sorted(found, key=lambda card: (card.task != "enhance", RESTORES.index(card.restores))):
            if card.name not in cards:
                cards[card.name] = card
            elif cards[card.name].folder != card.folder:
                broken[card.folder] = f"Model '{card.name}' in '{root}' has a name that is taken; rename its folder."
    return cards, broken


def _bundles(root: Path) -> list[Path]:
    if (root / "configs").is_dir():
        return [root]
    try:
        return sorted(folder for folder in root.iterdir() if (folder / "configs").is_dir())
    except OSError:  # no such folder, or not ours to read: no models there
        return []


def _verified(card: ModelCard, key: str) -> bytes:
    # One read for both: the bytes that are loaded are the bytes that were compared.
    content = _read(card, key, Path.read_bytes)
    _compare(card, key, hashlib.sha256(content).hexdigest())
    return content


def _read(card: ModelCard, key: str, how: Callable[[Path], T]) -> T:
    """What ``how`` finds in the file of the weights called ``key``."""
    if key not in card.weights:
        raise ModelError(f"Model '{card.name}' has no weights '{key}'; it has {', '.join(card.weights)}.")
    path = card.weights[key].path
    try:
        return how(path)
    except OSError as error:
        raise ModelError(
            f"Model '{card.name}': '{path.name}' can not be read ({error.strerror}); install the model again."
        ) from error


def _compare(card: ModelCard, key: str, found: str) -> None:
    weight = card.weights[key]
    if weight.sha256 and found != weight.sha256:
        raise ModelError(
            f"Model '{card.name}': '{weight.path.name}' is not the file its card describes (SHA-256 {found[:12]}..., "
            f"not {weight.sha256[:12]}...); install the model again."
        )


def _network(card: ModelCard) -> Any:
    if card.network.startswith(MONAI_PREFIX):
        import monai.networks.nets

        return getattr(monai.networks.nets, card.network.removeprefix(MONAI_PREFIX))
    from medgan.networks import NETWORKS

    if card.network not in NETWORKS:
        raise ModelError(
            f"Model '{card.name}' asks for the network '{card.network}'; this version knows {', '.join(NETWORKS)}."
        )
    return NETWORKS[card.network]


def _plain_state(card: ModelCard, path: Path, held: Any) -> dict[str, torch.Tensor]:
    import torch

    for wrapper in ("model", "state_dict", "network", "net"):
        if isinstance(held, dict) and isinstance(held.get(wrapper), dict):
            held = held[wrapper]
    if not isinstance(held, dict) or not held or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ModelError(f"Model '{card.name}': '{path.name}' is not a state dict of tensors.")
    for name, value in held.items():
        if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise ModelError(
                f"Model '{card.name}': '{name}' in '{path.name}' does not hold plain numbers; save it as dense "
                "tensors of real ones."
            )
        if not torch.isfinite(value.float()).all():
            raise ModelError(
                f"Model '{card.name}': '{name}' in '{path.name}' holds numbers that are not finite, so nothing that it "
                "answers would mean anything; install or train the model again."
            )
    return {str(name).removeprefix("module."): value for name, value in held.items()}
