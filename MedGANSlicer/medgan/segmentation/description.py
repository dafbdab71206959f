"""What a segmentation bundle says of its network: labels, working grid, intensities, channels. Imports without torch.

Our keys stand under "medgan" in ``configs/metadata.json``: "task" ("segment"), "network", "network_arguments",
"weights", "labels" (each with "index", "value", "name", "color", "terminology"; "pieces": "one" keeps the largest
connected piece), "spacing_mm" and "orientation" (null: the input's own), "normalise" ("percentiles", "range",
"hounsfield" with "window", "z-score", "none"), and if needed "channels", "activation", "axes" ("kji" or MONAI's
"ijk"), "multiple", "smallest_piece_ml", "thick_slices" (the model that first divides slices more than 1.5 times as
thick as the spacing), "enclosed", "coarse", "ct_window", "mirror", "least_extent_mm".

Of a bundle from elsewhere the labels come from MONAI's ``network_data_format``, spacing, orientation and intensities
from the names and plain numbers of the transforms in ``configs/inference.json``; nothing of it is run. What is written
as code is left out; a sentence says so of the intensities, which are MONAI's own transforms with these numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgan.bundle import ModelCard, ModelError
from medgan.labeltable import LARGEST_VALUE, default_color
from medgan.segmentation.orientation import axes_of
from medgan.volume import Label

NORMALISATIONS = ("percentiles", "range", "hounsfield", "z-score", "none")

TRANSFORMS = {
    "ScaleIntensityRange": ("a_min", "a_max", "b_min", "b_max", "clip"),
    "ScaleIntensityRangePercentiles": ("lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"),
    "ScaleIntensity": ("minv", "maxv", "factor", "channel_wise"),
    "NormalizeIntensity": ("subtrahend", "divisor", "nonzero", "channel_wise"),
    "ThresholdIntensity": ("threshold", "above", "cval"),
    "ClipIntensityPercentiles": ("lower", "upper", "sharpness_factor", "channel_wise"),
}
"""MONAI's transforms of intensities that a bundle from elsewhere may name, and their arguments."""

VOXEL_BY_VOXEL = ("ScaleIntensityRange", "ThresholdIntensity")
"""Those that do not depend on the rest of the volume."""

_HARMLESS = {
    "Compose", "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor",
    "CastToType", "ToDevice", "Orientation", "Spacing", "SpatialPad", "DivisiblePad", "BorderPad", "CropForeground",
    "Identity", "CopyItems", "SelectItems", "DeleteItems",
}  # fmt: skip
"""Transforms before a network that are heeded otherwise, or that a segmentation does without."""

_ABOUT = ("_target_", "_desc_", "_requires_", "keys", "allow_missing_keys", "dtype")
"""Arguments that say nothing of intensities."""
ACTIVATIONS = ("softmax", "log softmax", "sigmoid")

HOUNSFIELD = (-1024.0, 1500.0)
"""The Hounsfield units that become 0 and 1 in what is trained here, and of a model whose card names no window."""


@dataclass(frozen=True)
class Part:
    """One label that a network tells apart: its value in the result, what it is called, and its pieces.

    ``one_piece``: only the largest connected piece is the structure, others are errors.
    """

    value: int
    label: Label
    one_piece: bool = False


@dataclass(frozen=True)
class Group:
    """A label of the coarse variant: all voxels of the parts whose values are ``members``."""

    part: Part
    members: tuple[int, ...]


@dataclass(frozen=True)
class Intensities:
    """How a channel comes to the network's unit.

    "percentiles": 0.5 and 99.5 % of the voxels become 0 and 1. "range": the robust range of medgan.noise. "hounsfield":
    ``window`` becomes 0 to 1. "z-score": mean 0 and standard deviation 1. "none": as they are. All but the last two are
    clipped, "hounsfield" only when ``clip``. "MONAI": by ``transforms``, one after the other.
    """

    kind: str = "percentiles"
    window: tuple[float, float] = HOUNSFIELD
    clip: bool = True
    transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Names in ``TRANSFORMS``, and their arguments."""
    ct_window: tuple[float, float] | None = None
    """Before "percentiles" a volume that looks like CT is clipped to these Hounsfield units."""

    @property
    def of_the_body(self) -> bool:
        """Whether air around the body may be left out, because it does not change the intensities of the rest."""
        return self.kind not in ("z-score", "none") and all(name in VOXEL_BY_VOXEL for name, _ in self.transforms)


@dataclass(frozen=True)
class Description:
    """Everything that is needed to run a segmentation network. ``parts`` are without the background.

    ``background``: the first channel of the answer is background. ``axes``: order of the axes that the network
    wants, "kji" or MONAI's "ijk". ``multiple``: sides are padded to a multiple of it.
    """

    parts: tuple[Part, ...]
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    intensities: Intensities = Intensities()
    channels: tuple[str, ...] = ("image",)
    background: bool = True
    activation: str = "softmax"
    axes: str = "kji"
    multiple: int = 32
    smallest_piece_ml: float = 0.03
    enclosed: int = 0
    """Value of the part that background belongs to where other parts enclose it in a plane; 0: none."""
    coarse: tuple[Group, ...] = ()
    thick_slices: str = ""
    """Model that divides thick slices anew before this one looks at them (needs ``spacing_mm``); "": interpolation."""
    mirror: bool = True
    """Whether a mirrored body is one that the network knows, left and right exchanged."""
    least_extent_mm: float = 0.0
    """A scan that is shorter along an axis shows too little of the body for the network to know what it sees."""
    notes: tuple[str, ...] = field(default=())
    """What could not be read and was assumed instead, in sentences."""

    @property
    def outputs(self) -> int:
        """Channels of the network's answer."""
        return len(self.parts) + self.background


