"""The block 0o with contracted channels: the default where all triples of channels are too many."""

import numpy as np
import pytest
from ase.build import molecule

from eqkernels import Bispectrum, LambdaSOAP, SphericalExpansion
from eqkernels.descriptors.products.channels import degree_triples, triple_channels
from eqkernels.so3 import clebsch_gordan
from eqkernels.testing import assert_equivariant

SIZE = {"cutoff": 3.5, "n_max": 2, "l_max": 3, "irreps": "0e+0o+1o", "accuracy": 1e-11}
FRAMES = [molecule(name) for name in ("CH3OH", "H2O2", "CH3SH", "CH3CONH2")]
for k, atoms in enumerate(FRAMES):
    atoms.rattle(0.1, seed=k)
FEW = LambdaSOAP(**SIZE, max_pseudoscalars=200).fit(FRAMES)


def test_the_number_of_features_is_kept():
    width = FEW.transform(FRAMES).blocks["0o"].shape[2]
    assert 50 < width <= 200
    assert len(FEW.feature_labels("0o")) == width
    assert FEW.triple_contraction_.shape[:2] == (4, 10)
    whole = LambdaSOAP(**SIZE, max_pseudoscalars=None).fit(FRAMES)
    assert whole.triple_contraction_ is None
    assert (
        whole.transform(FRAMES).blocks["0o"].shape[2] == Bispectrum(**SIZE).fit_transform(FRAMES).blocks["0o"].shape[2]
    )


def test_eight_species_fit_into_memory_by_default():
    frames = [molecule(name) for name in ("CH3OH", "CH3Cl", "SiH4", "PH3", "SO2", "CF4", "HCN")]
    features = LambdaSOAP(irreps="0e+0o").fit_transform(frames)
    assert features.blocks["0o"].shape[2] <= 5000


def test_features_are_triple_products_of_contracted_densities():
    density = SphericalExpansion(**{key: SIZE[key] for key in ("cutoff", "n_max", "l_max", "accuracy")})
    blocks = density.fit_transform(FRAMES).blocks
    c = [blocks[f"{l}{'eo'[l % 2]}"] @ matrix for l, matrix in enumerate(FEW.triple_contraction_)]
    expected = []
    for l1, l2, l3 in degree_triples(3):
        coupled = np.einsum("xap,xbq,xcr,abc->xpqr", c[l1], c[l2], c[l3], clebsch_gordan(l1, l2, l3), optimize=True)
        q1, q2, q3 = triple_channels(c[0].shape[2], l1, l2, l3)
        expected.append(np.sqrt(6.0 / (2 * l3 + 1)) * coupled[:, q1, q2, q3])
    expected = np.concatenate(expected, axis=1)
    np.testing.assert_allclose(FEW.transform(FRAMES).blocks["0o"][:, 0], expected, atol=1e-12 * np.abs(expected).max())


def test_components_are_those_of_the_largest_variance():
    density = SphericalExpansion(**{key: SIZE[key] for key in ("cutoff", "n_max", "l_max", "accuracy")})
    for l, block in enumerate(density.fit_transform(FRAMES).blocks.values()):
        rows, matrix = block.reshape(-1, block.shape[2]), FEW.triple_contraction_[l]
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-12)
        singular = np.linalg.svd(rows, compute_uv=False)[: matrix.shape[1]]
        np.testing.assert_allclose(np.linalg.norm(rows @ matrix, axis=0), singular, rtol=1e-6, atol=1e-9 * singular[0])


def test_equivariant():
    assert_equivariant(FEW, FRAMES)
    mirrored = [atoms.copy() for atoms in FRAMES]
    for atoms in mirrored:
        atoms.positions[:, 0] *= -1
    one, other = (FEW.transform(frames).blocks["0o"] for frames in (FRAMES, mirrored))
    assert np.abs(one).max() > 1e-4
    np.testing.assert_allclose(one, -other, atol=1e-12 * np.abs(one).max())


def test_single_precision():
    single = LambdaSOAP(**{**SIZE, "accuracy": 1e-9}, max_pseudoscalars=200, dtype="float32").fit(FRAMES)
    block, expected = single.transform(FRAMES).blocks["0o"], FEW.transform(FRAMES).blocks["0o"]
    assert block.dtype == np.float32
    np.testing.assert_allclose(block, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("value", [0, -1, 2.5, "all", True])
def test_bad_numbers_are_refused(value):
    with pytest.raises(ValueError, match="max_pseudoscalars=.* must be an integer between 1 and .*, or None"):
        LambdaSOAP(max_pseudoscalars=value).fit(FRAMES)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="max_pseudoscalars=1 leaves no feature"):
        LambdaSOAP(3.5, n_max=3, l_max=2, irreps="0o", max_pseudoscalars=1).fit(FRAMES)
