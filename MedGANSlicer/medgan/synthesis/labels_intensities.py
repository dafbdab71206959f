"""Which intensities the labels of a map get: measured in a reference, of a kind of scan, typed, or random."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medgan.grids import grid_difference
from medgan.inference import Normalisation, fill_not_finite
from medgan.noise import padding_as_air
from medgan.segmentation.grid import Grid
from medgan.settings import Contrast, SynthesizeSettings
from medgan.synthesis.labels_calibrate import FEWEST_OF_DISTRIBUTION, distribution
from medgan.synthesis.labels_presets import CT_SCALE, PRESETS, presets
from medgan.synthesis.scan import Run, normalisation_of, usual_range
from medgan.synthesis.texture import octave_shares
from medgan.volume import LabelMap, Volume

MEANS = (0.12, 0.9)
SPREADS = (0.01, 0.06)
"""Intensities that a label gets when nobody says which it has."""

USUAL_SPREAD = 0.04
"""Standard deviation of a typed intensity without one, where the label has none of its own, as a share of the range."""

NAMED = 5
"""Labels that a message names."""

SHARES = (0.35, 0.25, 0.18, 0.12, 0.1)
"""Octaves of texture when neither reference nor model tells them."""

SAMPLE = 160
"""Side of the middle part of a reference in which its texture is measured."""

OF_TRAINING = "typical of the volumes that the model was trained on"
NO_UNIT = "0 is the darkest, 1 the brightest"

Statistics = dict[int, tuple[float, float]]
"""Mean and standard deviation of each label value, in the network's unit."""

LARGEST = 1e9
"""Of a typed intensity, whatever its sign."""

_TYPED = re.compile(r"(-?\d+)\s*=\s*(-?[\d.]+(?:[eE][-+]?\d+)?)(?:\s*/\s*([\d.]+(?:[eE][-+]?\d+)?))?")


