"""Which products are kept, counted one by one."""

import itertools

import numpy as np
import pytest

from eqkernels.descriptors.products import channels
from eqkernels.so3 import Irrep


@pytest.mark.parametrize("irrep", ["0e", "1o", "1e", "2e", "0o"])
def test_features_are_counted_one_by_one(irrep):
    irrep, l_max, n_channels = Irrep.parse(irrep), 3, 4
    labels = channels.feature_labels(l_max, 2, (1, 8), irrep)
    assert len(labels) == channels.n_features(l_max, n_channels, irrep)
    factors = [(l, q) for l in range(l_max + 1) for q in range(n_channels)]
    if str(irrep) == "0o":
        # antisymmetric in equal degrees, so that all factors differ
        kept = [
            triple
            for triple in itertools.combinations(factors, 3)
            if sum(l for l, _ in triple) % 2 and triple[2][0] <= triple[0][0] + triple[1][0]
        ]
    else:
        kept = [
            (a, b)
            for a, b in itertools.combinations_with_replacement(factors, 2)
            if abs(a[0] - b[0]) <= irrep.l <= a[0] + b[0]
            and (-1) ** (a[0] + b[0]) == irrep.p
            and not (a == b and irrep.l % 2)
        ]
    assert len(labels) == len(kept)
    assert len(np.unique(labels)) == len(labels)


def test_features_of_some_channels_are_those_that_contain_them():
    irrep = Irrep(2, 1)
    labels = channels.feature_labels(2, 2, (1, 6, 8), irrep)
    _, columns = channels.feature_layout(2, 6, irrep, first=2, width=2)  # carbon
    np.testing.assert_array_equal(columns, np.flatnonzero((labels["species_1"] == 6) | (labels["species_2"] == 6)))


@pytest.mark.parametrize("most", [10, 200, 5000, None])
def test_most_triple_channels(most):
    kept = channels.most_triple_channels(4, 12, most)
    if most is None:
        assert kept == 12
        return
    count = [channels.n_features(4, n, Irrep(0, -1)) for n in (kept, kept + 1)]
    assert kept in (1, 12) or count[0] <= most < count[1]
