"""Labels through pipelines and models: one reading for all, the same predictions whatever the form of y."""

import numpy as np
import pandas as pd
import pytest
from ase.build import molecule
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline

from eqkernels import (
    CartesianTensor,
    CovariantKernel,
    EquivariantNetwork,
    EquivariantNetworkRegressor,
    EquivariantUnion,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.metrics import frobenius_rmse, irrep_rmse, neg_frobenius_rmse, tensor_r2
from tests.conftest import water_set

FRAMES, VECTORS, MATRICES, SCALARS = water_set(24, seed=3)
SOAP = {"cutoff": 3.0, "n_max": 3, "l_max": 2}
POSITIONS = np.array([atoms.positions for atoms in FRAMES])
# vectors of atoms: each towards the others, more when they are near
FORCES = np.array([sum((p - p[k])[:, None] * np.eye(3)[k][None, :, None] for k in range(3)).sum(0) for p in POSITIONS])
GENERAL = np.einsum("na,nb->nab", VECTORS, POSITIONS[:, 1] - POSITIONS[:, 0])
SMALL_NETWORK = {"cutoff": 3.0, "channels": 4, "n_layers": 1, "max_iter": 15, "random_state": 0}

MODELS = {
    "kernel": lambda **options: TensorKernelRidge(1e-6, descriptor=LambdaSOAP(**SOAP), **options),
    "cv": lambda **options: TensorKernelRidge([1e-6], descriptor=LambdaSOAP(**SOAP), **options),
    "linear": lambda **options: TensorRidge(1e-6, descriptor=LambdaSOAP(**SOAP), **options),
    "gpr": lambda **options: TensorGPR(descriptor=LambdaSOAP(**SOAP), optimizer=None, **options),
    "sparse": lambda **options: SparseTensorGPR(
        15, noise=1e-4, descriptor=LambdaSOAP(**SOAP), random_state=0, **options
    ),
    "pipeline": lambda **options: make_pipeline(LambdaSOAP(**SOAP), TensorKernelRidge(1e-6, **options)),
    "n-body": lambda **options: make_pipeline(
        NBodyFeatures(3.0, n_max=2, l_max=2, nu=2, n_components=None), TensorKernelRidge(1e-6, **options)
    ),
    "union": lambda **options: TensorRidge(
        1e-6,
        descriptor=EquivariantUnion([("a", LambdaSOAP(**SOAP)), ("b", LambdaSOAP(2.0, n_max=2, l_max=2))]),
        **options,
    ),
    "committee": lambda **options: TensorCommittee(
        TensorKernelRidge(1e-6, descriptor=LambdaSOAP(**SOAP), **options), n_estimators=4, random_state=0
    ),
    "committee of pipelines": lambda **options: TensorCommittee(
        make_pipeline(LambdaSOAP(**SOAP), TensorRidge(1e-6, **options)), n_estimators=4, random_state=0
    ),
    "on a network": lambda **options: TensorRidge(1e-4, descriptor=EquivariantNetwork(**SMALL_NETWORK), **options),
    "learned": lambda **options: EquivariantNetworkRegressor(**SMALL_NETWORK, **options),
}


def joined(predicted):
    return np.concatenate(list(predicted)) if predicted.dtype == object else predicted


@pytest.fixture(params=MODELS)
def make(request):
    return MODELS[request.param]


@pytest.mark.parametrize(
    ("y", "right", "declared"),
    [
        (list(VECTORS), VECTORS, {"target": "dipole"}),
        (list(VECTORS), VECTORS, {"per_atom": False}),
        (pd.Series(list(VECTORS), index=range(5, 29)), VECTORS, {"target": "i"}),
        (MATRICES.reshape(-1, 9), MATRICES, {"target": "polarizability"}),
        (list(MATRICES.reshape(-1, 9)), MATRICES, {"target": "ij=ji"}),
        (list(MATRICES), MATRICES, {}),
        (GENERAL, GENERAL, {"per_atom": False}),
    ],
)
def test_tensors_of_structures_in_any_form(make, y, right, declared):
    model = make(**declared).fit(FRAMES, y)
    predicted = model.predict(FRAMES)
    expected = make(target=declared.get("target"), per_atom=False).fit(FRAMES, right)
    np.testing.assert_allclose(predicted, expected.predict(FRAMES), rtol=0, atol=1e-8 * np.abs(right).max())
    assert model.score(FRAMES, y) == pytest.approx(model.score(FRAMES, right), abs=1e-12)  # what fit takes, score takes
    assert neg_frobenius_rmse(model, FRAMES, y) == pytest.approx(-frobenius_rmse(right, predicted))


@pytest.mark.parametrize(
    ("y", "declared"),
    [
        (FORCES, {"target": "forces"}),
        (list(FORCES), {"per_atom": True}),
        (FORCES.reshape(len(FORCES), 3, 3), {"target": "i"}),
        (pd.Series(list(FORCES), index=range(5, 29)), {"target": "force"}),
    ],
)
def test_vectors_of_three_atoms_in_any_form(make, y, declared):
    model = make(**declared).fit(FRAMES, y)
    predicted = model.predict(FRAMES)
    assert (predicted.shape, predicted.dtype) == ((24,), object)
    assert model.predict(FRAMES[:1]).shape == (1,)
    right = make(target="i", per_atom=True).fit(FRAMES, list(FORCES)).predict(FRAMES)
    np.testing.assert_allclose(joined(predicted), joined(right), rtol=0, atol=1e-8 * np.abs(FORCES).max())
    assert model.score(FRAMES, y) == pytest.approx(tensor_r2(FORCES.reshape(-1, 3), joined(predicted)), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (list(VECTORS), "target='dipole'.*per_atom=True"),
        (list(FORCES), "target='polarizability'.*target='forces'"),
        (FORCES, "per_atom=False.*per_atom=True"),
        (MATRICES.reshape(-1, 9), r"y.reshape\(-1, 3, 3\)"),
    ],
)
def test_what_is_ambiguous_is_an_error_of_the_model(make, y, words):
    with pytest.raises(ValueError, match=words):
        make().fit(FRAMES, y)


