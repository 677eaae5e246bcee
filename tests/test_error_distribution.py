"""Intervals of root mean squares, against distributions whose root mean square is known."""

import numpy as np
import pytest

from eqkernels.error_distribution import interval_of, largest_of_more, resampled_rmse, standard_error_of


def normal(random, n):
    return np.sum(random.normal(size=(n, 3)) ** 2, axis=1)


def log_normal(random, n):
    return np.exp(2 * random.normal(size=n))


def pareto(random, n):
    return random.random(n) ** (-1 / 2.5)


@pytest.mark.parametrize("n", [25, 100])
@pytest.mark.parametrize(("draw", "mean"), [(normal, 3.0), (log_normal, np.exp(2)), (pareto, 2.5 / 1.5)])
def test_nine_of_ten_intervals_hold_the_true_error(draw, mean, n):
    random, held, deviations = np.random.default_rng(0), [], []
    for _ in range(150):
        squares = draw(random, n)
        rmse = np.sqrt(squares.mean())
        interval = interval_of(rmse, resampled_rmse(squares, np.ones(n), limit=1e3, n_resamplings=100))
        held.append(interval[0] <= np.sqrt(mean) <= interval[1])
        deviations.append((rmse - np.sqrt(mean)) / standard_error_of(rmse, interval))
    assert 0.78 < np.mean(held) <= 1.0
    assert 0.4 < np.median(np.abs(deviations)) < 1.1  # 0.67 for a normal distribution


def test_the_plain_bootstrap_is_too_narrow_where_tails_are_heavy():
    random, n, held, plain = np.random.default_rng(1), 50, 0, 0
    for _ in range(100):
        squares = log_normal(random, n)
        rmse = np.sqrt(squares.mean())
        low, high = interval_of(rmse, resampled_rmse(squares, np.ones(n), limit=1e3, n_resamplings=100))
        drawn = np.sqrt(squares[random.integers(n, size=(100, n))].mean(axis=1))
        held += low <= np.exp(1) <= high
        plain += np.quantile(drawn, 0.05) <= np.exp(1) <= np.quantile(drawn, 0.95)
    assert held > plain + 10


def test_labels_count():
    """Structures with more labels weigh more; those of few structures are resampled as they are."""
    squares, counts = np.array([4.0, 100.0]), np.array([4, 1])
    drawn = resampled_rmse(squares, counts, limit=np.inf)
    expected = {1.0, 10.0, np.sqrt(104 / 5)}
    assert {round(float(one), 9) for one in drawn} == {round(float(one), 9) for one in expected}


def test_the_limit_holds():
    squares = np.array([*np.linspace(0.9, 1.1, 90), *np.geomspace(1, 1e6, 10)])
    drawn = resampled_rmse(squares, np.ones(100), limit=2e6)
    assert 1e5**0.5 < drawn.max() <= 2e6**0.5


def test_the_largest_of_more_values():
    """Quantiles of a Pareto distribution grow with a power of the number of values."""
    values = (np.arange(1, 10001) / 10000) ** -0.5
    assert largest_of_more(values, 100.0) == pytest.approx(1000, rel=0.3)
    assert largest_of_more(np.ones(100)) == 1.0
    assert largest_of_more(np.array([1.0, 5.0])) == 5.0


def test_no_errors():
    drawn = resampled_rmse(np.zeros(30), np.ones(30), limit=0.0)
    assert interval_of(0.0, drawn) == (0.0, 0.0)
    assert standard_error_of(0.0, (0.0, 0.0)) == 0.0