def describe(card: ModelCard) -> Description:
    """The description of a bundle. Raises :class:`ModelError` for one that does not segment or says too little."""
    if card.task != "segment":
        raise ModelError(f"Model '{card.name}' is made for the task '{card.task}', not to segment; choose another.")
    metadata = _json(card, card.folder / "configs" / "metadata.json")
    ours = metadata.get("medgan")
    try:
        if isinstance(ours, dict):
            return _ours(card, ours)
        return _from_elsewhere(card, metadata, _json(card, card.folder / "configs" / "inference.json"))
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(
            f"Model '{card.name}': its metadata.json describes the labels or the grid in a way that can not be read "
            f"({type(error).__name__}: {error})."
        ) from error
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"Model '{card.name}': {error}") from error


def _json(card: ModelCard, path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Model '{card.name}' has no readable '{path.parent.name}/{path.name}'; install it again."
        ) from error
    return held if isinstance(held, dict) else {}


def _ours(card: ModelCard, ours: Mapping[str, Any]) -> Description:
    entries = sorted(ours["labels"], key=lambda entry: entry["index"])
    if [entry["index"] for entry in entries] != list(range(1, len(entries) + 1)):
        raise ValueError("its labels must have the indices 1, 2, 3 and so on, one for each channel after background.")
    parts = tuple(_part(entry) for entry in entries)
    groups = tuple(Group(_part(entry), tuple(int(v) for v in entry["members"])) for entry in ours.get("coarse", ()))
    _check_values([part.value for part in parts])
    spacing, orientation = ours.get("spacing_mm"), ours.get("orientation")
    kind = ours.get("normalise", "percentiles")
    intensities = Intensities(kind, ct_window=_pair(ours.get("ct_window")), clip=bool(ours.get("clip", True)))
    if ours.get("window") is not None:
        intensities = dataclasses.replace(intensities, window=_pair(ours["window"]))
    return _checked(
        Description(
            parts,
            None if spacing is None else _three(spacing),
            orientation,
            intensities,
            tuple(str(channel) for channel in ours.get("channels", ("image",))),
            activation=ours.get("activation", "softmax"),
            axes=ours.get("axes", "kji"),
            multiple=int(ours.get("multiple", 32)),
            smallest_piece_ml=float(ours.get("smallest_piece_ml", 0.03)),
            enclosed=int(ours.get("enclosed", 0)),
            coarse=groups,
            thick_slices=str(ours.get("thick_slices", "")),
            mirror=bool(ours.get("mirror", True)),
            least_extent_mm=float(ours.get("least_extent_mm", 0.0)),
        )
    )


def _part(entry: Mapping[str, Any]) -> Part:
    value = int(entry.get("value", entry.get("index", 0)))
    red, green, blue = (float(part) for part in entry.get("color") or default_color(value))
    label = Label(str(entry.get("name") or f"label {value}"), (red, green, blue), str(entry.get("terminology") or ""))
    return Part(value, label, entry.get("pieces", "many") == "one")


