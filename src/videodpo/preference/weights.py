"""Weights of the pairs in the loss: a pair with rarer scores has a higher weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from videodpo.config.errors import InputError

EDGE_TOLERANCE = 1e-9  # unit: bins; 0.29 / 0.01 is 28.999999999999996 in binary, and belongs to bin 29


@dataclass(frozen=True)
class Histogram:
    """Histogram of scores over bins [k * width, (k + 1) * width) with integer k."""

    bin_width: float
    bins: NDArray[np.int64]
    """Numbers k of the bins that are not empty, ascending."""
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], bin_width: float) -> Histogram:
        """Build the histogram of at least one score; all must be finite."""
        counted = pc.value_counts(pa.array(_bin_of(scores, bin_width)))  # hashes; np.unique would sort all scores
        bins, counts = counted.field("values").to_numpy(), counted.field("counts").to_numpy()
        order = np.argsort(bins)
        return cls(bin_width, bins[order], counts[order] / counts.sum())

    def share(self, scores: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        """p(s), the share of all scores in the bin of s, for each score s.

        Args:
            scores: scores of winners or losers.
            name: name of the scores, for the message.

        Raises:
            InputError: the bin of a score is empty.
        """
        wanted = _bin_of(scores, self.bin_width)
        index = np.minimum(np.searchsorted(self.bins, wanted), len(self.bins) - 1)
        if (self.bins[index] != wanted).any():
            raise InputError(f"{name}: a score is in an empty bin; all_scores must include the scores of all pairs")
        return np.asarray(self.shares[index], dtype=np.float64)

    def probabilities(self, winners: NDArray[np.float64], losers: NDArray[np.float64]) -> NDArray[np.float64]:
        """sqrt(p(winner) * p(loser)) of each pair; errors as `share`."""
        return np.sqrt(self.share(winners, "winner_scores") * self.share(losers, "loser_scores"))

    def weights(self, probabilities: NDArray[np.float64], *, alpha: float, beta: float | None) -> NDArray[np.float64]:
        """(beta / probability) ** alpha.

        Args:
            probabilities: result of `probabilities`.
            alpha: exponent.
            beta: numerator; None is the share of the largest bin.
        """
        weights: NDArray[np.float64] = ((self.shares.max() if beta is None else beta) / probabilities) ** alpha
        return weights


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
        all_scores: OmniScores of all videos.
        winner_scores, loser_scores: [P].
        bin_width: bin width of the histogram, in units of the OmniScore.
        alpha: exponent; 0 gives weight 1 (plain DPO).
        beta: numerator; None is the share of the largest bin, so that the most common pair has weight 1.

    Returns:
        float64 [P].

    Raises:
        InputError: there are no scores, a score is not finite, `bin_width` or `beta` is not positive, `alpha` is
            negative, the numbers of winners and losers differ, or the bin of a pair's score is empty.
    """
    if not alpha >= 0:
        raise InputError(f"alpha: {alpha}; must be 0 or more")
    if beta is not None and not beta > 0:
        raise InputError(f"beta: {beta}; must be above 0, or None for the largest bin's share")
    everything = np.asarray(all_scores, dtype=np.float64)
    winners, losers = (np.asarray(scores, dtype=np.float64) for scores in (winner_scores, loser_scores))
    if not bin_width > 0:
        raise InputError(f"bin_width: {bin_width}; must be above 0")
    if not everything.size:
        raise InputError("all_scores: empty; at least one score is needed")
    if winners.shape != losers.shape:
        raise InputError(f"winner_scores {winners.shape} and loser_scores {losers.shape}: equal shapes are needed")
    for name, scores in (("all_scores", everything), ("winner_scores", winners), ("loser_scores", losers)):
        if not np.isfinite(scores).all():
            raise InputError(f"{name}: has NaN or infinity")
    histogram = Histogram.of(everything.ravel(), bin_width)
    return histogram.weights(histogram.probabilities(winners, losers), alpha=alpha, beta=beta)


def _bin_of(scores: NDArray[np.float64], bin_width: float) -> NDArray[np.int64]:
    return np.floor(scores / bin_width + EDGE_TOLERANCE).astype(np.int64)