def test_axial_targets_say_which_blocks_they_need():
    a, b = POSITIONS[:, 1] - POSITIONS[:, 0], POSITIONS[:, 2] - POSITIONS[:, 0]
    # unchanged when the two hydrogens are exchanged
    axial = np.cross(a, b) * (np.linalg.norm(a, axis=1) - np.linalg.norm(b, axis=1))[:, None]
    with pytest.raises(ValueError, match=r"no block 1e, only 0e, 1o.*use LambdaSOAP\(irreps='0e\+1e'\)"):
        make_pipeline(LambdaSOAP(**SOAP), TensorKernelRidge(target="magnetic_moment")).fit(FRAMES, axial)
    for name in ("kernel", "linear", "sparse", "union", "committee", "committee of pipelines"):
        model = MODELS[name](target="magnetic_moment").fit(FRAMES, axial)
        assert model.score(FRAMES, axial) > 0.9, name
        assert (model.target_, model.axial_) == ("i", "i")
    rotations = np.einsum("na,nb->nab", VECTORS, axial)
    model = MODELS["kernel"](target=CartesianTensor("optical_rotation")).fit(FRAMES, rotations)
    assert (model.target_, model.axial_) == ("ij", "j")


def test_descriptors_alone():
    """A descriptor that is not told what the labels are has the blocks of all that they may be."""
    for y, options, irreps in (
        (list(VECTORS), {}, "0e+1o"),
        (VECTORS, {}, "0e+1o"),
        (list(FORCES), {}, "0e+1o+1e+2e"),
        (list(FORCES), {"per_atom": True}, "0e+1o"),
        (FORCES, {"per_atom": False}, "0e+1e+2e"),
        (list(MATRICES), {}, "0e+2e"),
        (MATRICES.reshape(-1, 9), {}, "0e+2e"),
        (None, {}, "0e+1o+2e"),
    ):
        for descriptor in (
            LambdaSOAP(**SOAP, **options),
            NBodyFeatures(3.0, n_max=2, l_max=2, nu=2, n_components=20, **options),
        ):
            assert set(descriptor.fit(FRAMES, y).irreps_.split("+")) == set(irreps.split("+"))
    with pytest.raises(ValueError, match="per_atom=1 must be None, True or False"):
        LambdaSOAP(**SOAP, per_atom=1).fit(FRAMES, VECTORS)


