import numpy as np
import pytest
from ase.build import molecule

from eqkernels import (
    CovariantKernel,
    EquivariantFeatures,
    EquivariantUnion,
    LambdaSOAP,
    SparseTensorGPR,
    SphericalExpansion,
    TensorGPR,
    TensorKernelRidge,
    WignerKernel,
    load_model,
    save_model,
)
from eqkernels.kernels import Restricted
from eqkernels.so3 import Irreps, clebsch_gordan, wigner_d
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames
from tests.kernels.test_positive import lowest

SMALL = {"cutoff": 3.5, "n_max": 2, "l_max": 2, "sigma": 0.5}
IRREPS = "0e+0o+1o+1e+2e+2o+3o"


def products(expansion, order):
    """All products of `order` density coefficients of each center, {(l, parity): (n_centers, 2 l + 1, n_products)}."""
    first = {(l, (-1) ** l): block for l, block in enumerate(expansion.blocks.values())}
    total = first
    for _ in range(order - 1):
        new = {}
        for (l1, p1), one in total.items():
            for (l2, p2), other in first.items():
                for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                    both = np.einsum("abM,iaf,ibg->iMfg", clebsch_gordan(l1, l2, l3), one, other, optimize=True)
                    new.setdefault((l3, p1 * p2), []).append(both.reshape(len(one), 2 * l3 + 1, -1))
        total = {key: np.concatenate(parts, axis=2) for key, parts in new.items()}
    return total


def naive_kernel(X, body_order, irrep, zeta=1, normalize=False, aggregate="sum"):
    """Scalar products of explicit products of densities, pair of environments by pair of environments."""
    ((_, one),) = Irreps(irrep)
    blocks = products(X, body_order - 1)
    p, p0 = blocks.get((one.l, one.p)), blocks[0, 1][:, 0]
    out = np.zeros((len(X), len(X), one.dim, one.dim))
    for i, a in enumerate(X.structures if p is not None else []):
        for j, b in enumerate(X.structures):
            if X.species[i] == X.species[j]:
                scale = np.linalg.norm(p0[i]) * np.linalg.norm(p0[j]) if normalize else 1.0
                out[a, b] += p[i] @ p[j].T / scale * (p0[i] @ p0[j] / scale) ** (zeta - 1)
    counts = np.diff(X.offsets) if aggregate == "mean" else np.ones(len(X))
    return out / (counts[:, None, None, None] * counts[:, None, None])


@pytest.mark.parametrize("body_order", [2, 3, 4])
def test_equals_explicit_products(frames, body_order):
    expansion = SphericalExpansion(**{**SMALL, "n_max": 1}).fit_transform(frames[:2])
    for irrep in IRREPS.split("+"):
        expected = naive_kernel(expansion, body_order, irrep)
        found = WignerKernel(body_order, zeta=1, normalize=False)(expansion, irrep=irrep)
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-12 * np.abs(naive_kernel(expansion, body_order, "0e")).max()
        )


@pytest.mark.parametrize(
    ("zeta", "normalize", "aggregate"), [(2, "invariant", "sum"), (3, False, "mean"), (1, "invariant", "mean")]
)
def test_powers_norms_and_means(zeta, normalize, aggregate):
    frames = random_frames(1, n_frames=3, n_species=2)
    expansion = SphericalExpansion(**{**SMALL, "n_max": 1}).fit_transform(frames)
    kernel = WignerKernel(4, zeta, normalize, aggregate)
    for irrep in ("0e", "1o", "1e"):
        expected = naive_kernel(expansion, 4, irrep, zeta, normalize == "invariant", aggregate)
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(kernel(expansion, irrep=irrep), expected, rtol=0, atol=atol)
        np.testing.assert_allclose(
            kernel(expansion[1:], expansion[[2, 0]], irrep=irrep), expected[1:][:, [2, 0]], atol=atol
        )
        np.testing.assert_allclose(kernel.diag(expansion, irrep), expected[np.arange(3), np.arange(3)], atol=atol)


@pytest.mark.parametrize("normalize", ["invariant", False])
def test_three_bodies_are_lambda_soap(frames, normalize):
    features = LambdaSOAP(**SMALL, irreps="0e+1o+1e+2e+3o").fit_transform(frames)
    for zeta in (1, 2):
        for irrep in ("0e", "1o", "1e", "2e", "3o"):
            found = WignerKernel(3, zeta, normalize)(features, irrep=irrep)
            expected = CovariantKernel(zeta, normalize)(features, irrep=irrep)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("body_order", [3, 4, 5])
