"""Charges of the atoms: the kernel of their multipoles against its formula, finite differences and the laws it obeys."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels import ChargeKernel, CovariantKernel, EquivariantFeatures, EquivariantUnion, LambdaSOAP
from eqkernels.kernels import AtomicDipoleKernel, Restricted
from eqkernels.so3 import CartesianTensor, wigner_d
from tests.kernels.test_positive import lowest

SMALL = {"cutoff": 3.5, "n_max": 3, "l_max": 2, "irreps": "0e+1o+2e"}
NAMES = ["H2O", "CH3CH2OH", "CH3CHO", "CH3OH", "H2O"]
DEGREES = {"0e": 0, "1o": 1, "2e": 2}


def molecules(seed=0, names=NAMES):
    random = np.random.default_rng(seed)
    frames = []
    for name in names:
        atoms = molecule(name)
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.rotate(random.uniform(0, 180), random.normal(size=3))
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def features():
    return LambdaSOAP(**SMALL).fit_transform(molecules())


def mean_over_molecule(positions, reach, epsilon=1e-3):
    """Matrix of the mean over a molecule, as its formula is printed."""
    n = len(positions)
    laplacian = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            distance = np.linalg.norm(positions[i] - positions[j])
            if i != j and distance < reach:
                weight = (1 - distance**2 / reach**2) ** 3
                laplacian[i, j] -= weight
                laplacian[i, i] += weight
    return epsilon * np.linalg.inv(epsilon * np.eye(n) + laplacian)


def naive(kernel, X, Y, frames_x, frames_y, irrep):
    """Sum over all pairs of atoms."""
    sides = []
    for features, frames in ((X, frames_x), (Y, frames_y)):
        scalars = features.blocks["0e"][:, 0]
        if kernel.normalize is not False:
            scalars = scalars / np.linalg.norm(scalars, axis=1)[:, None]
        arms = []
        for atoms in frames:
            r = atoms.positions - atoms.positions.mean(axis=0)
            if irrep == "1o":
                fields = CartesianTensor("i").to_irreps(r)["1o"][:, :, 0]
            else:
                fields = CartesianTensor("ij=ji").to_irreps(r[:, :, None] * r[:, None])[irrep][:, :, 0]
            arms.append(fields - mean_over_molecule(atoms.positions, kernel.reach) @ fields)
        sides.append((features, scalars, np.concatenate(arms)))
    (X, p, a), (Y, q, b) = sides
    out = np.zeros((len(X), len(Y), a.shape[1], a.shape[1]))
    for i in range(len(p)):
        for j in range(len(q)):
            if X.species[i] == Y.species[j]:
                term = kernel.weight * np.outer(a[i], b[j]) * (p[i] @ q[j]) ** kernel.zeta
                out[X.structures[i], Y.structures[j]] += term
    return out


@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
def test_formula(features, zeta, normalize, irrep):
    kernel, frames = ChargeKernel(zeta, normalize, weight=0.3, reach=4.0), molecules()
    X, Y = features[:3], features[1:]
    expected = naive(kernel, X, Y, frames[:3], frames[1:], irrep)
    size = np.abs(expected).max()
    assert np.abs(kernel(X, Y, irrep=irrep) - expected).max() < 1e-11 * size
    assert np.abs(sum(kernel.precise(X, Y, irrep)) - expected).max() < 1e-11 * size
    whole = kernel(features, irrep=irrep)
    assert np.allclose(whole, whole.transpose(1, 0, 3, 2), rtol=0, atol=1e-12 * size)
    own = np.einsum("nnab->nab", whole)
    assert np.allclose(kernel.diag(features, irrep), own, rtol=0, atol=1e-12 * size)
    coef = np.random.default_rng(0).normal(size=(4, whole.shape[2], 2))
    sums = np.einsum("nmab,mbk->nak", expected, coef)
    assert np.abs(kernel.contraction(Y, irrep, coef)(X) - sums).max() < 1e-10 * np.abs(sums).max()


def test_other_irreps_are_zero():
    features = LambdaSOAP(cutoff=3.5, n_max=2, l_max=3, irreps="0e+1e+3o").fit_transform(molecules())
    for irrep in ("1e", "3o"):
        assert not ChargeKernel()(features, irrep=irrep).any()


def test_positive(features):
    for kernel in (ChargeKernel(), ChargeKernel(3) + CovariantKernel(), Restricted(ChargeKernel(1), "C")):
        for irrep in ("0e", "1o", "2e"):
            assert lowest(kernel, features, irrep) > -1e-12


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
def test_turns_with_the_structures(features, irrep):
    random = np.random.default_rng(3)
    kernel, frames, turned, matrices = ChargeKernel(weight=1.0), molecules(), [], []
    for k, atoms in enumerate(frames):
        q, _ = np.linalg.qr(random.normal(size=(3, 3)))
        q *= np.sign(np.linalg.det(q)) * (-1) ** k  # inversions too
        other = atoms.copy()
        other.positions = atoms.positions @ q.T + random.normal(scale=10, size=3)
        turned.append(other)
        parity = (-1) ** (k * (irrep == "1o"))
        matrices.append(parity * wigner_d(DEGREES[irrep], q * (-1) ** k))
    before, after = kernel(features, irrep=irrep), kernel(LambdaSOAP(**SMALL).fit_transform(turned), irrep=irrep)
    expected = np.einsum("nac,nmcd,mbd->nmab", matrices, before, matrices)
    assert np.abs(after - expected).max() < 1e-10 * np.abs(before).max()


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
@pytest.mark.parametrize("normalize", ["invariant", False])
def test_vjp(irrep, normalize):
    random = np.random.default_rng(1)
    frames = molecules(names=["H2O", "CH3OH"])
    frames[0] = frames[0] + Atoms("OH", [[3.5, 0.3, 0.1], [4.2, 0.1, 0.9]])  # parts that are about to come apart
    soap = LambdaSOAP(**SMALL).fit(molecules())
    kernel = CovariantKernel() + 0.3 * ChargeKernel(2, normalize, weight=2.0, reach=4.0)
    kernel, Y = kernel + AtomicDipoleKernel(2, normalize, weight=0.5), soap.transform(molecules(5))
    weights = random.normal(size=kernel(soap.transform(frames), Y, irrep=irrep).shape)
    gradients = kernel.vjp(soap.transform(frames), Y, irrep, weights)
    by_positions = gradients.pop("positions")
    found = by_positions + soap.vjp(frames, gradients).positions
    direction, step = random.normal(size=found.shape), 1e-5
    values = []
    for sign in (1, -1):
        moved = [atoms.copy() for atoms in frames]
        for atoms, change in zip(moved, np.split(direction, [len(frames[0])]), strict=True):
            atoms.positions += sign * step * change
        values.append(np.sum(weights * kernel(soap.transform(moved), Y, irrep=irrep)))
    expected = (values[0] - values[1]) / (2 * step)
    assert abs(np.sum(found * direction) - expected) < 1e-6 * max(abs(expected), np.abs(found).max())


@pytest.mark.parametrize("irrep", ["0e", "2e"])
@pytest.mark.parametrize("zeta", [1, 2])
def test_quadrupoles_of_dipoles(features, irrep, zeta):
    """Against r mu^T + mu r^T of vectors that are features, summed over pairs of atoms."""
    kernel, frames = AtomicDipoleKernel(zeta, weight=0.7), molecules()
    tensor, vector = CartesianTensor("ij=ji"), CartesianTensor("i")
    scalars = features.blocks["0e"][:, 0]
    norms = np.linalg.norm(scalars, axis=1)
    r = np.concatenate([atoms.positions - atoms.positions.mean(axis=0) for atoms in frames])
    made = []
    for f in range(features.blocks["1o"].shape[2]):
        mu = vector.to_cartesian({"1o": features.blocks["1o"][:, :, [f]]})
        made.append(tensor.to_irreps(r[:, :, None] * mu[:, None] + mu[:, :, None] * r[:, None])[irrep][:, :, 0])
    made = np.array(made).transpose(1, 2, 0)
    expected = np.zeros((len(frames), len(frames), made.shape[1], made.shape[1]))
    for i in range(len(r)):
        for j in range(len(r)):
            if features.species[i] == features.species[j]:
                cosine = scalars[i] @ scalars[j] / norms[i] / norms[j]
                term = 0.7 * made[i] @ made[j].T / norms[i] / norms[j] * cosine ** (zeta - 1)
                expected[features.structures[i], features.structures[j]] += term
    size = np.abs(expected).max()
    assert np.abs(kernel(features, irrep=irrep) - expected).max() < 1e-11 * size
    assert np.abs(sum(kernel.precise(features, features, irrep)) - expected).max() < 1e-11 * size
    assert np.abs(kernel.diag(features, irrep) - np.einsum("nnab->nab", expected)).max() < 1e-11 * size
    coef = np.random.default_rng(0).normal(size=(len(frames), expected.shape[2], 1))
    sums = np.einsum("nmab,mbk->nak", expected, coef)
    assert np.abs(kernel.contraction(features, irrep, coef)(features) - sums).max() < 1e-10 * np.abs(sums).max()
    assert not kernel(features, irrep="1o").any()


def test_derivative_by_weight(features):
    kernel = CovariantKernel() + ChargeKernel(weight=0.2)
    matrix, slopes = kernel.theta_gradient(features, "1o")
    assert kernel.hyperparameters == ["k2__weight"]
    other = kernel.clone_with_theta(kernel.theta + 1e-5)(features, irrep="1o")
    lower = kernel.clone_with_theta(kernel.theta - 1e-5)(features, irrep="1o")
    assert np.allclose(matrix, kernel(features, irrep="1o"), rtol=1e-13)
    assert np.allclose(slopes["k2__weight"], (other - lower) / 2e-5, rtol=0, atol=1e-8)
    fixed = ChargeKernel(weight=0.2, weight_bounds="fixed")
    assert fixed.hyperparameters == []
    assert not fixed.theta_gradient(features, "1o")[1]


def test_molecules_far_apart_add_up(features):
    """The kernel of two molecules beyond their reach is the sum of those of the two."""
    first, second = molecules()[:2]
    shifted = second.copy()
    shifted.positions += [30.0, -20.0, 5.0]
    soap = LambdaSOAP(**SMALL).fit(molecules())
    kernel = ChargeKernel()
    both = kernel(soap.transform([first + shifted]), features, irrep="1o")[0]
    alone = kernel(soap.transform([first, second]), features, irrep="1o").sum(axis=0)
    assert np.abs(both - alone).max() < 1e-9 * np.abs(alone).max()
    whole = ChargeKernel(reach=np.inf)(soap.transform([first + shifted]), features, irrep="1o")[0]
    assert np.abs(whole - alone).max() > 0.1 * np.abs(alone).max()


def test_coming_apart_is_smooth():
    """A kernel through the reach has no jumps: its changes shrink with the step."""
    soap = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2, irreps="0e").fit(molecules())
    first, second = molecules()[:2]
    Y, kernel, distances = (
        soap.transform(molecules(4)),
        ChargeKernel(reach=4.0, weight=1.0),
        np.linspace(4.0, 9.0, 2001),
    )
    frames = []
    for distance in distances:
        other = second.copy()
        other.positions += [distance, 0, 0]
        frames.append(first + other)
    values = kernel(soap.transform(frames), Y, irrep="1o")[:, 1, 0, 0]
    steps = np.abs(np.diff(values))
    assert steps.max() < 0.02 * np.ptp(values)


def test_positions_are_kept(features, tmp_path):
    kernel = ChargeKernel()
    expected = kernel(features, irrep="1o")
    features.save(tmp_path / "features.npz")
    for copy in (
        EquivariantFeatures.load(tmp_path / "features.npz"),
        EquivariantFeatures.from_dict(features.to_dict()),
        EquivariantFeatures.of_checked(**features.stored(True)),
        features.copy(),
        features[:],
    ):
        assert np.allclose(kernel(copy, irrep="1o"), expected, rtol=0, atol=1e-13)
    picked = features[[3, 1]]
    assert np.allclose(kernel(picked, irrep="1o"), expected[np.ix_([3, 1], [3, 1])], rtol=0, atol=1e-13)
    stored = EquivariantFeatures.from_dict(features[[3, 1]].to_dict())
    assert len(stored.places.whole.positions) == len(stored.species)
    assert np.allclose(kernel(stored, irrep="1o"), kernel(picked, irrep="1o"), rtol=0, atol=1e-13)
    rows = {name: getattr(features, name) for name in ("species", "structures", "atoms", "n_atoms")}
    made = EquivariantFeatures(dict(features.blocks), **rows, positions=features.positions)
    assert np.allclose(kernel(made, irrep="1o"), expected, rtol=0, atol=1e-13)
    # centers as structures of their own are the terms of the sum
    single = kernel(features.split_centers(), features, irrep="1o")
    summed = np.zeros_like(expected)
    np.add.at(summed, features.structures, single)
    assert np.allclose(summed, expected, rtol=0, atol=1e-12)


def test_union_keeps_positions():
    union = EquivariantUnion([("near", LambdaSOAP(2.5, n_max=2, l_max=2)), ("far", LambdaSOAP(4.0, n_max=2, l_max=2))])
    features = union.fit_transform(molecules())
    part = Restricted(ChargeKernel(), part="near")(features, irrep="1o")
    alone = ChargeKernel()(LambdaSOAP(2.5, n_max=2, l_max=2).fit_transform(molecules()), irrep="1o")
    assert np.allclose(part, alone, rtol=0, atol=1e-12)


def test_messages(features):
    soap = LambdaSOAP(cutoff=3.5, n_max=2, l_max=2)
    periodic = [molecule("H2O"), bulk("Si")]
    with pytest.raises(ValueError, match=r"structure 1 is periodic.*pbc = False.*Born effective charges"):
        ChargeKernel()(soap.fit_transform(periodic), irrep="1o")
    assert ChargeKernel()(soap.fit_transform(periodic)[:1], irrep="1o").shape == (1, 1, 3, 3)
    frames = molecules()
    frames[2].set_initial_charges(np.full(len(frames[2]), 0.1))
    with pytest.raises(ValueError, match=r'structure 2 has initial charges.*0\.700.*total charge 0.*info\["charge"\]'):
        ChargeKernel()(soap.fit_transform(frames), irrep="1o")
    frames = molecules()
    frames[1].info["charge"] = "plus"
    with pytest.raises(ValueError, match=r"structure 1 has an atoms.info\[\"charge\"\] that is no finite number"):
        ChargeKernel()(soap.fit_transform(frames), irrep="1o")
    bare = EquivariantFeatures({"0e": np.ones((1, 1, 2)), "1o": np.ones((1, 3, 1))}, [1], [0], [0], [1])
    with pytest.raises(ValueError, match="do not know the positions"):
        ChargeKernel()(bare, irrep="1o")
    with pytest.raises(ValueError, match=r"positions must be finite, of shape \(1, 3\)"):
        EquivariantFeatures(bare.blocks, [1], [0], [0], [1], positions=[[0.0, 0.0]])
    with pytest.raises(ValueError, match="single environments"):
        ChargeKernel().gradient(features, features, "1o")
    for wrong in ({"reach": 0}, {"reach": "far"}, {"weight": -1.0}, {"zeta": 1.5}, {"normalize": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ChargeKernel(**wrong)(features, irrep="1o")