def test_partial_fit_reads_labels_as_the_first_ones():
    model = MODELS["sparse"](target="ij").fit(FRAMES[:12], GENERAL[:12])
    again = MODELS["sparse"](target="ij").partial_fit(FRAMES[:12], list(GENERAL[:12].reshape(-1, 9)))
    np.testing.assert_array_equal(model.predict(FRAMES), again.predict(FRAMES))
    again.partial_fit(FRAMES[12:], list(GENERAL[12:]))
    forces = MODELS["sparse"](per_atom=True).partial_fit(FRAMES[:12], list(FORCES[:12]))
    forces.partial_fit(FRAMES[12:], FORCES[12:])
    assert forces.per_atom_
    with pytest.raises(ValueError, match=r"labels so far were tensors \(3,\) of atoms"):
        forces.partial_fit(FRAMES[12:], SCALARS[12:])
    with pytest.raises(ValueError, match=r"labels so far were tensors \(3, 3\) of structures"):
        again.partial_fit(FRAMES[12:], VECTORS[12:])


def test_several_properties_of_a_network():
    y = {"mu": list(VECTORS), "force": list(FORCES), "energy": SCALARS}
    declared = {"target": {"mu": "dipole"}, "per_atom": {"force": True}}
    model = EquivariantNetworkRegressor(**SMALL_NETWORK, **declared).fit(FRAMES, y)
    predicted = model.predict(FRAMES)
    assert [predicted[name].shape for name in ("mu", "force", "energy")] == [(24, 3), (24,), (24,)]
    assert predicted["force"][0].shape == (3, 3)
    assert np.isfinite(model.score(FRAMES, y))
    with pytest.raises(ValueError, match=r"property 'force': y can be read in 2 ways"):
        EquivariantNetworkRegressor(**SMALL_NETWORK, target={"mu": "dipole"}).fit(FRAMES, y)
    with pytest.raises(ValueError, match="per_atom declares the kind of 'forces', but y has"):
        EquivariantNetworkRegressor(**SMALL_NETWORK, per_atom={"forces": True}).fit(FRAMES, y)


# -- labels of atoms in scikit-learn --------------------------------------------------------------------------------

MIXED = [molecule(name) for name in ("H2O", "H2O2", "CH3OH", "NH3") * 5]
for seed, atoms in enumerate(MIXED):
    atoms.rattle(0.05, seed=seed)
SUMS = [atoms.get_all_distances().sum(1) for atoms in MIXED]
SAME = MIXED[1::4]
FIELDS = [(atoms.positions[None] - atoms.positions[:, None]).sum(1) for atoms in SAME]
GROUPS = np.arange(len(MIXED)) // 2


def of_atoms(**options):
    return make_pipeline(LambdaSOAP(**SOAP), TensorKernelRidge(1e-6, **options))


@pytest.mark.parametrize("form", [list, lambda y: np.array([*y, None], dtype=object)[:-1]])
def test_cross_validation_of_labels_of_atoms(form):
    y, folds = form(SUMS), KFold(4, shuffle=True, random_state=0)
    predicted = cross_val_predict(of_atoms(), MIXED, y, cv=folds)
    assert predicted.dtype == object
    for train, test in folds.split(MIXED):
        model = of_atoms().fit([MIXED[k] for k in train], [SUMS[k] for k in train])
        for k, one in zip(test, model.predict([MIXED[k] for k in test]), strict=True):
            np.testing.assert_array_equal(predicted[k], one)
    by_hand = [
        of_atoms().fit([MIXED[k] for k in train], [SUMS[k] for k in train])
        .score([MIXED[k] for k in test], [SUMS[k] for k in test])
        for train, test in folds.split(MIXED)
    ]  # fmt: skip
    np.testing.assert_allclose(cross_val_score(of_atoms(), MIXED, y, cv=folds), by_hand, rtol=1e-10)
    grouped = cross_validate(of_atoms(), MIXED, y, groups=GROUPS, cv=GroupKFold(4), scoring=neg_frobenius_rmse)
    assert np.isfinite(grouped["test_score"]).all()
    search = GridSearchCV(of_atoms(), {"tensorkernelridge__alpha": [1e-6, 1e2]}, cv=folds).fit(MIXED, y)
    assert search.best_params_ == {"tensorkernelridge__alpha": 1e-6}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    _, _, scores = learning_curve(of_atoms(), MIXED, y, cv=folds, train_sizes=[8, 15])
    assert np.isfinite(scores).all()


