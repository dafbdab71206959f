"""How noisy a volume is: the standard deviation of its noise and how it spreads over frequencies.

The volume is cut into 4x4x4 blocks, each block is taken to the orthonormal 3D discrete cosine transform,
and the spread of every coefficient over the foreground is measured. Independent (white) noise of standard
deviation sigma gives the spread sigma in every coefficient, anatomy adds to the low frequencies, and
correlated noise (interpolated or filtered scans) gives less at the high ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from medgan.rice import noise_of_magnitudes

BLOCK = 4
"""Side of a transform block in voxels."""

HIGHEST_ORDER = 8
"""Coefficients whose three orders add up to this or more carry almost no anatomy."""

_HIGHER_ORDER = 5
"""From this order on what is dim and even has no more than noise."""

_QUANTILE = 0.1
_HIGHEST, _CHI_SQUARE, _CHI_SQUARE_MEDIAN = 4, 1.0636232167792243, 3.3566939800333224
"""How many highest coefficients there are; the 0.1 quantile and the median of chi-square with as many degrees of
freedom."""

_FLAT = 0.25
"""Share of the blocks that counts as flat."""

_FLAT_BLOCKS = 2000
"""So many blocks at least, or chance would show in the spread."""

_GROUPS = 6
_GROUP_BLOCKS = 64

_MAXIMUM_BLOCKS = 200_000

_BLOCKS_AT_A_TIME = 2_000
"""To save memory."""

SIGNED = 1000.0
"""See :class:`NoiseProfile`; more than the brightness of any scan is in units of its noise."""

_WHITE, _HARDLY_ANY, _HIDDEN = 0.35, 0.02, 0.004
"""Shares of the noise over all frequencies. In magnitudes, from the first on the highest count as white; up to the
second they count as none for a level that a person gives, and up to the third nothing can be told of the noise: volumes
smoothed by 1.2 voxels have that little, scans that were smoothed by one voxel three times as much."""

INDEPENDENT, CORRELATED = 1.6, 3.0
"""How much noise grows from the highest frequencies to all (see :attr:`NoiseProfile.correlation`): up to the first it
counts as independent, from the second on the highest tell little of it. That of most scans grows 3 to 6 times."""

QUIET = 0.01
"""Blocks with less than this share of the noise were filled in, cut off at a limit or masked: chance leaves a block
with so little of it once in fifty million times."""

_FEWEST_QUIET, _FEWEST_LOUD = 0.01, 0.1
"""Shares of the blocks: with fewer quiet ones nothing changes, with fewer others there is nothing else to measure."""

_ALIKE = 0.65
"""Noise level from the low quantile of the blocks over that from their median: 0.7 to 1 for noise, also where it is
uneven; at most 0.6 for the edges of drawn volumes, which have no noise."""

_FEW_BRIGHT, _FEWEST_BRIGHT, _EDGES = 0.15, 16, 1.6
"""Share of the blocks that is bright, and how many: where it is less (vessels) and edges fill them, the rest tells the
noise. Edges are told by the amplitude at orders of 5 to 7 over that above: bodies have up to 1.55, vessels 1.7 to 3."""

_ENOUGH_AROUND = 20_000
"""Blocks."""

_FINER, _COARSER, _DIMMER = 0.15, 1.4, 4.0
"""Noise around is so many times that of few bright places at least and at the most, and what is around so many times as
bright as its noise at the most: scanners take noise out where there is nothing, and that of PET is another."""

_NEGATIVE = 0.002
"""Magnitudes have no larger share of values below 0; interpolation makes a few."""

AIR_HU = -1024.0
"""What stands in for padding."""

_FEWEST_PADDED = 0.001
"""Share of the voxels."""

_LEAST_AIR = 0.02
"""Share of the voxels of a CT, lungs included; the difference of two scans has fewer so dark."""


@dataclass(frozen=True)
class NoiseProfile:
    """Noise of one volume, in its own intensity unit.

    ``sigma``: standard deviation of the noise, from the highest frequencies.
    ``spread``: (64,) robust standard deviation of each cosine coefficient (order k, j, i; last fastest) where the
    volume is flattest, which is ``sigma`` everywhere for independent noise, but for the first, the mean, which is no
    noise: there it is that of the brightness in a volume of magnitudes, whose noise makes what is dark brighter (Rician
    or Poisson), and ``SIGNED`` times ``sigma`` in one with values below 0.
    ``around``: told by what is around few bright places, whose own noise can not be told.
    """

    sigma: float
    spread: np.ndarray
    around: bool = False

    @property
    def correlation(self) -> float:
        """How many times as strong as at the highest frequencies noise is over all: 1 for independent noise, more where
        a scan was filtered or interpolated.

        Told along each axis by coefficients that are of high order along the two others, where there is hardly any
        anatomy, and multiplied over the axes.
        """
        variance = np.square(self.spread.astype(np.float64)).reshape(BLOCK, BLOCK, BLOCK)
        product = 1.0
        for axis in range(3):
            along = np.moveaxis(variance, axis, 0)[:, BLOCK // 2 :, BLOCK // 2 :].mean(axis=(1, 2))
            product *= float(along.mean() / along[-1]) if along[-1] > 0.0 else 1.0
        return math.sqrt(product)

    @property
    def level(self) -> float:
        """Standard deviation of the noise of a voxel, as it is measured in a homogeneous region.

        That is ``sigma``, but in volumes with values below 0 (CT), the more clearly noise is correlated, that of all
        frequencies. In magnitudes fine anatomy looks like correlated noise.
        """
        return self.level_as(self)

    def level_as(self, before: NoiseProfile) -> float:
        """The level, told as that of a volume with noise ``before``: in what is left of independent noise anatomy
        looks like correlated noise."""
        if before.of_magnitudes or before.hidden or self.hidden:
            return self.sigma
        share = min(max(0.0, (before.correlation - INDEPENDENT) / (CORRELATED - INDEPENDENT)), 1.0)
        whole = min(self.sigma * self.correlation, self._over_all)
        return self.sigma + share * max(0.0, whole - self.sigma)

    @property
    def _over_all(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.spread[1:], dtype=np.float64))))

    @property
    def of_magnitudes(self) -> bool:
        """Whether it is that of a volume without values below 0."""
        return float(self.spread[0]) < 0.99 * SIGNED * self.sigma

    @property
    def plainly_correlated(self) -> bool:
        """Whether the highest frequencies tell little of it. In magnitudes that can not be told: there fine anatomy
        looks like correlated noise."""
        return not self.of_magnitudes and self.correlation > CORRELATED

    @property
    def hidden(self) -> bool:
        """Whether next to none of it is at the highest frequencies: it can not be told from anatomy then."""
        return self.sigma <= _HIDDEN * self._over_all

    def times(self, factor: float) -> NoiseProfile:
        """The same profile for noise so many times as strong."""
        spread = np.maximum(self.spread * np.float32(factor), np.float32(1e-3 * self.sigma * factor))
        if self.of_magnitudes:
            spread[0] = self.spread[0]  # brightness, which does not change with the noise
        return replace(self, sigma=self.sigma * factor, spread=spread.astype(np.float32))

    def scaled_to(self, level: float) -> NoiseProfile:
        """The same profile for a noise level that the person gives.

        Where the highest frequencies of magnitudes hold little of the noise (interpolated, smoothed or zero-filled
        scans), every level from theirs up to that of all frequencies is the one that was found. Noise of which nothing
        was found is taken for white.
        """
        whole = self._over_all
        if self.sigma <= _HARDLY_ANY * whole:
            spread = np.full(BLOCK**3, level, np.float32)
            spread[0] = self.spread[0] if whole > 0.0 else SIGNED * level
            return NoiseProfile(level, spread)
        if self.of_magnitudes and self.sigma < _WHITE * whole:
            return self.times(max(min(level / self.sigma, 1.0), level / whole))
        return self.times(level / self.level)

    def in_units_of(self, scale: float) -> NoiseProfile:
        """The same profile for the volume divided by ``scale``."""
        spread = (self.spread / np.float32(scale)).astype(np.float32)
        return replace(self, sigma=self.sigma / scale, spread=spread)

    def signed(self) -> NoiseProfile:
        """The same profile for a volume whose values may be below 0."""
        spread = self.spread.copy()
        spread[0] = SIGNED * self.sigma
        return replace(self, spread=spread)


def cosine_matrix(size: int = BLOCK) -> np.ndarray:
    """(size, size) orthonormal DCT-II matrix, one basis function a row."""
    order, place = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.cos(np.pi * (place + 0.5) * order / size) * np.sqrt(2.0 / size)
    matrix[0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def cosine_orders(size: int = BLOCK) -> np.ndarray:
    """(size**3,) sum of the three orders of each coefficient."""
    order = np.arange(size)
    return (order[:, None, None] + order[None, :, None] + order[None, None, :]).ravel()


def noise_of_means(profile: NoiseProfile) -> float:
    """Standard deviation of means over 3x3x3 voxels of noise with that profile: sigma / sqrt(27) where it is white.

    Of smooth noise about two thirds of it, as blocks of four voxels know little of what is longer than they are.
    """
    frequency = 2.0 * np.pi * np.fft.fftfreq(64)
    passed = np.square((1.0 + 2.0 * np.cos(frequency)) / 3.0)
    power = np.square(np.abs(np.fft.fft(cosine_matrix(), 64, axis=1))) / 64
    share = power @ passed
    variance = np.square(profile.spread.astype(np.float64)).reshape(BLOCK, BLOCK, BLOCK)
    variance[0, 0, 0] = (variance[0, 0, 1] + variance[0, 1, 0] + variance[1, 0, 0]) / 3.0  # the mean is no noise
    return float(np.sqrt(np.einsum("kji,k,j,i->", variance, share, share, share) / BLOCK**3))


def block_coefficients(array: np.ndarray) -> np.ndarray:
    """(n, 64) cosine coefficients of the non-overlapping 4x4x4 blocks of a [k, j, i] array.

    Sides that are no multiple of 4 lose their last voxels; an axis shorter than 4 is repeated by reflection.
    """
    short = [(0, max(0, BLOCK - side)) for side in array.shape]
    if any(after for _, after in short):
        array = np.pad(array, short, mode="symmetric" if min(array.shape) > 1 else "edge")
    counts = [side // BLOCK for side in array.shape]
    array = array[tuple(slice(0, count * BLOCK) for count in counts)]
    blocks = array.reshape(counts[0], BLOCK, counts[1], BLOCK, counts[2], BLOCK).transpose(0, 2, 4, 1, 3, 5)
    count = math.prod(counts)
    chosen = np.arange(0, count, max(1, -(-count // _MAXIMUM_BLOCKS)))
    matrix = cosine_matrix()
    turned = np.empty((len(chosen), BLOCK, BLOCK, BLOCK), np.float32)
    for first in range(0, len(chosen), _BLOCKS_AT_A_TIME):
        part = slice(first, first + _BLOCKS_AT_A_TIME)
        held = blocks[np.unravel_index(chosen[part], counts)].astype(np.float32)
        turned[part] = np.einsum("ai,bj,ck,nijk->nabc", matrix, matrix, matrix, held, optimize=True)
    return turned.reshape(len(chosen), -1)


def sampled_blocks(array: np.ndarray, most: int = 6_000) -> np.ndarray:
    """About ``most`` blocks of a [k, j, i] array, evenly spread over it, stacked along k as float32 (4 n, 4, 4).

    Its noise profile and intensity range are close to those of the whole array, which is not copied: a look at a
    large volume takes milliseconds. An array with fewer blocks, or an axis shorter than a block, comes back whole.
    """
    counts = [side // BLOCK for side in array.shape]
    step = max(1, int(np.ceil((np.prod(counts) / most) ** (1 / 3))))
    if min(counts) == 0 or step == 1:
        return array.astype(np.float32)
    array = array[tuple(slice(0, count * BLOCK) for count in counts)]
    blocks = array.reshape(counts[0], BLOCK, counts[1], BLOCK, counts[2], BLOCK).transpose(0, 2, 4, 1, 3, 5)
    steps = [min(step, count) for count in counts]
    chosen = blocks[:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    return chosen.reshape(-1, BLOCK, BLOCK)


def intensity_range(array: np.ndarray) -> tuple[float, float]:
    """Robust darkest and brightest intensity of a volume, in its own unit.

    The dark end is 0 for volumes without notable negative values (MR and PET: the physical zero), else, or when all
    values lie far above 0 (CT stored with an offset), the 0.1 percentile. The bright end is the 99.9 percentile of
    what lies above a tenth of the range.
    """
    sample = array.ravel()[:: max(1, array.size // 2_000_000)]
    low, high = np.percentile(sample, [0.1, 99.9])
    if 0.0 <= low <= 0.5 * high or (-0.1 * high <= low < 0.0 and _is_undershoot(sample, low)):
        low = 0.0
    bright = sample[sample > low + 0.1 * (high - low)]
    if bright.size:
        high = float(np.percentile(bright, 99.9))
    return float(low), float(high)


def _is_undershoot(sample: np.ndarray, low: float) -> bool:
    """Whether few values lie near the darkest, which is then no physical zero: interpolation, not the air of a CT."""
    return float((sample < 0.5 * low).mean()) < 0.1


def padding_as_air(array: np.ndarray) -> np.ndarray:
    """The array with air in place of the padding that CT scanners write around what they saw, as -2000 or -3024.

    Padding is a lowest value below -1024 that many voxels have and from which all others lie far; other arrays come
    back as they are.
    """
    finite = np.isfinite(array)
    lowest = float(array.min(where=finite, initial=np.inf))
    if lowest >= AIR_HU:
        return array
    padding = array == lowest
    if padding.mean() < _FEWEST_PADDED:  # the darkest of noise
        return array
    others = float(array.min(where=finite & ~padding, initial=np.inf))
    return np.where(padding, np.asarray(AIR_HU, array.dtype), array) if others > (lowest + AIR_HU) / 2 else array


def in_hounsfield_units(array: np.ndarray) -> bool:
    """Whether finite voxels, padding taken for air, look like CT: there is much air, and little that is darker."""
    sample = array.ravel()[:: max(1, array.size // 500_000)]
    low, high = float(sample.min()), float(sample.max())
    has_air = low <= -800.0 and float((sample < -500.0).mean()) > _LEAST_AIR
    return has_air and float(np.percentile(sample, 1)) >= -1100.0 and 0.0 < high <= 32767.0


def noise_sigma(array: np.ndarray) -> float | None:
    """Level of the noise of a [k, j, i] volume; within its slices where there are fewer than four.

    None where they are too small for that: below 4 x 16 voxels.
    """
    if min(array.shape) >= BLOCK:
        return noise_profile(array).level
    # Four neighbours along the longest axis stand in for a block: its highest coefficients have high orders within the
    # slice too, so they hold as little anatomy.
    slices = array.transpose(np.argsort(array.shape, kind="stable"))
    count = slices.shape[2] // BLOCK**2
    if slices.shape[1] < BLOCK or not count:
        return None
    parts = slices[:, :, : count * BLOCK**2].reshape(*slices.shape[:2], count, BLOCK, BLOCK)
    return noise_profile(parts.transpose(0, 3, 1, 2, 4).reshape(-1, slices.shape[1], count * BLOCK)).level


def noise_profile(array: np.ndarray) -> NoiseProfile:
    """Noise of a [k, j, i] volume, measured in its foreground. A constant volume has sigma 0."""
    unit = power_of_two_near(array)
    low, high = (end * unit for end in intensity_range(array))
    coefficients = block_coefficients(array) * np.float32(unit)
    varying = np.abs(coefficients[:, 1:]).max(axis=1) > 1e-6 * max(abs(low), abs(high), 1e-30)
    if not varying.any():
        return NoiseProfile(0.0, np.zeros(BLOCK**3, np.float32))
    varying[varying] = ~_filled_in(coefficients[varying], high - low)
    mean = coefficients[:, 0] / BLOCK**1.5 - low
    sigma = 0.0
    for _ in range(3):
        inside = varying & (mean > foreground_threshold(mean[varying], low, high, sigma))
        chosen = coefficients[inside if inside.sum() >= 64 else varying]
        sigma = _sigma_of_blocks(chosen)
    magnitudes = of_magnitudes(array, low)
    spread = _spread(chosen, sigma)
    around = None
    for few in (inside, varying & (mean > 0.1 * (high - low))) if magnitudes else ():
        if _FEWEST_BRIGHT <= few.sum() < _FEW_BRIGHT * varying.sum() and _full_of_edges(coefficients[few]):
            around = _noise_around(coefficients[varying & ~few], _sigma_of_blocks(coefficients[few]))
            break
    if around is not None:
        sigma, spread[1:] = around
    spread = np.maximum(spread, 1e-3 * sigma)
    profile = NoiseProfile(sigma / unit, (spread / unit).astype(np.float32), around is not None)
    return profile if magnitudes else profile.signed()


def _full_of_edges(coefficients: np.ndarray) -> bool:
    """Whether what looks like noise in these blocks is their edges: then it grows much towards lower frequencies, also
    in the flattest quarter."""
    orders = cosine_orders()
    energy = np.square(coefficients)
    highest = np.quantile(energy[:, orders >= HIGHEST_ORDER].mean(axis=1), 0.25)
    high = np.quantile(energy[:, (orders >= _HIGHER_ORDER) & (orders < HIGHEST_ORDER)].mean(axis=1), 0.25)
    return bool(high > _EDGES**2 * highest)


def _noise_around(coefficients: np.ndarray, bright: float) -> tuple[float, np.ndarray] | None:
    """Level and spread (but of the mean) of the noise of magnitudes, by blocks around few bright ones, whose edges look
    like noise, ``bright`` as those tell it; None where the blocks around tell nothing."""
    coefficients = coefficients[:: max(1, len(coefficients) // _ENOUGH_AROUND)]
    every = np.median(np.abs(coefficients), axis=0) / 0.6745
    deviation = float(np.sqrt(np.mean(np.square(every[cosine_orders() >= _HIGHER_ORDER]))))
    if deviation <= 0.0:
        return None
    mean = float(np.median(coefficients[:, 0])) / BLOCK**1.5
    level = noise_of_magnitudes(mean, deviation)
    if mean > _DIMMER * level or not _FINER * bright <= level <= _COARSER * bright:
        return None
    return level, every[1:] * np.float32(level / deviation)


def foreground_threshold(means: np.ndarray, low: float, high: float, sigma: float) -> float:
    """How far above ``low`` the mean of a block has to be to count as foreground, in a volume of that robust range.

    A tenth of the range, but where a few vessels or pieces of metal span that alone, of the brightness of the brightest
    twentieth of the blocks. Magnitudes have a background of mean 1.25 sigma and a smaller spread there: clear of it.
    """
    brightness = high - low
    if float((means > 0.1 * brightness).mean()) < 0.05:
        brightness = max(float(np.quantile(means, 0.95)), 0.0)
    return max(0.1 * brightness, 3.0 * sigma if low == 0 else 0.0)


def power_of_two_near(array: np.ndarray) -> float:
    """A factor that brings the largest value of an array near 1, so that no square is too large or too small for
    float32; a power of two, which rounds nothing."""
    largest = max(abs(float(array.min())), abs(float(array.max())))
    return 2.0 ** -math.frexp(largest)[1] if math.isfinite(largest) else 1.0


def of_magnitudes(array: np.ndarray, low: float) -> bool:
    """Whether 0 is the darkest that a volume with this dark end of its range can be."""
    sample = array.ravel()[:: max(1, array.size // 2_000_000)]
    return low == 0.0 and float((sample < 0.0).mean()) < _NEGATIVE


def _spread(coefficients: np.ndarray, sigma: float) -> np.ndarray:
    """(64,) robust spread of each coefficient over the flattest quarter of the blocks, in which there is least anatomy.

    Blocks are chosen by the energy of all coefficients, so theirs is too small; the highest orders, in which there is
    noise alone, tell by how much. Never more than the spread over all blocks.
    """
    every = np.median(np.abs(coefficients), axis=0) / 0.6745
    energy = (coefficients[:, 1:] ** 2).sum(axis=1)
    share = max(_FLAT, min(1.0, _FLAT_BLOCKS / len(energy)))
    flat = coefficients[energy <= np.quantile(energy, share)]
    highest = cosine_orders() >= HIGHEST_ORDER
    spread = np.median(np.abs(flat), axis=0) / 0.6745
    level = float(np.sqrt((spread[highest] ** 2).mean()))
    if level <= 0.0:
        return every
    spread = np.minimum(spread * (sigma / level), every)
    spread[0] = every[0]  # the mean of a block is brightness, not noise
    return spread


def _sigma_of_blocks(coefficients: np.ndarray) -> float:
    """Noise level from a low quantile of the blocks' high-frequency energies, which anatomy touches least.

    Blocks are parted by their brightness and the middle of the parts' levels is taken: noise that follows the
    signal (counts) is far weaker in the darkest blocks, which would else speak for all.
    """
    highest = coefficients[:, cosine_orders() >= HIGHEST_ORDER]
    energy = (highest**2).mean(axis=1)
    parts = np.array_split(energy[np.argsort(coefficients[:, 0])], max(1, min(_GROUPS, len(energy) // _GROUP_BLOCKS)))
    lowest, middle = level_of_energies(energy), np.median([level_of_energies(part) for part in parts])
    # Almost nothing in a tenth of all blocks: a drawn volume without noise, whose edges make the middle.
    return lowest if lowest < 0.02 * middle else float(middle)


def _filled_in(coefficients: np.ndarray, span: float) -> np.ndarray:
    """Which blocks hold none of the noise that all others do, as where voxels were filled in smoothly; none in a volume
    without noise. ``span``: of the intensities."""
    energy = np.square(coefficients[:, cosine_orders() >= HIGHEST_ORDER]).mean(axis=1)
    loud = energy > (1e-5 * span) ** 2  # the others hold rounding at most
    none = np.zeros(len(energy), dtype=bool)
    if not loud.any():
        return none
    level = math.sqrt(float(np.median(energy[loud])) * _HIGHEST / _CHI_SQUARE_MEDIAN)
    quiet = energy < (QUIET * level) ** 2
    told = _FEWEST_QUIET <= quiet.mean() <= 1.0 - _FEWEST_LOUD and (~quiet).sum() >= _GROUP_BLOCKS
    return quiet if told and level_of_energies(energy[~quiet]) > _ALIKE * level else none


def level_of_energies(energy: np.ndarray) -> float:
    """Standard deviation of white noise whose mean squares of a block's highest coefficients have this low quantile."""
    return float(np.sqrt(np.quantile(energy, _QUANTILE) * _HIGHEST / _CHI_SQUARE))