@dataclass(frozen=True)
class Intensities:
    """Of each label, in the network's unit; how to come from there to the unit of the result (None: they are the same);
    what that unit is; the shares of the octaves of texture; of labels that were measured, how many voxels have each
    intensity (medgan.synthesis.labels_calibrate.distribution)."""

    statistics: Statistics
    scale: Normalisation | None
    unit: str
    shares: tuple[float, ...] = SHARES
    distributions: dict[int, np.ndarray] = field(default_factory=dict)

    def told(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation by label value, in the unit of the result."""
        factor, low = (self.scale.scale, self.scale.low) if self.scale else (1.0, 0.0)
        return {
            str(value): {"mean": float(f"{mean * factor + low:.6g}"), "sd": float(f"{sd * factor:.6g}")}
            for value, (mean, sd) in self.statistics.items()
        }


def intensities_of(
    labels: LabelMap, reference: Volume | None, settings: SynthesizeSettings, seed: int, run: Run
) -> Intensities:
    """What the settings say, for every value of a label map. Raises ``ValueError`` for what does not go together."""
    values = [int(value) for value in np.unique(labels.array)]
    typed = parsed(settings.intensities)
    strange = [value for value in typed if value not in values and value != 0]
    if strange:
        run.told.append(
            f"Intensities were given for labels that the label map does not have: {_listed(strange, labels)}."
        )
    contrast = settings.contrast
    if contrast is Contrast.USUAL and reference is not None:
        contrast = Contrast.REFERENCE
    elif reference is not None and contrast is not Contrast.REFERENCE:
        run.told.append(
            f"The reference was not used: the contrast '{contrast.value}' says which intensities labels have."
        )
    if contrast is Contrast.REFERENCE:
        if reference is None:
            raise ValueError(
                "The contrast 'reference' needs a reference volume on the grid of the label map; give one, or choose "
                "another contrast."
            )
        found, guessed = measured(labels, reference, run), []
    elif contrast is Contrast.BY_HAND:
        return by_hand(values, typed, labels, _texture(run, contrast, labels, seed))
    else:
        known, scale, unit = _known(contrast, values, labels, run)
        guessed = [value for value in values if value not in known]
        if [value for value in guessed if value] and contrast is not Contrast.RANDOM:
            named = [value for value in guessed if value and value not in typed]
            if named:
                run.told.append(_said_of_new(named, labels, contrast))
        statistics = {value: known.get(value) or unknown(value, seed) for value in values}
        found = Intensities(statistics, scale, unit, _texture(run, contrast, labels, seed))
    return with_typed(found, typed, guessed)


def measured(labels: LabelMap, reference: Volume, run: Run) -> Intensities:
    """What each label has in a reference volume on the same grid."""
    differs = grid_difference(reference.shape, reference.ijk_to_ras, labels.shape, labels.ijk_to_ras)
    if differs:
        raise ValueError(f"Reference and label map lie on two grids ({differs}); resample one of them onto the other.")
    filled = padding_as_air(fill_not_finite(reference.array)[0])
    normal = normalisation_of(filled, run.card)
    image = np.clip(normal.apply(filled), 0.0, 1.0)
    values, index = np.unique(labels.array, return_inverse=True)
    flat, pixels = index.reshape(-1), image.reshape(-1)
    count = np.bincount(flat)
    mean = np.bincount(flat, weights=pixels) / count
    square = np.bincount(flat, weights=(pixels - mean[flat]) ** 2) / count
    statistics = {int(v): (float(m), float(s)) for v, m, s in zip(values, mean, np.sqrt(square), strict=True)}
    middle = tuple(slice(max(0, side // 2 - SAMPLE // 2), side // 2 + SAMPLE // 2 + 1) for side in image.shape)
    residual = image[middle] - mean[index.reshape(image.shape)[middle]]
    shares = tuple(float(share) for share in octave_shares(residual))
    many = np.flatnonzero(count >= FEWEST_OF_DISTRIBUTION)
    distributions = {int(values[n]): distribution(pixels[flat == n]) for n in many}
    return Intensities(statistics, normal, "that of the reference", shares, distributions)


def parsed(text: str) -> dict[int, tuple[float, float | None]]:
    """The intensities in a text as "2=0.7/0.03 3=0.5". Raises ``ValueError``."""
    found: dict[int, tuple[float, float | None]] = {}
    for part in re.split(r"[\s,;]+(?=-?\d+\s*=)", text.strip(" ,;\n\t")) if text.strip() else []:
        match = _TYPED.fullmatch(part.strip())
        try:
            if match is None:
                raise ValueError
            value, mean, sd = int(match[1]), float(match[2]), None if match[3] is None else float(match[3])
            if max(abs(mean), sd or 0.0) > LARGEST:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"'{part}' is no intensity of a label; write label=mean or label=mean/sd, such as '2=0.7/0.03 3=0.5', "
                f"with numbers up to {LARGEST:g}."
            ) from None
        if value in found:
            raise ValueError(f"Label {value} has two intensities; give it one.")
        found[value] = (mean, sd)
    return found


def by_hand(
    values: Sequence[int], typed: dict[int, tuple[float, float | None]], labels: LabelMap, shares: tuple[float, ...]
) -> Intensities:
    """Typed intensities alone, in the unit in which they were typed. Raises ``ValueError`` when labels have none."""
    missing = [value for value in values if value and value not in typed]
    if missing:
        raise ValueError(
            f"The labels {_listed(missing, labels)} have no intensity; give every label one, or choose a contrast "
            "that the given ones are to change."
        )
    means = [mean for mean, _ in typed.values()]
    low, high = min(0.0, *means), max(0.0, *means)
    reach = (high - low) or 1.0
    told = {value: (mean, USUAL_SPREAD * reach if sd is None else sd) for value, (mean, sd) in typed.items()}
    told.setdefault(0, (low, 0.0))
    low = min([low, *(mean - 3 * sd for mean, sd in told.values() if low < 0)])
    high = max([low + 1e-6, *(mean + 2 * sd for mean, sd in told.values())])
    scale = Normalisation(low, high)
    statistics = {v: ((told[v][0] - low) / scale.scale, told[v][1] / scale.scale) for v in values}
    return Intensities(statistics, scale, "that of the intensities given by hand", shares)


def with_typed(
    found: Intensities, typed: dict[int, tuple[float, float | None]], guessed: Collection[int] = ()
) -> Intensities:
    """The same, with the typed intensities in place of others. A mean alone leaves a label the standard deviation that
    it has, unless that was ``guessed``."""
    factor, low = (found.scale.scale, found.scale.low) if found.scale else (1.0, 0.0)
    statistics = dict(found.statistics)
    for value, (mean, sd) in typed.items():
        if value in statistics:
            own = USUAL_SPREAD if value in guessed else statistics[value][1]
            statistics[value] = ((mean - low) / factor, own if sd is None else sd / factor)
    kept = {value: held for value, held in found.distributions.items() if value not in typed}
    return replace(found, statistics=statistics, distributions=kept)


def unknown(value: int, seed: int) -> tuple[float, float]:
    """Random intensities, the same for seed and label; a dark background."""
    if value == 0:
        return 0.0, SPREADS[0]
    rng = np.random.default_rng([seed, abs(value), int(value < 0)])
    return float(rng.uniform(*MEANS)), float(rng.uniform(*SPREADS))


def _known(
    contrast: Contrast, values: Sequence[int], labels: LabelMap, run: Run
) -> tuple[Statistics, Normalisation | None, str]:
    """Of the labels that are known for a contrast, the way to its unit, and what this is."""
    if contrast is Contrast.RANDOM:
        return {}, usual_range(run.card, "image"), OF_TRAINING if usual_range(run.card, "image") else NO_UNIT
    usual = run.card.details.get("intensities")
    if contrast is Contrast.USUAL and usual:
        scale = usual_range(run.card, "image")
        return (
            {int(e["value"]): (float(e["mean"]), float(e["sd"])) for e in usual},
            scale,
            OF_TRAINING if scale else NO_UNIT,
        )
    chosen = Contrast.T1 if contrast not in PRESETS else contrast
    pairs = presets(chosen, values, labels)
    if chosen is not Contrast.CT:
        return pairs, None, NO_UNIT
    return (
        {v: ((mean - CT_SCALE.low) / CT_SCALE.scale, sd / CT_SCALE.scale) for v, (mean, sd) in pairs.items()},
        CT_SCALE,
        "HU",
    )


def _texture(run: Run, contrast: Contrast, labels: LabelMap, seed: int) -> tuple[float, ...]:
    """The octaves of a training volume of this contrast whose voxels are about as large; of any one for the seed where
    the contrast does not say which."""
    held = run.card.details.get("textures") or []
    same = [entry for entry in held if entry["contrast"] == (contrast.value if contrast in PRESETS else "T1")]
    if contrast in (Contrast.RANDOM, Contrast.BY_HAND) and held:
        same = [held[int(np.random.default_rng([seed, 7]).integers(len(held)))]]
    size = float(np.prod(Grid(labels.shape, labels.ijk_to_ras).voxel_ml * 1000.0))
    if not same:
        return SHARES
    nearest = min(same, key=lambda entry: abs(np.log(float(entry["voxel_mm3"]) / size)))
    return tuple(float(share) for share in nearest["shares"])


def _said_of_new(values: Sequence[int], labels: LabelMap, contrast: Contrast) -> str:
    if contrast is Contrast.USUAL:
        return (
            f"The model does not know the labels {_listed(values, labels)}; they got random intensities, a reference "
            "volume would give them true ones."
        )
    return (
        f"It is not known how bright the labels {_listed(values, labels)} are in {contrast.label()}; they got random "
        "intensities, a reference volume or intensities by hand would give them true ones."
    )


def _listed(values: Sequence[int], labels: LabelMap) -> str:
    names = [found.name if (found := labels.labels.get(value)) and found.name else str(value) for value in values]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
