"""Medians, and medians of paired ratios with their 95% interval."""

import random
import statistics

RESAMPLES = 2000


def median(values):
    return statistics.median(values)


def paired_ratio(ours, theirs):
    """Median of ours[i] / theirs[i], with the interval of a percentile bootstrap of the pairs (fixed seed). Pairs were
    taken side by side, so a drift of the machine's speed cancels."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    source = random.Random(1)
    medians = sorted(median(source.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return [median(ratios), medians[round(0.025 * (RESAMPLES - 1))], medians[round(0.975 * (RESAMPLES - 1))]]
