import numpy as np
import pytest

from eqkernels import CovariantKernel, EquivariantFeatures, EquivariantUnion, LambdaSOAP
from eqkernels.kernels import Product, Restricted, Scaled, Sum
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2, "sigma": 0.4}
FREE = 2.0 * CovariantKernel(zeta=2)


@pytest.fixture(scope="module", params=[False, True], ids=["molecules", "crystals"])
def features(request):
    frames = random_frames(2, n_frames=5, n_species=3, periodic=request.param)
    union = EquivariantUnion([("near", LambdaSOAP(**SMALL)), ("far", LambdaSOAP(**{**SMALL, "cutoff": 4.0}))])
    return union.fit_transform(frames)


def kernels(aggregate, normalize):
    free = 0.7 * CovariantKernel(3, normalize, aggregate)
    fixed = CovariantKernel(1, normalize, aggregate)
    return {
        "factor": free,
        "sum": 0.5 * fixed + 2.0 * free,
        "product": free * (CovariantKernel(2, normalize, "mean") + 0.1 * fixed),
        "part": 3.0 * Restricted(free, part="near") + Restricted(fixed, part="far", center_species=["C", 1]),
        "fixed factor": Scaled(free, 2.0, "fixed") + Restricted(free, center_species="C"),
        "nothing": fixed,
    }


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("normalize", ["invariant", True])
@pytest.mark.parametrize("name", kernels("sum", True))
def test_derivatives_are_finite_differences(features, aggregate, normalize, name):
    kernel, cache = kernels(aggregate, normalize)[name], {}
    for irrep in ("0e", "1o", "2e"):
        matrix, slopes = kernel.theta_gradient(features, irrep, cache)
        np.testing.assert_allclose(matrix, kernel(features, irrep=irrep), atol=1e-12 * np.abs(matrix).max())
        again, _ = kernel.clone_with_theta(kernel.theta).theta_gradient(features, irrep, cache)
        np.testing.assert_allclose(again, matrix, atol=1e-12 * np.abs(matrix).max())
        assert list(slopes) != [] or not kernel.hyperparameters
        for k, one in enumerate(kernel.hyperparameters):
            step = 1e-5 * np.eye(len(kernel.theta))[k]
            high, low = (kernel.clone_with_theta(kernel.theta + s * step)(features, irrep=irrep) for s in (1, -1))
            np.testing.assert_allclose(slopes[one], (high - low) / 2e-5, atol=1e-8 * np.abs(matrix).max())
        expected = np.einsum("nnab->nab", matrix)
        np.testing.assert_allclose(kernel.diag(features, irrep), expected, atol=1e-12 * np.abs(matrix).max())


def test_names_values_and_bounds():
    inner = CovariantKernel(zeta=2, zeta_bounds=(1, 8))
    kernel = Sum(0.5 * inner, Product(CovariantKernel(3), Scaled(CovariantKernel(2), 4.0, (1e-2, 10))))
    assert kernel.hyperparameters == ["k1__factor", "k2__k2__factor"]
    np.testing.assert_allclose(np.exp(kernel.theta), [0.5, 4.0])
    np.testing.assert_allclose(np.exp(kernel.bounds), [[1e-6, 1e6], [1e-2, 10]])
    copy = kernel.clone_with_theta(np.log([2.0, 5.0]))
    assert copy.k1.factor == pytest.approx(2.0)
    assert kernel.k1.factor == 0.5
    assert CovariantKernel().theta.shape == (0,)
    assert CovariantKernel().bounds.shape == (0, 2)
    with pytest.raises(ValueError, match="factor=-1.0 must be positive"):
        _ = (-1.0 * CovariantKernel()).theta


def test_exponents_within_bounds_are_integers():
    kernel = 0.5 * CovariantKernel(zeta_bounds=(0.3, 3.9)) + CovariantKernel(zeta=5, zeta_bounds=(2, 2))
    assert kernel.choices == {"k1__kernel__zeta": range(1, 4), "k2__zeta": range(2, 3)}
    assert [(one.k1.kernel.zeta, one.k2.zeta) for one in kernel.variants()] == [(1, 2), (2, 2), (3, 2)]
    assert (kernel.k1.kernel.zeta, kernel.k2.zeta) == (2, 5)
    assert CovariantKernel(3).variants()[0].zeta == 3
    for bounds in (3, (0, 1), (2, 1), "free", (1, np.inf)):
        with pytest.raises(ValueError, match="zeta_bounds=.* must be a pair of positive numbers"):
            CovariantKernel(zeta_bounds=bounds).variants()
    for bounds in ((1.2, 1.8), (0.1, 0.9)):
        with pytest.raises(ValueError, match=r"zeta_bounds=\(.*\) contains no positive integer"):
            CovariantKernel(zeta_bounds=bounds).variants()
    with pytest.raises(ValueError, match=r"the bounds of k1__zeta, k2__zeta allow 121 kernels, .* at most 100"):
        (CovariantKernel(zeta_bounds=(1, 11)) + CovariantKernel(zeta_bounds=(1, 11))).variants()
    with pytest.raises(ValueError, match="zeta=2.5 must be an integer"):
        CovariantKernel(zeta=2.5, zeta_bounds=(1, 8)).variants()


def test_restricted_kernels_add_up_and_turn(features):
    whole = CovariantKernel()(features, irrep="1o")
    species = sum(Restricted(CovariantKernel(), center_species=int(z))(features, irrep="1o") for z in (1, 6, 7))
    np.testing.assert_allclose(species, whole, atol=1e-12)
    frames = random_frames(2, n_frames=5, n_species=3)
    alone = LambdaSOAP(**SMALL).fit(frames)
    union = EquivariantUnion([("far", LambdaSOAP(**{**SMALL, "cutoff": 4.0})), ("near", alone)]).fit(frames)
    near = Restricted(CovariantKernel(), part="near")
    joined = union.transform(frames)
    np.testing.assert_allclose(
        near(joined, joined[:2], irrep="2e"), CovariantKernel()(alone.transform(frames), alone.transform(frames[:2]), irrep="2e")
    )  # fmt: skip
    r = random_rotation(0)
    turned = union.transform([transformed(atoms, r) for atoms in frames])
    np.testing.assert_allclose(near(turned, irrep="0e"), near(joined, irrep="0e"), atol=1e-9)
    with pytest.raises(ValueError, match="no part 'middle'; their parts are far, near"):
        Restricted(CovariantKernel(), part="middle")(joined, irrep="0e")
    with pytest.raises(
        ValueError, match="no part 'near'; their parts are none: join descriptors with EquivariantUnion"
    ):
        near(alone.transform(frames), irrep="0e")
    with pytest.raises(ValueError, match="center_species contains 'Xx'"):
        Restricted(CovariantKernel(), center_species="Xx")(joined, irrep="0e")
    absent = Restricted(CovariantKernel(), center_species="S")
    assert (absent(joined, irrep="1o") == 0).all()


def test_parts_stay_with_the_features(features, tmp_path):
    features.save(tmp_path / "features.npz")
    loaded = EquivariantFeatures.load(tmp_path / "features.npz")
    for one in (loaded, features[1:3], features[[0, 2]], EquivariantFeatures(**features.to_dict())):
        assert one.parts == features.parts
    other = EquivariantFeatures(features.blocks, features.species, features.structures, features.atoms, features.n_atoms,
                                {"again": features.parts["far"]})  # fmt: skip
    both = features | other
    for name, source in (("near", features.part("near")), ("again", features.part("far"))):
        for key, block in source.blocks.items():
            np.testing.assert_array_equal(both.part(name).blocks[key], block)
