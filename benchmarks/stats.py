"""Medians, quartiles, and how sure one can be that two programs differ.  Stands on numbers alone."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Quartiles(NamedTuple):
    median: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """The median of the values and the quartiles around it.  ValueError if there are none."""
    if not values:
        raise ValueError("no values, no median")
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(middle, low, high)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Our time over theirs, round by round: what has slowed down a whole round cancels out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def confidence(ratios: Sequence[float]) -> float:
    """How sure one can be that the ratios are not just scattered around 1: from 0 to 1.

    If nothing had changed, each round could as well have come out the other way round.  So this is the share of all
    the 2**n ways to swap the two sides in some rounds after which the mean of the logarithms would be nearer to 0 than
    it is (a paired permutation test).  No shape of the noise is assumed; n rounds can reach 1 - 2 / 2**n at most.
    """
    logs = [math.log(ratio) for ratio in ratios]
    seen = abs(sum(logs)) * (1 - 1e-12)  # equal sums may differ in the last bit
    if len(logs) <= 14:
        signs = list(itertools.product((1, -1), repeat=len(logs)))
    else:
        dice = random.Random(1)
        signs = [tuple(dice.choice((1, -1)) for _ in logs) for _ in range(20_000)]
    as_far = sum(abs(sum(sign * log for sign, log in zip(way, logs, strict=True))) >= seen for way in signs)
    return 1 - as_far / len(signs)