def _from_elsewhere(card: ModelCard, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Description:
    """A MONAI bundle: axes i, j, k; labels of ``channel_def``; what its transforms do, by their names."""
    formats = metadata.get("network_data_format", {})
    image = formats.get("inputs", {}).get("image", {})
    answer: Mapping[str, Any] = next(iter(formats.get("outputs", {}).values()), {})
    count = int(card.network_arguments.get("out_channels", len(answer.get("channel_def", {}))))
    transforms = list(_transforms(config, {}))
    notes: list[str] = []
    activation = "softmax"
    for name, said in transforms:
        if name == "Activations" and said.get("sigmoid") is True:
            activation = "sigmoid"
    names = {int(index): str(text) for index, text in answer.get("channel_def", {}).items()}
    background = activation != "sigmoid" or names.get(0, "").lower() == "background"
    if not names:
        notes.append(f"The model '{card.name}' names no labels; they are numbered.")
    first = 1 if background else 0
    parts = tuple(
        Part(n + 1 - first, Label(names.get(n, f"label {n + 1 - first}"), default_color(n + 1 - first)))
        for n in range(first, count)
    )
    if not parts:
        raise ValueError("its network has one output channel, and what that means is not stated ('channel_def').")
    spacing, orientation = _of(transforms, "Spacing", "pixdim"), _of(transforms, "Orientation", "axcodes")
    if spacing is None or not isinstance(spacing, list):
        notes.append(f"The spacing that '{card.name}' works at could not be read; the volume's own is used.")
        spacing = None
    if not isinstance(orientation, str) or orientation.startswith(("$", "@", "%")):
        orientation = None
    before = list(_transforms(config.get("preprocessing"), config))
    only_before = bool(before) and (_has_intensities(before) or not _has_intensities(transforms))
    intensities = _intensities(before if only_before else transforms, only_before, notes)
    channels = int(card.network_arguments.get("in_channels", image.get("num_channels", 1)))
    called = image.get("channel_def", {})
    return _checked(
        Description(
            parts,
            None if spacing is None else _three(spacing),
            orientation,
            intensities,
            tuple(str(called.get(str(n), f"channel {n + 1}")) for n in range(channels)),
            background,
            activation,
            axes="ijk",
            mirror=any("left" in part.label.name.lower() for part in parts),
            notes=tuple(notes),
        )
    )


def _transforms(held: Any, entries: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name (without "d" for dictionaries) and plain arguments of all transforms in a configuration, in order.

    ``entries``: where the lists are that "@name" and "$@name" stand for; others are passed over.
    """
    if isinstance(held, Mapping):
        target = held.get("_target_")
        if isinstance(target, str) and held.get("_disabled_") is not True:
            yield target.rpartition(".")[2].removesuffix("d"), held
        for value in held.values():
            yield from _transforms(value, entries)
    elif isinstance(held, list):
        for value in held:
            yield from _transforms(value, entries)
    elif isinstance(held, str) and (named := re.fullmatch(r"\$?@(\w+)", held)):
        listed = entries.get(named[1])
        if isinstance(listed, list):
            others = {name: value for name, value in entries.items() if name != named[1]}  # or a circle has no end
            yield from _transforms(listed, others)


def _has_intensities(transforms: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    return any(name in TRANSFORMS for name, _ in transforms)


def _of(transforms: Sequence[tuple[str, Mapping[str, Any]]], name: str, key: str) -> Any:
    return next((said.get(key) for own, said in transforms if own == name), None)


def _intensities(
    transforms: Sequence[tuple[str, Mapping[str, Any]]], only_before: bool, notes: list[str]
) -> Intensities:
    """What the transforms do to the voxels, in their order. ``only_before``: there are none of the network's answer,
    so that all that are not known matter. ``notes`` gets sentences on what is left out."""
    found = []
    for name, said in transforms:
        if name not in TRANSFORMS:
            if only_before and name not in _HARMLESS:
                notes.append(f"The model's transform '{name}' is not known here and was left out.")
            continue
        given = {
            key: value for key, value in said.items() if key not in _ABOUT and (key, value) != ("_disabled_", False)
        }
        strange = [key for key, value in given.items() if key not in TRANSFORMS[name] or not _is_plain(value)]
        if strange:
            notes.append(f"The model's transform '{name}' was left out: its '{strange[0]}' could not be read.")
        else:
            found.append((name, given))
    if not found:
        notes.append("The model's intensities could not be read; 0 to 1 by percentiles is assumed.")
        return Intensities("percentiles")
    return Intensities("MONAI", transforms=tuple(found))


def _is_plain(value: Any) -> bool:
    """Whether an argument is a number, true, false, null, or a list of numbers."""
    return value is None or all(isinstance(one, int | float) for one in (value if isinstance(value, list) else [value]))


def _checked(description: Description) -> Description:
    if not description.parts:
        raise ValueError("it names no labels.")
    if description.intensities.kind not in NORMALISATIONS and not description.intensities.transforms:
        raise ValueError(f"'normalise' must be one of {', '.join(NORMALISATIONS)}.")
    if description.activation not in ACTIVATIONS:
        raise ValueError(f"'activation' must be one of {', '.join(ACTIVATIONS)}.")
    if description.enclosed and description.enclosed not in [part.value for part in description.parts]:
        raise ValueError(f"'enclosed' names the value {description.enclosed}, which is none of its labels.")
    if description.axes not in ("kji", "ijk"):
        raise ValueError("'axes' must be kji or ijk.")
    if description.orientation is not None:
        axes_of(description.orientation)
    if not description.channels:
        raise ValueError("it takes no channels.")
    if description.thick_slices and description.spacing_mm is None:
        raise ValueError("'thick_slices' needs 'spacing_mm', which says how thin they are to become.")
    if description.multiple < 1:
        raise ValueError("'multiple' must be 1 or more.")
    return description


def _check_values(values: Sequence[int]) -> None:
    if len(set(values)) < len(values) or min(values, default=1) < 1:
        raise ValueError("its label values must differ from each other and be above 0.")
    if max(values, default=1) > LARGEST_VALUE:
        raise ValueError(f"its label values must be {LARGEST_VALUE} at most.")


def _pair(numbers: Any) -> Any:
    if numbers is None:
        return None
    low, high = (float(number) for number in numbers)
    if not low < high:
        raise ValueError("a window must go from a smaller to a larger number.")
    return low, high


def _three(numbers: Any) -> tuple[float, float, float]:
    first, second, third = (float(number) for number in numbers)
    if not all(0 < number < math.inf for number in (first, second, third)):
        raise ValueError("a spacing must be three numbers above zero.")
    return first, second, third
