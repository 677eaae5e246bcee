import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import eqkernels
from eqkernels import (
    CartesianTensor,
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.datasets import load_water_clusters

WATER = load_water_clusters()
FRAMES, ALPHAS = WATER.frames[:9], WATER.polarizability[:9]


def descriptor(**parameters):
    return LambdaSOAP(**{"cutoff": 3.0, "n_max": 2, "l_max": 2, **parameters})


def rmse_of_irreps(errors):
    blocks = CartesianTensor("ij=ji").to_irreps(errors)
    return {irrep: np.sqrt(np.mean(block**2)) for irrep, block in blocks.items()}


def facts(model):
    return eqkernels.summary(model).facts


@pytest.mark.parametrize("kind", [TensorRidge, TensorKernelRidge])
def test_leave_one_out_error_is_that_of_models_without_each_structure(kind):
    model = kind(descriptor=descriptor(), baseline="mean").fit(FRAMES, ALPHAS)
    errors = []
    for k in range(len(FRAMES)):
        others = [i for i in range(len(FRAMES)) if i != k]
        one = kind(model.alpha_, descriptor=descriptor(), baseline="mean", target="ij=ji")
        errors.append(ALPHAS[k] - one.fit([FRAMES[i] for i in others], ALPHAS[others]).predict([FRAMES[k]])[0])
    expected = rmse_of_irreps(np.array(errors))
    assert model.loo_rmse_ == pytest.approx(expected, rel=1e-6)
    centered = ALPHAS - np.mean(np.trace(ALPHAS, axis1=1, axis2=2)) / 3 * np.eye(3)
    assert model.spread_ == pytest.approx(rmse_of_irreps(centered), rel=1e-10)
    table = model.summary().rows
    assert table["2e"][1:] == [f"{expected['2e']:.3g}", f"{model.spread_['2e']:.3g}"]


@pytest.mark.parametrize("criterion", ["loo_error", "lml"])
def test_leave_one_out_error_of_gpr(criterion):
    model = TensorGPR(descriptor=descriptor(), baseline=None, criterion=criterion).fit(FRAMES, ALPHAS)
    assert model.loo_rmse_ == pytest.approx(rmse_of_irreps(ALPHAS - model.predict_left_out()), rel=1e-6)
    assert model.spread_ == pytest.approx(rmse_of_irreps(ALPHAS), rel=1e-10)


def test_what_is_not_known_is_left_out():
    chosen = TensorRidge(descriptor=descriptor()).fit(FRAMES, ALPHAS)
    assert chosen.summary().columns == ["alpha", "leave-one-out RMSE", "spread"]
    stated = chosen.set_params(alpha=1e-3).fit(FRAMES, ALPHAS)
    assert not hasattr(stated, "loo_rmse_")
    assert stated.summary().columns == ["alpha"]
    assert "kernel" not in facts(stated)
    assert set(eqkernels.summary(LambdaSOAP().fit(FRAMES)).facts) == {"species", "seconds", "memory"}


def test_text_of_a_pipeline():
    model = make_pipeline(descriptor(irreps="0e+2e"), TensorKernelRidge(1e-3, target="polarizability"))
    text = str(eqkernels.summary(model.fit(FRAMES, ALPHAS)))
    lines = [line.split(maxsplit=2) for line in text.splitlines()]
    assert text.startswith("TensorKernelRidge on LambdaSOAP\n")
    assert ["target", "ij=ji,", "of structures"] in lines
    assert ["irreps", "0e+2e"] in lines
    n_environments = sum(map(len, FRAMES))
    assert f"training set  9 structures, {n_environments} environments" in text
    assert ["species", "H", "O"] in lines
    assert "LambdaSOAP(cutoff=3.0, irreps='0e+2e', l_max=2, n_max=2)" in text
    assert ["kernel", "CovariantKernel()"] in lines
    assert ["2e", "0.001"] in lines
    assert repr(eqkernels.summary(model)) == text


def test_of_atoms_and_axial():
    model = TensorRidge(1e-3, descriptor=descriptor(irreps="0e+1e"), target="atomic_magnetic_moment")
    moments = [np.full((len(atoms), 3), np.nan) for atoms in FRAMES]
    for one in moments:
        one[0] = np.arange(3)
    found = facts(model.fit(FRAMES, moments))
    assert found["target"] == "i (axial: i), of atoms"
    assert found["training set"] == "9 structures, 9 environments"
    assert found["species"] == "O"


def test_sparse_models_count_all_parts():
    model = SparseTensorGPR(6, descriptor=descriptor(), random_state=0)
    model.partial_fit(FRAMES[:5], ALPHAS[:5]).partial_fit(FRAMES[5:], ALPHAS[5:])
    summary = model.summary()
    assert summary.facts["training set"] == "9 structures"
    assert sum(int(word) for word in summary.facts["sparse points"].replace(",", "").split()[1::2]) == 6
    assert summary.columns == ["noise", "signal variance"]
    assert summary.rows["0e"][0] == f"{model.noise_['0e']:.3g}"


def test_networks_and_committees():
    y = {"dipole": WATER.dipole[:9], "energy": WATER.energy[:9]}
    network = EquivariantNetworkRegressor(channels=2, max_iter=2, random_state=0).fit(FRAMES, y)
    summary = network.summary()
    assert summary.facts["target"] == "dipole: i, of structures; energy: scalar, of structures"
    assert summary.facts["training"].startswith("2 iterations, loss ")
    assert set(summary.rows) == {"dipole:1o", "energy:0e"}
    pipeline = make_pipeline(descriptor(n_max=1), TensorRidge(1e-3))
    committee = TensorCommittee(pipeline, n_estimators=3, random_state=0).fit(FRAMES, WATER.dipole[:9])
    found = facts(committee)
    assert found["members"] == "3 TensorRidge on LambdaSOAP"
    assert found["species"] == "H O"
    assert found["training set"] == "9 structures"


def test_a_precomputed_kernel_and_a_search():
    features = descriptor(irreps="0e+1o").fit_transform(FRAMES)
    kernel = eqkernels.CovariantKernel()(features, irrep="1o")
    search = GridSearchCV(TensorKernelRidge(kernel="precomputed"), {"alpha": [1e-3, 1e-2]}, cv=3)
    assert facts(search.fit(kernel, WATER.dipole[:9]))["training set"] == "9 structures"


def test_time_and_memory():
    model = TensorRidge(1e-3, descriptor=descriptor()).fit(FRAMES, ALPHAS)
    assert 0 < model.fit_cost_["seconds"] < 600
    assert 2**24 < model.fit_cost_["memory"] < 2**40
    assert model.summary().facts["seconds"] == f"{model.fit_cost_['seconds']:.3g} for the fit"


def test_before_the_fit():
    with pytest.raises(NotFittedError):
        TensorRidge().summary()
    assert "eqkernels-summary" not in TensorRidge()._repr_html_()


def test_notebooks_show_what_scikit_learn_shows_and_the_summary():
    model = TensorRidge(1e-3, descriptor=descriptor()).fit(FRAMES, ALPHAS)
    for html in (model._repr_html_(), model._repr_mimebundle_()["text/html"]):
        assert "sk-container-id" in html
        assert "<tr><th>2e</th><td>0.001</td></tr>" in html
        assert "irreps=&#x27;1x0e+1x2e" in html  # escaped
    with config_context(display="text"):
        assert not hasattr(model, "_repr_html_")
        assert list(model._repr_mimebundle_()) == ["text/plain"]
    pipeline = make_pipeline(descriptor(), TensorRidge(1e-3)).fit(FRAMES, ALPHAS)
    assert "sk-container-id" in pipeline._repr_html_()
    assert eqkernels.summary(pipeline)._repr_html_().count("<table>") == 2
