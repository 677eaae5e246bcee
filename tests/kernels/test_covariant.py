import warnings

import numpy as np
import pytest
from ase.build import molecule

from eqkernels import CovariantKernel, EquivariantFeatures, LambdaSOAP, SparseTensorGPR, TensorGPR
from eqkernels.kernels import KernelBlocks
from eqkernels.so3 import wigner_d
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames

DESCRIPTOR = {"cutoff": 3.5, "n_max": 3, "l_max": 3, "irreps": "0e+1o+1e+2e+3o"}


def naive_kernel(X, Y, irrep, zeta, normalize, aggregate):
    """Grisafi et al. 2018, pair of environments by pair of environments."""
    d = 2 * int(irrep[0]) + 1
    out = np.zeros((len(X), len(Y), d, d))
    for i, (a, species_a) in enumerate(zip(X.structures, X.species, strict=True)):
        for j, (b, species_b) in enumerate(zip(Y.structures, Y.species, strict=True)):
            if species_a != species_b:
                continue
            p, q = X.blocks[irrep][i], Y.blocks[irrep][j]
            p0, q0 = X.blocks["0e"][i, 0], Y.blocks["0e"][j, 0]
            covariant, invariant = p @ q.T, p0 @ q0
            if normalize == "invariant":
                covariant = covariant / (np.linalg.norm(p0) * np.linalg.norm(q0))
            elif normalize:
                norms = np.linalg.norm(p @ p.T), np.linalg.norm(q @ q.T)
                covariant = covariant / np.sqrt(norms[0] * norms[1]) if min(norms) > 1e-20 else 0 * covariant
            if normalize:
                invariant = invariant / (np.linalg.norm(p0) * np.linalg.norm(q0))
            out[a, b] += covariant * invariant ** (zeta - 1)
    if aggregate == "mean":
        out /= np.bincount(X.structures)[:, None, None, None] * np.bincount(Y.structures)[:, None, None]
    return out


@pytest.mark.parametrize("zeta", [1, 2, 3.0, np.int64(4)])
@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_equals_the_printed_formula(frames, zeta, normalize, aggregate, monkeypatch):
    features = LambdaSOAP(**DESCRIPTOR).fit_transform(frames)
    kernel = CovariantKernel(zeta, normalize, aggregate)
    monkeypatch.setattr("eqkernels.kernels.environments._ROWS_PER_PRODUCT", 10)
    for irrep in ("0e", "1o", "2e"):
        expected = naive_kernel(features, features, irrep, zeta, normalize, aggregate)
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(kernel(features, irrep=irrep), expected, atol=atol)
        np.testing.assert_allclose(
            kernel(features[1:], features[[2, 0]], irrep=irrep), expected[1:][:, [2, 0]], atol=atol
        )


def test_turns_with_both_structures(frames):
    descriptor = LambdaSOAP(**DESCRIPTOR).fit(frames)
    rotations = [random_rotation(1), -random_rotation(2)]
    turned = [descriptor.transform([transformed(atoms, rotation) for atoms in frames]) for rotation in rotations]
    features = descriptor.transform(frames)
    for irrep in features.blocks:
        kernel = CovariantKernel()(features, irrep=irrep)
        d = [wigner_d(irrep, rotation) for rotation in rotations]
        expected = np.einsum("ab,nmbc,dc->nmad", d[0], kernel, d[1])
        got = CovariantKernel()(turned[0], turned[1], irrep=irrep)
        np.testing.assert_allclose(got, expected, atol=1e-10 * np.abs(kernel).max())


def test_an_environment_with_itself_has_unit_norm(molecules):
    features = LambdaSOAP(**DESCRIPTOR).fit_transform(molecules).split_centers()
    for irrep in features.blocks:
        kernel = CovariantKernel(zeta=3, normalize=True)(features, irrep=irrep)
        norms = np.linalg.norm(kernel[np.arange(len(features)), np.arange(len(features))], axis=(1, 2))
        vanishing = norms == 0  # lone atoms have no equivariant part
        np.testing.assert_allclose(norms[~vanishing], 1.0, rtol=1e-12)
        assert not vanishing.all()


def test_positive_semidefinite(frames):
    features = LambdaSOAP(**DESCRIPTOR).fit_transform(frames)
    for irrep in features.blocks:
        kernel = CovariantKernel(zeta=2)(features, irrep=irrep)
        n, _, d, _ = kernel.shape
        eigenvalues = np.linalg.eigvalsh(kernel.transpose(0, 2, 1, 3).reshape(n * d, n * d))
        assert eigenvalues[0] > -1e-12 * eigenvalues[-1]


def test_extensive_and_intensive(molecules):
    """Two molecules far apart: the sum adds up, the mean averages."""
    a, b = molecules[0], molecules[1]
    both = a + transformed(b, translation=[100.0, 0, 0])
    features = LambdaSOAP(**DESCRIPTOR).fit_transform([a, b, both])
    total = CovariantKernel()(features, irrep="1o")
    np.testing.assert_allclose(total[2], total[0] + total[1], atol=1e-12)
    mean = CovariantKernel(aggregate="mean")(features, irrep="1o")
    weights = np.array([len(a), len(b)]) / len(both)
    np.testing.assert_allclose(mean[2], weights[0] * mean[0] + weights[1] * mean[1], atol=1e-12)