def test_predictions_of_structures_of_one_size():
    predicted = cross_val_predict(of_atoms(), SAME, FIELDS, cv=5)
    assert (predicted.shape, predicted[0].shape) == ((5,), (4, 3))
    assert irrep_rmse(FIELDS, predicted)["1o"] > 0
    features = LambdaSOAP(**SOAP)
    for model in (
        TensorGPR(CovariantKernel(), optimizer=None, descriptor=features),
        SparseTensorGPR(10, noise=1e-4, descriptor=features, random_state=0),
        TensorCommittee(TensorRidge(descriptor=features), n_estimators=3, random_state=0),
    ):
        model.fit(SAME, FIELDS)
        for n in (1, 2, 5):
            for options, trailing in (({"return_std": True}, (3,)), ({"return_cov": True}, (3, 3))):
                for part, shape in zip(model.predict(SAME[:n], **options), ((3,), trailing), strict=True):
                    assert (part.dtype, part.shape) == (object, (n,))
                    assert all(one.shape == (4, *shape) for one in part)
        model.recalibrate(SAME, FIELDS)
    left_out = TensorGPR(optimizer=None, descriptor=features).fit(SAME, FIELDS).predict_left_out()
    assert (left_out.dtype, left_out.shape) == (object, (5,))


@pytest.mark.parametrize("scoring", ["r2", "neg_root_mean_squared_error", "neg_mean_absolute_error"])
def test_scorers_by_name(scoring):
    model = MODELS["pipeline"]
    for y in (SCALARS, VECTORS):
        assert np.isfinite(cross_val_score(model(), FRAMES, y, cv=3, scoring=scoring)).all()
    # of more axes only our own: scikit-learn's refuse them, in its way
    with pytest.raises(ValueError, match="dim 3"):
        cross_val_score(model(), FRAMES, MATRICES, cv=3, scoring=scoring, error_score="raise")
    assert np.isfinite(cross_val_score(model(), FRAMES, MATRICES, cv=3, scoring=neg_frobenius_rmse)).all()


def test_what_has_a_label_but_no_prediction():
    model = make_pipeline(LambdaSOAP(**SOAP, center_species=["O"]), TensorKernelRidge(1e-6, per_atom=True))
    waters = MIXED[0::4]
    known = [np.where(np.arange(3) == 0, one, np.nan) for one in SUMS[0::4]]
    model.fit(waters, known)
    assert np.isfinite(model.score(waters, known))
    with pytest.raises(ValueError, match="y_pred of structure 0, atom 1 is NaN"):
        model.score(waters, SUMS[0::4])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ma.masked_array(np.ones(24), mask=np.arange(24) == 5), "nan for structure 5"),
        ([1.0] * 7 + [None] + [1.0] * 16, "nan for structure 7"),
        ([1.0] * 7 + [pd.NA] + [1.0] * 16, "nan for structure 7"),
        (np.where(np.arange(24) == 3, 1e300, 1.0), r"1e\+300 for structure 3"),
        (np.ones(24, dtype=bool), "booleans"),
        (["1"] * 24, "text"),
    ],
)
def test_weights_that_are_no_numbers(weight, message):
    for name in ("kernel", "sparse", "committee", "learned"):
        with pytest.raises((TypeError, ValueError), match=message):
            MODELS[name]().fit(FRAMES, VECTORS, sample_weight=weight)