def test_turns_with_both_structures(frames, body_order):
    descriptor, kernel = LambdaSOAP(**SMALL, irreps="0e+1o+2e").fit(frames), WignerKernel(body_order)
    rotations = [random_rotation(1), -random_rotation(2)]
    features = descriptor.transform(frames)
    turned = [descriptor.transform([transformed(atoms, rotation) for atoms in frames]) for rotation in rotations]
    size = np.abs(kernel(features)).max()
    for irrep in IRREPS.split("+"):
        d = [wigner_d(irrep, rotation) for rotation in rotations]
        expected = np.einsum("ab,nmbc,dc->nmad", d[0], kernel(features, irrep=irrep), d[1])
        np.testing.assert_allclose(kernel(*turned, irrep=irrep), expected, rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("periodic", [False, True])
def test_positive_semidefinite(periodic):
    frames = random_frames(3, n_frames=12, n_species=3, periodic=periodic)
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    for kernel in (
        WignerKernel(),
        WignerKernel(5, 1, False, "mean"),
        0.5 * WignerKernel(2, 3) + WignerKernel(3) * WignerKernel(4),
    ):
        for irrep in ("0e", "1o", "1e", "2e", "0o"):
            assert lowest(kernel, features, irrep) > -1e-12


def test_what_cancels_by_symmetry_is_zero():
    features = SphericalExpansion(**SMALL).fit_transform([molecule("CO2"), molecule("CH4"), molecule("H2O")])
    assert not WignerKernel()(features, irrep="0o").any()  # no chirality
    dipoles = WignerKernel()(features, irrep="1o")
    assert not dipoles[:2].any()
    assert dipoles[2, 2].any()


@pytest.mark.parametrize("kernel", [
    WignerKernel(), WignerKernel(3, 1, False), WignerKernel(5, 3, aggregate="mean"), WignerKernel(2, 2),
    0.5 * WignerKernel(3) * WignerKernel(4, 1) + Restricted(WignerKernel(), "C"), CovariantKernel() + WignerKernel(),
], ids=range(6))  # fmt: skip
@pytest.mark.parametrize("descriptor", [LambdaSOAP, SphericalExpansion])
def test_derivatives_are_differences(kernel, descriptor):
    frames = random_frames(3, n_frames=5, n_species=2)
    descriptor = descriptor(**SMALL).fit(frames)
    left, right, random = descriptor.transform(frames[:3]), descriptor.transform(frames[2:]), np.random.default_rng(0)
    moves = [random.normal(size=atoms.positions.shape) for atoms in frames[:3]]

    def moved(step):
        out = [atoms.copy() for atoms in frames[:3]]
        for atoms, move in zip(out, moves, strict=True):
            atoms.positions += step * move
        return descriptor.transform(out)

    for irrep in ("0e", "1o", "2e"):
        weights = random.normal(size=kernel(left, right, irrep=irrep).shape)
        by_features = kernel.vjp(left, right, irrep, weights)
        found = np.sum(descriptor.vjp(frames[:3], by_features).positions * np.concatenate(moves))
        step = 1e-3
        values = [np.sum(weights * kernel(moved(k * step), right, irrep=irrep)) for k in (-2, -1, 1, 2)]
        numeric = (8 * (values[2] - values[1]) - values[3] + values[0]) / (12 * step)
        assert found == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_densities_of_any_size(factor, molecules):
    features = SphericalExpansion(**SMALL).fit_transform(molecules[:4])
    arrays = features.to_dict()
    scaled = EquivariantFeatures(
        **{**arrays, "blocks": {key: factor * block for key, block in arrays["blocks"].items()}}
    )
    for kernel, power in ((WignerKernel(), 0), (WignerKernel(4, 1, False), 6)):
        for irrep in ("0e", "1o"):
            expected = kernel(features, irrep=irrep)
            found = kernel(scaled, irrep=irrep) / factor**power
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_derivatives_of_a_set_with_itself(molecules):
    features = SphericalExpansion(**SMALL).fit_transform(molecules)
    weights = np.random.default_rng(0).normal(size=(len(features), len(features), 3, 3))
    own = WignerKernel().vjp(features, features, "1o", weights)
    for key, array in WignerKernel().vjp(features, features.copy(), "1o", weights).items():
        np.testing.assert_allclose(own[key], array, rtol=0, atol=1e-12 * np.abs(array).max())
    with pytest.raises(ValueError, match=r"weights has shape \(2, 2\)"):
        WignerKernel().vjp(features, features, "1o", np.ones((2, 2)))


@pytest.mark.parametrize("model", [TensorKernelRidge, TensorGPR])
@pytest.mark.parametrize("descriptor", [LambdaSOAP, SphericalExpansion])
def test_models(model, descriptor, waters, tmp_path):
    frames, dipoles, matrices, energies = waters
    fitted = model(kernel=WignerKernel(4), descriptor=descriptor(**SMALL)).fit(frames[:30], dipoles[:30])
    assert fitted.score(frames[30:], dipoles[30:]) > 0.98
    rotation = -random_rotation(3)
    predicted = fitted.predict(frames[30:])
    turned = fitted.predict([transformed(atoms, rotation) for atoms in frames[30:]])
    np.testing.assert_allclose(turned, predicted @ rotation.T, rtol=0, atol=1e-8 * np.std(dipoles))
    save_model(fitted, tmp_path / "model.skops")
    np.testing.assert_array_equal(load_model(tmp_path / "model.skops").predict(frames[:3]), fitted.predict(frames[:3]))
    derivatives, step, changed = fitted.predict_derivatives(frames[:1])[0], 1e-4, []
    for sign in (1, -1):
        atoms = frames[0].copy()
        atoms.positions[1, 2] += sign * step
        changed.append(fitted.predict([atoms])[0])
    expected = (changed[0] - changed[1]) / (2 * step)
    np.testing.assert_allclose(derivatives[1, :, 2], expected, rtol=0, atol=1e-5 * np.abs(derivatives).max())


def test_scalars_and_matrices_of_structures_and_atoms(waters):
    frames, _, matrices, energies = waters
    for labels in (energies, matrices):
        model = TensorKernelRidge(kernel=WignerKernel(zeta=1), descriptor=LambdaSOAP(**SMALL)).fit(
            frames[:30], labels[:30]
        )
        assert model.score(frames[30:], labels[30:]) > 0.95
    model = TensorKernelRidge(kernel=WignerKernel(), descriptor=LambdaSOAP(**SMALL), per_atom=True, target="i")
    vectors = [atoms.positions - atoms.positions.mean(axis=0) for atoms in frames]
    predicted = model.fit(frames[:30], vectors[:30]).predict(frames[30:])
    assert np.abs(np.concatenate(predicted) - np.concatenate(vectors[30:])).max() < 0.1


def test_a_gaussian_process_chooses_integers_and_weights(waters):
    frames, dipoles, *_ = waters
    kernel = WignerKernel(body_order_bounds=(3, 4), zeta_bounds=(1, 2))
    assert kernel.choices == {"body_order": range(3, 5), "zeta": range(1, 3)}
    assert kernel.hyperparameters == []
    model = TensorGPR(kernel, descriptor=LambdaSOAP(**SMALL)).fit(frames[:20], dipoles[:20])
    errors = [
        TensorGPR(one, descriptor=LambdaSOAP(**SMALL)).fit(frames[:20], dipoles[:20]).loo_rmse_["1o"]
        for one in kernel.variants()
    ]
    assert model.loo_rmse_["1o"] == pytest.approx(min(errors), rel=1e-6)
    mixed = 1.0 * WignerKernel(3) + 1.0 * WignerKernel(4)
    assert mixed.hyperparameters == ["k1__factor", "k2__factor"]
    assert (
        TensorGPR(mixed, descriptor=LambdaSOAP(**SMALL)).fit(frames[:20], dipoles[:20]).score(frames[20:], dipoles[20:])
        > 0.9
    )


def test_parts_of_a_union():
    frames = random_frames(2, n_frames=4, n_species=2)
    expansion = SphericalExpansion(**SMALL)
    union = EquivariantUnion([("soap", LambdaSOAP(**SMALL, irreps="0e+1o")), ("density", expansion)]).fit_transform(
        frames
    )
    found = Restricted(WignerKernel(), part="density")(union, irrep="1o")
    np.testing.assert_allclose(found, WignerKernel()(expansion.fit_transform(frames), irrep="1o"), atol=1e-12)
    with pytest.raises(ValueError, match="X has the blocks 0e, 1o of products, expected densities"):
        Restricted(WignerKernel(), part="soap")(union, irrep="1o")


def test_what_is_refused(waters):
    frames, dipoles, *_ = waters
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames[:4])
    for body_order in (1, 9, 2.5, "4", True):
        with pytest.raises(ValueError, match="body_order=.* must be an integer from 2 to 8"):
            WignerKernel(body_order)(features)
    for name, value in (("zeta", 1.5), ("normalize", True), ("aggregate", "max")):
        with pytest.raises(ValueError, match=f"{name}=.* must be"):
            WignerKernel(**{name: value})(features)
    with pytest.raises(TypeError, match="X must be EquivariantFeatures, got list"):
        WignerKernel()(frames)
    with pytest.raises(ValueError, match="different densities"):
        WignerKernel()(features, LambdaSOAP(**{**SMALL, "n_max": 3}).fit_transform(frames[:2]))
    odd = LambdaSOAP(**SMALL, irreps="0e+1o", time_odd=True)
    with pytest.raises(ValueError, match="inputs or time reversal"):
        WignerKernel()(odd.fit_transform(frames[:2]))
    with pytest.raises(TypeError, match="densities, which are not kept of sparse environments"):
        SparseTensorGPR(10, kernel=0.5 * WignerKernel()).fit(frames, dipoles)
    assert features.blocks["1o"].any()
    with pytest.raises(ValueError, match="a block of X was looked at"):
        WignerKernel()(features)