def test_algebra(molecules):
    features = LambdaSOAP(**DESCRIPTOR).fit_transform(molecules)
    a, b = CovariantKernel(zeta=1), CovariantKernel(zeta=3, normalize=False)
    ka, kb, scalar = a(features, irrep="1o"), b(features, irrep="1o"), b(features, irrep="0e")
    np.testing.assert_allclose((a + 2.0 * b)(features, irrep="1o"), ka + 2 * kb)
    np.testing.assert_allclose((a * b)(features, irrep="1o"), ka * scalar)
    with pytest.raises(ValueError, match="must be positive"):
        (a * -1.0)(features, irrep="1o")
    assert (a + b).set_params(k2__zeta=2).k2.zeta == 2


def test_blocks_slice_like_a_square_matrix(molecules):
    features = LambdaSOAP(**DESCRIPTOR).fit_transform(molecules)
    blocks = CovariantKernel().blocks(features, irreps=["0e", "1o"])
    assert blocks.shape == (len(molecules), len(molecules))
    part = blocks[np.ix_([0, 3, 4], [1, 2])]
    np.testing.assert_array_equal(part.blocks["1o"], blocks.blocks["1o"][[0, 3, 4]][:, [1, 2]])
    np.testing.assert_array_equal(part.composition([6]), features.composition([6])[[0, 3, 4]])
    with pytest.raises(TypeError, match="one matrix for each irrep"):
        np.asarray(blocks)
    with pytest.raises(ValueError, match="expected"):
        KernelBlocks({"1o": np.zeros((2, 2, 1, 1))})


def test_wrong_input(molecules):
    features = LambdaSOAP(4.0, n_max=2, l_max=2, irreps="1o").fit_transform(molecules)
    with pytest.raises(ValueError, match=r"no block 0e, only 1o: ask for it with LambdaSOAP\(irreps='0e\+1o'\)"):
        CovariantKernel()(features, irrep="1o")
    with pytest.raises(TypeError, match="transform frames with LambdaSOAP first"):
        CovariantKernel()(molecules, irrep="1o")
    for zeta in (0.5, 0, -1, np.nan, np.inf, True, "2", None):
        with pytest.raises(ValueError, match=f"zeta={zeta!r} must be an integer, at least 1$"):
            CovariantKernel(zeta=zeta)(features, irrep="1o")
    for zeta in (1.5, 2 + 1e-12, np.float32(2.25)):
        with pytest.raises(
            ValueError, match=r"an integer, at least 1, for .*0\.5 \* CovariantKernel\(zeta=\d\) \+ 0\.5"
        ):
            CovariantKernel(zeta=zeta)(features, irrep="1o")
    with pytest.raises(ValueError, match="normalize=2 must be"):
        CovariantKernel(normalize=2)(features, irrep="1o")
    with pytest.raises(ValueError, match="aggregate='median'"):
        CovariantKernel(aggregate="median")(features, irrep="1o")
    others = LambdaSOAP(4.0, n_max=3, l_max=2, irreps="0e+1o").fit_transform(molecules)
    features = LambdaSOAP(4.0, n_max=2, l_max=2, irreps="0e+1o").fit_transform(molecules)
    with pytest.raises(ValueError, match="different numbers of features"):
        CovariantKernel()(features, others, irrep="1o")


def test_species_without_partner_do_not_contribute():
    carbons, hydrogens = random_frames(1, 2, n_species=1), random_frames(1, 2, n_species=1)
    for atoms in carbons:
        atoms.numbers[:] = 6
    features = LambdaSOAP(4.0, n_max=2, l_max=2, irreps="0e").fit_transform(carbons + hydrogens)
    kernel = CovariantKernel()(features)
    assert np.abs(kernel[:2, 2:]).max() == 0 < np.abs(kernel[:2, :2]).min()


def test_features_of_a_user():
    """Any equivariant features will do, not only ours."""
    random = np.random.default_rng(0)
    blocks = {"0e": random.normal(size=(4, 1, 5)), "2o": random.normal(size=(4, 5, 7))}
    features = EquivariantFeatures(blocks, [1, 1, 8, 1], [0, 0, 1, 2], [0, 1, 0, 0], [2, 1, 1])
    expected = naive_kernel(features, features, "2o", 1, "invariant", "sum")
    np.testing.assert_allclose(CovariantKernel(zeta=1)(features, irrep="2o"), expected, atol=1e-13)


@pytest.mark.parametrize("normalize", ["invariant", True, False])
def test_what_vanishes_by_symmetry_is_zero(normalize):
    """Not the rounding of its terms, which a model without other structures would fit to its labels."""
    names, random = ("CO2", "C2H2", "C2H4", "CH4"), np.random.default_rng(0)
    frames = [transformed(molecule(name), random_rotation(k)) for k, name in enumerate(names)]
    features = LambdaSOAP(cutoff=4.0, n_max=2, l_max=3, irreps="0e+0o+1o").fit_transform(frames)
    kernel = CovariantKernel(normalize=normalize)
    assert 0 < np.abs(features.blocks["0o"]).max() < 1e-12  # no atom of them is chiral
    assert np.abs(kernel(features, irrep="0o")).max() == 0.0
    assert np.abs(kernel(features, irrep="1o")).max() == 0.0  # vectors of atoms cancel
    y = random.normal(size=(4, 3))
    for model in (SparseTensorGPR(n_points=10, kernel=kernel, random_state=0), TensorGPR(kernel=kernel)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(target="i").fit(features, y)
        assert np.abs(model.predict(features)).max() == 0.0
