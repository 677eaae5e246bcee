"""Products with the density summed over species: the printed formula, and what a single species loses."""

import numpy as np
import pytest

from eqkernels import SOAP, LambdaSOAP, SphericalExpansion
from eqkernels.so3 import clebsch_gordan
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.descriptors.density.test_compression import OPTIONS, gram


@pytest.mark.parametrize("options", [{"compression": "mu1nu1"}, {"compression": "mu1nu1", "n_optimal": 2}], ids=str)
def test_traced_features_rotate_with_the_structure(frames, options):
    assert_equivariant(LambdaSOAP(**OPTIONS, irreps="0e+1o+1e+2e", **options).fit(frames), frames)
    assert_equivariant(LambdaSOAP(**OPTIONS, irreps="0e+1o+1e+2e", compression="mu2").fit(frames), frames)


def test_traces_are_the_printed_formula():
    frames = random_frames(4, n_frames=5, n_species=3)
    coefficients = list(SphericalExpansion(**OPTIONS).fit_transform(frames).blocks.values())
    total = [block.reshape(*block.shape[:2], 3, 4).sum(axis=2) for block in coefficients]
    found = LambdaSOAP(**OPTIONS, irreps="1o", compression="mu1nu1").fit_transform(frames)
    columns = []
    for l1 in range(4):
        for l2 in range(4):
            if abs(l1 - l2) <= 1 <= l1 + l2 and (l1 + l2) % 2:
                product = np.einsum("abm,iaq,ibk->imqk", clebsch_gordan(l1, l2, 1), coefficients[l1], total[l2])
                columns.append(product.reshape(*product.shape[:2], -1))
    np.testing.assert_allclose(found.blocks["1o"], np.concatenate(columns, axis=2), atol=1e-13)
    assert found.labels["1o"].dtype.names == ("species_1", "n_1", "l_1", "species_2", "n_2", "l_2")
    both = SOAP(**OPTIONS, compression="mu2").fit_transform(frames)
    expected = np.concatenate(
        [np.einsum("imq,imp->iqp", one, one).reshape(len(one), -1) / np.sqrt(2 * l + 1) for l, one in enumerate(total)],
        axis=1,
    )
    np.testing.assert_allclose(gram(both), gram(expected), atol=1e-12 * np.abs(gram(expected)).max())


def test_one_species_loses_nothing_by_traces():
    frames = random_frames(3, n_frames=4, n_species=1)
    plain = LambdaSOAP(**OPTIONS, irreps="0e+1o+2o").fit_transform(frames).blocks
    traced = LambdaSOAP(**OPTIONS, irreps="0e+1o+2o", compression="mu1nu1").fit_transform(frames).blocks
    for key, block in plain.items():
        one, two = (gram(b.reshape(-1, b.shape[2])) for b in (block, traced[key]))
        np.testing.assert_allclose(one, two, atol=1e-12 * np.abs(one).max())
