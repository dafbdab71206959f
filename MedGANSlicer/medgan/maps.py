"""Whether a volume is a mask or a probability map rather than a scan. Numpy only."""

from __future__ import annotations

import numpy as np

ENDS = 1.2
"""The tenths of the values next to 0 and to 1 hold so many times as much as any between. Most maps of brain structures
with soft edges have 1.4 to 3; scans scaled to 0 to 1 at most 0.55, and 1.0 where the brightest 5 % were cut off."""

SOME = 0.02
"""Values up to this are as good as 0."""

FEW = 0.05
"""Share of the values above that lie below 1: with fewer a map is a mask."""


def is_map(values: np.ndarray) -> bool:
    """Whether values (a volume, or a sample of its blocks) are a mask or probabilities: 0 and one other, or between 0
    and 1 with more near both ends than in any part between. Very soft or noisy maps are not told from scans."""
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high <= low:
        return False
    if ((values == 0.0) | (values == high)).all():
        return True
    if not 0.5 < high <= 1.0:
        return False
    some = values[values > SOME]
    between = some[some < 1.0]
    if len(between) < FEW * len(some):
        return True
    tenths = np.histogram(between, bins=10, range=(0.0, 1.0))[0]
    return bool(min(tenths[0], tenths[-1]) > ENDS * tenths[2:-1].max())
