"""Models of dipoles that charges of the atoms make: labels of known charges are learned, and turn and shift as dipoles."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from eqkernels import ChargeKernel, CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR, TensorKernelRidge
from eqkernels.io import load_model, save_model
from eqkernels.metrics import frobenius_rmse
from tests.kernels.test_charges import molecules

NAMES = ["H2O", "CH3CH2OH", "CH3CHO", "CH3OH", "CH3CH2OCH3", "C2H6", "HCOOH", "CH3CONH2"] * 3
ELECTRONEGATIVITY = {1: 0.1, 6: 0.0, 7: -0.3, 8: -0.4}
SOAP = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2)
BOTH = CovariantKernel() + ChargeKernel()


def labelled(charged=False, seed=0):
    """Molecules whose atoms have charges by their element, shared so that they add up; not centred."""
    random, frames, dipoles = np.random.default_rng(seed), molecules(seed, NAMES), []
    for atoms in frames:
        total = int(random.integers(-1, 2)) if charged else 0
        atoms.positions += random.normal(scale=5.0, size=3)
        charges = np.array([ELECTRONEGATIVITY[z] for z in atoms.numbers])
        charges += (total - charges.sum()) / len(atoms)
        if charged:
            atoms.info["charge"] = total
        dipoles.append(charges @ atoms.positions)
    return frames, np.array(dipoles)


def models():
    return {
        "ridge": TensorKernelRidge(kernel=BOTH, descriptor=SOAP, target="dipole"),
        "process": TensorGPR(kernel=BOTH, descriptor=SOAP, target="dipole"),
        "sparse": SparseTensorGPR(60, kernel=BOTH, descriptor=SOAP, target="dipole", random_state=0),
    }


@pytest.fixture(scope="module", params=[False, True], ids=["neutral", "charged"])
def fitted(request):
    frames, dipoles = labelled(request.param)
    return frames, dipoles, {name: model.fit(frames[:16], dipoles[:16]) for name, model in models().items()}


@pytest.mark.parametrize("name", ["ridge", "process", "sparse"])
def test_charges_are_learned(fitted, name):
    frames, dipoles, by_name = fitted
    model = by_name[name]
    atomic = clone(model).set_params(kernel=CovariantKernel())
    total = np.array([atoms.info.get("charge", 0) for atoms in frames])
    centers = np.array([atoms.positions.mean(axis=0) for atoms in frames])
    atomic.fit(frames[:16], (dipoles - total[:, None] * centers)[:16])
    rest = (dipoles - total[:, None] * centers)[16:]
    error = frobenius_rmse(dipoles[16:], model.predict(frames[16:]))
    assert error < 0.2 * frobenius_rmse(rest, 0 * rest)
    assert error < 1.1 * frobenius_rmse(rest, atomic.predict(frames[16:]))


@pytest.mark.parametrize("name", ["ridge", "process", "sparse"])
def test_laws(fitted, name):
    frames, _, by_name = fitted
    model, random = by_name[name], np.random.default_rng(4)
    size = np.abs(model.predict(frames)).max()
    for k, atoms in enumerate(frames[16:19]):
        q, _ = np.linalg.qr(random.normal(size=(3, 3)))
        shift, moved = random.normal(scale=5, size=3), atoms.copy()
        moved.positions = atoms.positions @ q.T + shift
        expected = q @ model.predict([atoms])[0] + atoms.info.get("charge", 0) * shift
        assert np.abs(model.predict([moved])[0] - expected).max() < 1e-10 * size, k
    together = model.predict(frames[16:])
    assert np.abs(together - np.concatenate([model.predict([atoms]) for atoms in frames[16:]])).max() < 1e-10 * size


@pytest.mark.parametrize("name", ["ridge", "process", "sparse"])
def test_parts_add_up(fitted, name):
    frames, _, by_name = fitted
    model = by_name[name]
    charges, dipoles = model.predict_charges(frames), model.predict_atomic_tensors(frames)
    for atoms, q, mu, whole in zip(frames, charges, dipoles, model.predict(frames), strict=True):
        assert abs(q.sum() - atoms.info.get("charge", 0)) < 1e-10
        assert np.allclose(q @ atoms.positions + mu.sum(axis=0), whole, rtol=0, atol=1e-9)
    features = SOAP.fit(frames).transform(frames)
    if name == "ridge" and "charge" not in frames[0].info:
        of_features = TensorKernelRidge(kernel=BOTH, target="dipole").fit(features, labelled()[1])
        assert of_features.predict_charges(features[[2]])[0].shape == (len(frames[2]),)


@pytest.mark.parametrize("name", ["ridge", "process", "sparse"])
def test_saved(fitted, name, tmp_path):
    frames, _, by_name = fitted
    save_model(by_name[name], tmp_path / "model.eqk")
    loaded = load_model(tmp_path / "model.eqk")
    assert np.array_equal(loaded.predict(frames), by_name[name].predict(frames))
    for one, other in zip(loaded.predict_charges(frames), by_name[name].predict_charges(frames), strict=True):
        assert np.array_equal(one, other)


def test_molecules_far_apart(fitted):
    frames, _, by_name = fitted
    neutral = [atoms for atoms in frames if not atoms.info.get("charge")][:2]
    other = neutral[1].copy()
    other.positions += [40.0, 30.0, -20.0]
    for model in by_name.values():
        both, alone = model.predict([neutral[0] + other])[0], model.predict(neutral).sum(axis=0)
        assert np.abs(both - alone).max() < 1e-9 * max(1.0, np.abs(alone).max())


@pytest.mark.parametrize("kernel", [ChargeKernel(weight=0.3), CovariantKernel() + ChargeKernel(weight=0.3)])
def test_sparse_with_all_points_is_exact(kernel):
    frames, dipoles = labelled()
    settings = {"kernel": kernel, "descriptor": SOAP, "target": "dipole"}
    sparse = SparseTensorGPR(10**4, noise=1e-4, random_state=0, **settings).fit(frames[:16], dipoles[:16])
    exact = TensorKernelRidge(1e-4, **settings).fit(frames[:16], dipoles[:16])
    assert np.abs(sparse.predict(frames[16:]) - exact.predict(frames[16:])).max() < 1e-8


def test_sparse_in_parts_is_the_same():
    frames, dipoles = labelled(charged=True)
    kernel = CovariantKernel() + ChargeKernel(weight=0.3)
    model = SparseTensorGPR(10**4, noise=1e-4, kernel=kernel, descriptor=SOAP, target="dipole", random_state=0)
    whole = clone(model).fit(frames[:16], dipoles[:16])
    parts = clone(model).set_params(memory=4e-3).fit(frames[:16], dipoles[:16])
    assert np.abs(whole.predict(frames) - parts.predict(frames)).max() < 1e-7


def test_derivatives(fitted):
    frames, _, by_name = fitted
    model, random, step = by_name["sparse"], np.random.default_rng(5), 1e-5
    cotangents = random.normal(size=(2, 3))
    found = model.vjp(frames[17:19], cotangents)
    direction = random.normal(size=found.positions.shape)
    strain = random.normal(size=(2, 3, 3))
    values = []
    for sign in (1, -1):
        moved = [atoms.copy() for atoms in frames[17:19]]
        for atoms, change, turn in zip(moved, np.split(direction, [len(frames[17])]), strain, strict=True):
            atoms.positions = atoms.positions @ (np.eye(3) + sign * step * turn).T + sign * step * change
        values.append(np.sum(cotangents * model.predict(moved)))
    expected = (values[0] - values[1]) / (2 * step)
    assert abs(np.sum(found.positions * direction) + np.sum(found.strain * strain) - expected) < 1e-6 * abs(expected)


def test_left_out_predictions_know_the_total_charge():
    frames, dipoles = labelled(charged=True)
    model = models()["process"].fit(frames, dipoles)
    assert frobenius_rmse(dipoles, model.predict_left_out()) < 0.3


def test_weights_are_chosen_or_stated():
    frames, dipoles = labelled()
    ridge = TensorKernelRidge(kernel=BOTH, descriptor=SOAP, target="dipole").fit(frames, dipoles)
    assert ridge.kernel_["1o"].k2.weight > 0
    assert ridge.kernel.k2.weight == "auto"
    stated = CovariantKernel() + ChargeKernel(weight=0.5)
    ridge.set_params(kernel=stated).fit(frames, dipoles)
    assert not hasattr(ridge, "kernel_")
    process = TensorGPR(kernel=BOTH, descriptor=SOAP, target="dipole").fit(frames, dipoles)
    assert process.kernel_["1o"].k2.weight > 0


def test_weight_is_that_of_the_smallest_error():
    """Dipoles of atoms alone need no charges: the weight that is chosen does no harm."""
    frames, dipoles = labelled()
    features = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2).fit_transform(frames, dipoles)
    local = features.blocks["1o"][:, :, 0][:, [2, 0, 1]]
    y = np.zeros((len(frames), 3))
    np.add.at(y, features.structures, local)
    y /= y.std()
    errors = [
        frobenius_rmse(y[16:], TensorKernelRidge(kernel=kernel).fit(features[:16], y[:16]).predict(features[16:]))
        for kernel in (CovariantKernel(), BOTH)
    ]
    assert errors[1] < 1.03 * errors[0] + 1e-6


def test_pipeline_of_frames():
    frames, dipoles = labelled()
    model = make_pipeline(LambdaSOAP(cutoff=4.0, n_max=3, l_max=2), TensorKernelRidge(kernel=BOTH))
    assert model.fit(frames, dipoles).predict(frames[:2]).shape == (2, 3)


def test_quadrupoles():
    """Second moments of charges, about the mean position of the atoms, trace included."""
    frames, _ = labelled()
    moments = []
    for atoms in frames:
        charges = np.array([ELECTRONEGATIVITY[z] for z in atoms.numbers])
        charges -= charges.mean()
        r = atoms.positions - atoms.positions.mean(axis=0)
        moments.append(np.einsum("i,ia,ib->ab", charges, r, r))
    moments = np.array(moments)
    settings = {"descriptor": SOAP, "target": "quadrupole"}
    model = TensorKernelRidge(kernel=BOTH, **settings).fit(frames[:16], moments[:16])
    error = frobenius_rmse(moments[16:], model.predict(frames[16:]))
    assert error < 0.2 * frobenius_rmse(moments[16:], moments[16:] * 0)
    assert np.abs([q.sum() for q in model.predict_charges(frames)]).max() < 1e-10


def test_messages():
    frames, dipoles = labelled()
    per_atom = [np.zeros((len(atoms), 3)) for atoms in frames]
    for model in models().values():
        model.set_params(target=None, per_atom=True)
        with pytest.raises(ValueError, match="y are per-atom targets"):
            model.fit(frames, per_atom)
    atomic = TensorKernelRidge(descriptor=SOAP, target="dipole").fit(frames, dipoles)
    with pytest.raises(ValueError, match="has no charges: fit it with"):
        atomic.predict_charges(frames)
    parts = atomic.predict_atomic_tensors(frames)
    assert np.allclose([part.sum(axis=0) for part in parts], atomic.predict(frames), rtol=0, atol=1e-10)
    frames[3].pbc, frames[3].cell = True, np.eye(3) * 30
    for model in models().values():
        with pytest.raises(ValueError, match="structure 3 is periodic"):
            model.fit(frames, dipoles)
