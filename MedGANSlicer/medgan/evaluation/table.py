"""What an evaluation found: rows, their summary, comparisons and pictures, in plain values. Imports without torch."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

KINDS = ("images", "sets", "segmentations", "classes", "volumes")
"""Pairs of images, sets of images, segmentations, classifications, and volumes without a reference."""

FLOOR = "reference against itself"
"""The method of sets that is none: what two halves of the reference differ by, by which the others are judged."""

NOT_METRICS = ("case", "method", "label", "error", "truth", "prediction")
"""Keys of a row that say what it is about. ``error`` is the sentence of a case that could not be measured."""


@dataclass(frozen=True)
class MetricInfo:
    """What a figure is called and means. ``better`` is "higher", "lower" or "" for one that is no judgement.

    ``lowest`` and ``highest`` are the ends of what it can be, where it has such, in its unit.
    ``description`` says the formula, its kernel and data range, what an empty input gives, and where it is from.
    """

    title: str
    unit: str = ""
    better: str = ""
    description: str = ""
    lowest: float | None = None
    highest: float | None = None


@dataclass
class Picture:
    """Pictures of one case and method, side by side: the middle slice, oriented as radiologists look at it.

    ``images`` by what they show ("before", "result", "reference", "difference"): float arrays 0..1 with square pixels,
    (rows, columns) in grey or (rows, columns, 3) in colour.
    """

    case: str
    method: str
    images: dict[str, np.ndarray]
    caption: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; each picture is a ``data:`` address of a PNG, ready for a web page."""
        images = {name: PNG_PREFIX + base64.b64encode(png(image)).decode() for name, image in self.images.items()}
        return {"case": self.case, "method": self.method, "images": images, "caption": self.caption}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Picture:
        """What :meth:`to_dict` described, in 256 steps of grey."""
        images = {
            name: from_png(base64.b64decode(text.removeprefix(PNG_PREFIX))) for name, text in plain["images"].items()
        }
        return cls(plain["case"], plain["method"], images, plain["caption"])


@dataclass
class Evaluation:
    """Every figure of one evaluation.

    - ``rows``: one a case and method, and label where there are several: {"case", "method", "label"?, "error"?, metric:
      number or None where it is not defined}. Classifications: {"case", "method", "truth", "prediction", "correct"}.
    - ``summary``: {"method", "label"?, "metric", "n", "mean", "sd", "median", "low", "high"}; low and high bound the
      95 % interval of the mean. None where there are too few cases or all are the same.
    - ``comparisons``: {"a", "b", "label"?, "metric", "n", "difference", "low", "high", "p", "p_corrected", "p_least",
      "test"}; difference is the mean of a - b over the cases that both have, p_least what p_corrected can be at the
      least.
    - ``confusion``: classifications only: {"classes": [...], "matrices": {method: rows of the truth, columns of the
      prediction}}.
    - ``about``: the metrics that a message is about, by message, where it is not about all.
    """

    kind: str
    metrics: dict[str, MetricInfo] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    confusion: dict[str, Any] = field(default_factory=dict)
    about: dict[str, list[str]] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of the rows."""
        return list(dict.fromkeys(str(row["method"]) for row in self.rows))

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The rows of cases that could not be measured."""
        return [row for row in self.rows if row.get("error")]

    def tell(self, message: str, *metrics: str) -> None:
        """Add a sentence for the person, once; one about some metrics alone goes when none of them is shown."""
        if message not in self.messages:
            self.messages.append(message)
            if metrics:
                self.about[message] = list(metrics)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values. Numbers that are not finite, for which JSON has no word, become None."""
        return {
            "kind": self.kind,
            "metrics": {name: asdict(info) for name, info in self.metrics.items()},
            "rows": _plain(self.rows),
            "summary": _plain(self.summary),
            "comparisons": _plain(self.comparisons),
            "messages": list(self.messages),
            "pictures": [picture.to_dict() for picture in self.pictures],
            "settings": _plain(self.settings),
            "confusion": _plain(self.confusion),
            "about": _plain(self.about),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Evaluation:
        """What :meth:`to_dict` described. Further keys, such as those of a task's report, are left out."""
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        known["metrics"] = {name: MetricInfo(**info) for name, info in plain["metrics"].items()}
        known["pictures"] = [Picture.from_dict(picture) for picture in plain["pictures"]]
        return cls(**known)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


PNG_PREFIX = "data:image/png;base64,"
_PNG_START = b"\x89PNG\r\n\x1a\n"


def png(image: np.ndarray) -> bytes:
    """A picture of values 0..1, (rows, columns) or (rows, columns, 3), as a PNG file of 8 bits a channel."""
    pixels = np.rint(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)
    rows, columns = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    lines = np.zeros((rows, pixels[0].size + 1), np.uint8)  # each line begins with its filter: 0 for none
    lines[:, 1:] = pixels.reshape(rows, -1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return _PNG_START + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def from_png(data: bytes) -> np.ndarray:
    """The picture that :func:`png` wrote, and of the many kinds of PNG only that one."""
    columns, rows, _, colour = struct.unpack(">IIBB", data[16:26])
    length = struct.unpack(">I", data[33:37])[0]
    lines = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(rows, -1)
    shape = (rows, columns, 3) if colour == 2 else (rows, columns)
    return lines[:, 1:].reshape(shape).astype(np.float64) / 255.0
