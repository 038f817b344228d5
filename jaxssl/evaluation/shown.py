"""How people read results: fractions in percent with one digit, all others as they are.

Files for programs, `metrics.jsonl` and `eval.json`, have fractions from 0 to 1.
"""

import math
import re
import statistics
from collections.abc import Sequence

# Results that are fractions have one of these in their name: `scratch_miou`, `top1_k20`. What a new
# task measures is shown as it is until its name is added here.
_FRACTIONS = (
    r"top\d|mean_class|majority_baseline|m?iou|map|recall|accuracy|precision|dice|delta\d"
    r"|dead_dimensions|no_region|fallback_fraction|data_wait"
)
_DIGITS = 4  # of results that are no fractions


def is_fraction(name: str) -> bool:
    """Whether a result of this name, or its key in metrics.jsonl, is a fraction."""
    return re.search(rf"(?:^|_)(?:{_FRACTIONS})(?:_|$)", name.rpartition("/")[2]) is not None


def percent(*values: float) -> str:
    """Fractions from 0 to 1: `31.3 %`; of several the mean and deviation, `31.3 ± 0.6 %`."""
    return _with_spread([100 * value for value in values], 1) + " %"


def show(name: str, *values: float) -> str:
    """A result: of several runs or seeds, one or more values, mean ± standard deviation.

    If some are not finite, there is no mean, and it says how many.
    """
    if bad := sum(not math.isfinite(value) for value in values):
        return f"not finite in {bad} of {len(values)}"
    if is_fraction(name):
        return percent(*values)
    if all(float(value).is_integer() for value in values):  # a count, such as that of images
        return _with_spread(values, 0)
    size = max(abs(value) for value in values)
    return _with_spread(values, max(0, _DIGITS - 1 - math.floor(math.log10(size))))


def _with_spread(values: Sequence[float], digits: int) -> str:
    """The mean, and of several values the deviation, with so many digits after the point."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
