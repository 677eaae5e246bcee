"""Parameters of the density are checked by themselves and together."""

import numpy as np
import pytest

from eqkernels import SphericalExpansion
from eqkernels.descriptors.density_parameters import Precision


@pytest.mark.parametrize("value", ["float64", "float32", np.float64, np.float32])
def test_precisions(value):
    assert Precision().problem(value) is None


@pytest.mark.parametrize("value", ["float16", int, None, 64])
def test_other_types_are_refused(value):
    assert "must be 'float64' or 'float32'" in Precision().problem(value)


def test_all_problems_are_named_at_once(molecules):
    descriptor = SphericalExpansion(cutoff=-1.0, n_max=0, handle_unknown="skip", n_optimal=9)
    with pytest.raises(ValueError, match="cutoff=-1.0 .*n_max=0 .*handle_unknown='skip' .*must not exceed n_max"):
        descriptor.fit(molecules)
