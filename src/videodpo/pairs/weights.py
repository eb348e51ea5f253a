"""How rare a pair's scores are, as its weight in the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EDGE_TOLERANCE = 1e-9  # in bins: 0.29 / 0.01 is 28.999999999999996 in binary, and belongs to bin 29


def pair_probabilities(
    all_scores: ArrayLike, winner_scores: ArrayLike, loser_scores: ArrayLike, *, bin_width: float = 0.01
) -> tuple[NDArray[np.float64], float]:
    """Probability of each pair, sqrt(p(winner) * p(loser)), and the largest bin's share.

    p(s) is the share of `all_scores` in the bin of s; bins are [k * width, (k + 1) * width), k integer.

    Raises:
        ValueError: no scores, a score that is not finite, a width that is not positive, winners and losers
            in different numbers, or a pair's score whose bin is empty.
    """
    everything = np.asarray(all_scores, dtype=np.float64)
    winners, losers = (np.asarray(scores, dtype=np.float64) for scores in (winner_scores, loser_scores))
    if not bin_width > 0:
        raise ValueError(f"bin_width: {bin_width}, must be above 0")
    if not everything.size:
        raise ValueError("all_scores: empty, there is no histogram to weigh with")
    if winners.shape != losers.shape:
        raise ValueError(f"winner_scores {winners.shape} and loser_scores {losers.shape}: one of each a pair is needed")
    for name, scores in (("all_scores", everything), ("winner_scores", winners), ("loser_scores", losers)):
        if not np.isfinite(scores).all():
            raise ValueError(f"{name}: holds NaN or infinity")
    bins, counts = np.unique(_bin_of(everything, bin_width), return_counts=True)
    shares = counts / everything.size

    def share(scores: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        wanted = _bin_of(scores, bin_width)
        place = np.minimum(np.searchsorted(bins, wanted), len(bins) - 1)
        if (bins[place] != wanted).any():
            raise ValueError(
                f"{name}: a score lies in a bin without any of all_scores; all_scores must include every pair's"
            )
        return np.asarray(shares[place], dtype=np.float64)

    return np.sqrt(share(winners, "winner_scores") * share(losers, "loser_scores")), float(shares.max())


def pair_weights(
    all_scores: ArrayLike,
    winner_scores: ArrayLike,
    loser_scores: ArrayLike,
    *,
    bin_width: float = 0.01,
    alpha: float = 0.72,
    beta: float | None = None,
) -> NDArray[np.float64]:
    """Weight of each pair, (beta / probability) ** alpha (VideoDPO, arXiv 2412.14167, re-weighting).

    Args:
        all_scores: OmniScores of all videos. winner_scores, loser_scores: [P].
        bin_width: of the histogram, in OmniScore. alpha: 0 gives weight 1 (plain DPO).
        beta: numerator; None is the largest bin's share, so that the most common pair weighs 1.

    Returns:
        float64 [P].

    Raises:
        ValueError: as `pair_probabilities`; alpha negative or beta not positive.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha: {alpha}, must be 0 or more")
    if beta is not None and not beta > 0:
        raise ValueError(f"beta: {beta}, must be above 0, or None for the largest bin's share")
    probability, largest = pair_probabilities(all_scores, winner_scores, loser_scores, bin_width=bin_width)
    weights: NDArray[np.float64] = ((largest if beta is None else beta) / probability) ** alpha
    return weights


def _bin_of(scores: NDArray[np.float64], bin_width: float) -> NDArray[np.int64]:
    return np.floor(scores / bin_width + EDGE_TOLERANCE).astype(np.int64)
