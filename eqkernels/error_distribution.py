r"""How errors are distributed over structures, and how well their root mean square is known.

A few structures that are unlike all others may have most of the squared error. How often such structures occur, and how
large their errors are, a small sample hardly says: resampling it (the bootstrap) misses those that it does not hold.
Squared errors :math:`e` above the threshold :math:`t`, the :math:`(k+1)`-th largest, are therefore drawn from a Pareto
distribution with the exponent that fits them,

.. math:: P(e > x) = \left(\frac{x}{t}\right)^{-a} , \qquad \frac{1}{a} = \frac{1}{k} \sum_{i \le k} \ln \frac{e_i}{t} ,
          \qquad k = \sqrt{n} ,

the smaller ones from the sample (F. A. Cowell, E. Flachaire, J. Econometrics 141, 1044 (2007),
https://doi.org/10.1016/j.jeconom.2007.01.001; B. M. Hill, Ann. Statist. 3, 1163 (1975)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Samples that are drawn.
RESAMPLINGS = 400
# Outliers have more than this share of the squared error and are this part of the structures at most.
_TAIL_SHARE, _TAIL_STRUCTURES, _FEWEST_FOR_TAIL = 0.5, 0.02, 20
_MOST, _LISTED = 0.95, 5
# Of the mean square, the part above and below which a tenth of the resamples lie together.
_INTERVAL = (0.05, 0.95)
# Standard deviations of a normal distribution between these.
_DEVIATIONS = 3.29
# Largest squares that a Pareto distribution is fitted to, at least; with fewer structures there is none.
_FEWEST_LARGEST = 3


@dataclass(frozen=True)
class ErrorTail:
    """How errors are distributed over structures, of which a few may have most of the squared error.

    Attributes
    ----------
    median, most : float
        Half of the structures, and 95 % of them, have smaller errors: Frobenius norms, for per-atom targets the root
        mean square over the atoms of a structure.
    outliers : list of int
        Structures that have more than half of the squared error of all, if they are 2 % of them at most.
    share : float
        Of the squared error, that of the outliers.
    without : float
        Root mean square of the Frobenius norm over all other structures.
    """

    median: float
    most: float
    outliers: list[int]
    share: float
    without: float

    @classmethod
    def of(cls, pairs: Any, numbers: Any = None, factor: float = 1.0) -> ErrorTail:
        """Measure errors.

        Parameters
        ----------
        pairs : PairedRows
            True and predicted tensors.
        numbers : ndarray of int, default=None
            What the structures are called; None: their places.
        factor : float, default=1.0
            All errors are multiplied by it.
        """
        structures, squares, counts = squares_of_structures(pairs, pairs.true - pairs.pred)
        order = np.argsort(-squares, kind="stable")
        shares = np.cumsum(squares[order]) / max(squares.sum(), np.finfo(float).tiny)
        n = int(np.searchsorted(shares, _TAIL_SHARE)) + 1
        n = n if n <= max(1, _TAIL_STRUCTURES * len(order)) and len(order) >= _FEWEST_FOR_TAIL else 0
        others, errors = order[n:], np.sqrt(squares / counts)
        names = structures if numbers is None else np.asarray(numbers)[structures]
        return cls(
            factor * float(np.median(errors)), factor * float(np.quantile(errors, _MOST)),
            [int(names[k]) for k in order[:n]], float(shares[n - 1]) if n else 0.0,
            factor * float(np.sqrt(squares[others].sum() / counts[others].sum())),
        )  # fmt: skip

    def lines(self) -> list[str]:
        """Lines of text."""
        lines = [f"half of the structures have errors below {self.median:.3g}, {_MOST:.0%} below {self.most:.3g}"]
        if self.outliers:
            n = len(self.outliers)
            which = ", ".join(map(str, self.outliers[:_LISTED])) + (", ..." if n > _LISTED else "")
            lines.append(
                f"{n} structure{'s have' if n > 1 else ' has'} {self.share:.0%} of the squared error ({which}); that "
                f"of the others is {self.without:.3g}: the error depends on how often such structures occur"
            )
        return lines


def squares_of_structures(pairs: Any, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum squares over the labels of each structure.

    Parameters
    ----------
    pairs : PairedRows
    values : ndarray of shape (n_rows, 3, ..., 3)

    Returns
    -------
    structures, squares, counts : ndarray
        Place of each structure, sum of the squares and number of its labels.
    """
    structures, which = np.unique(pairs.structures, return_inverse=True)
    squares = np.sum(values.reshape(len(values), -1) ** 2, axis=1)
    return structures, np.bincount(which, squares), np.bincount(which)


def resampled_rmse(
    squares: np.ndarray, counts: np.ndarray, limit: float, n_resamplings: int = RESAMPLINGS, random_state: int = 0
) -> np.ndarray:
    """Root mean squares of further samples of as many structures.

    Parameters
    ----------
    squares, counts : ndarray of shape (n_structures,)
        Sums of squared errors, and how many they are.
    limit : float
        No mean square of a structure is larger, unless one of these is; see :func:`largest_of_more`.
    n_resamplings, random_state : int

    Returns
    -------
    ndarray of shape (n_resamplings,)
    """
    random, n = np.random.default_rng(random_state), len(squares)
    order = np.argsort(squares / counts)
    means, counts = (squares / counts)[order], counts[order]
    drawn = random.integers(n, size=(n_resamplings, n))
    values, (k, threshold, inverse_exponent) = means[drawn], _pareto(means)
    if threshold > 0:
        above = drawn >= n - k
        pareto = threshold * random.random(above.sum()) ** -inverse_exponent
        values[above] = np.minimum(pareto, max(limit, means[-1]))
    weights = counts[drawn]
    return np.sqrt(np.sum(weights * values, axis=1) / np.sum(weights, axis=1))


def largest_of_more(values: np.ndarray, times: float = 10.0) -> float:
    """Largest of so many times as many values, on the Pareto distribution through those that are there."""
    values = np.sort(values)
    return float(values[-1] * times ** _pareto(values)[2])


def _pareto(values):
    """Count the largest of ascending values; the threshold below them, and the inverse of their exponent."""
    k = int(np.sqrt(len(values)))
    threshold = values[-k - 1] if k >= _FEWEST_LARGEST else 0.0
    return k, threshold, float(np.mean(np.log(values[-k:] / threshold))) if threshold > 0 else 0.0


def interval_of(rmse: float, resampled: np.ndarray) -> tuple[float, float]:
    """Interval that holds the root mean square over all structures in nine of ten cases, with its estimate inside."""
    low, high = np.quantile(resampled, _INTERVAL)
    return float(min(low, rmse)), float(max(high, rmse))


def standard_error_of(rmse: float, interval: tuple[float, float]) -> float:
    """Give the standard deviation that belongs to the interval of a normal distribution of the logarithm."""
    low, high = interval
    return float(rmse * np.log(high / low) / _DEVIATIONS) if low > 0 else 0.0
