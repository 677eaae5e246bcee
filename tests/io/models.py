"""One small fitted model of every kind, and what it predicts."""

import warnings

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP,
    Bispectrum,
    CartesianTensor,
    CovariantKernel,
    EquivariantNetworkRegressor,
    EquivariantPCA,
    EquivariantUnion,
    FeatureSelection,
    Irreps,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TholePolarizability,
)
from eqkernels.datasets import load_water_clusters
from eqkernels.kernels import Restricted

WATER = load_water_clusters()
TRAIN = slice(0, 10)


def descriptor(**parameters):
    return LambdaSOAP(**{"cutoff": 3.0, "n_max": 2, "l_max": 2, **parameters})


def union(**parameters):
    return EquivariantUnion([("near", descriptor(**parameters)), ("far", descriptor(cutoff=4.0, **parameters))])


def copper(n, seed):
    frames = [bulk("Cu", cubic=True) for _ in range(n)]
    for k, atoms in enumerate(frames):
        atoms.calc = EMT()
        atoms.rattle(0.1, seed=seed + k)
    return frames


def _ridge(frames):
    return TensorRidge(descriptor=descriptor(), target="polarizability").fit(frames, WATER.polarizability[TRAIN])


def _kernel_ridge(frames):
    return make_pipeline(descriptor(irreps="0e+1o"), TensorKernelRidge()).fit(frames, WATER.dipole[TRAIN])


def _kernel_ridge_of_atoms(frames):
    model = TensorKernelRidge(1e-6, kernel=CovariantKernel(zeta=1), descriptor=descriptor(l_max=1), target="shielding")
    return model.fit(frames[:3], WATER.shielding[:3])


def _kernels_of_parts(frames):
    kernel = Restricted(CovariantKernel(), part="near") + 0.5 * Restricted(CovariantKernel(), center_species="O")
    model = TensorKernelRidge(1e-6, kernel=kernel, descriptor=union(n_max=1, l_max=1), baseline=None)
    return model.fit(frames[:4], WATER.polarizability[:4])


def _product_of_kernels(frames):
    kernel = Restricted(CovariantKernel(), center_species="O") * CovariantKernel(zeta=1)
    return TensorKernelRidge(1e-6, kernel=kernel, descriptor=descriptor()).fit(frames[:5], WATER.energy[:5])


def _gpr(frames):
    kernel = CovariantKernel(zeta_bounds=(1, 3), aggregate="mean")
    model = TensorGPR(kernel, descriptor=descriptor(l_max=1), random_state=np.random.RandomState(0))
    return model.fit(frames[:6], WATER.polarizability[:6])


def _gpr_of_atoms(frames):
    model = TensorGPR(1.0 * CovariantKernel() + 1.0 * CovariantKernel(zeta=1), descriptor=descriptor(l_max=1))
    return model.fit(frames[1:3], WATER.electric_field_gradient[1:3])


def _sparse_gpr(frames):
    model = SparseTensorGPR(n_points=8, descriptor=descriptor(l_max=1), random_state=0, baseline="mean")
    return model.fit(frames, WATER.polarizability[TRAIN])


def _sparse_gpr_with_forces(_):
    frames = copper(4, 0)
    forces = [atoms.get_forces() for atoms in frames]
    noise = {"noise": 1e-4, "force_noise": 1e-3}
    model = SparseTensorGPR(n_points=8, descriptor=descriptor(l_max=1, cutoff=4.0), random_state=0, **noise)
    return model.fit(frames, [atoms.get_potential_energy() for atoms in frames], forces=forces)


def _network(frames):
    y = {"dipole": WATER.dipole[TRAIN], "forces": WATER.forces[TRAIN]}
    return EquivariantNetworkRegressor(channels=2, max_iter=2, random_state=0).fit(frames, y)


def _cluster_expansion(frames):
    model = EquivariantNetworkRegressor(architecture="ace", channels=2, l_max=1, max_iter=2, random_state=0)
    return model.fit(frames, WATER.energy[TRAIN])


def _committee(frames):
    model = TensorCommittee(TensorRidge(1e-4, descriptor=descriptor()), n_estimators=3, random_state=0)
    return model.fit(frames, WATER.dipole[TRAIN])


def _committee_of_pipelines(frames):
    model = make_pipeline(descriptor(n_max=1, l_max=1), TensorKernelRidge(1e-4))
    return TensorCommittee(model, n_estimators=2, random_state=0).fit(frames, WATER.dipole[TRAIN])


def _selected_features(frames):
    embedding = {"H": [1.0, 0.0], "O": [0.5, 1.0]}
    both = EquivariantUnion([("plain", descriptor()), ("embedded", descriptor(species_embedding=embedding))])
    model = make_pipeline(both, FeatureSelection(6), EquivariantPCA(3), TensorRidge(target=CartesianTensor("ij=ji")))
    return model.fit(frames, WATER.polarizability[TRAIN])


def _body_orders(frames):
    features = NBodyFeatures(cutoff=3.0, n_max=2, l_max=1, nu=3, n_components=4)
    return make_pipeline(features, TensorRidge()).fit(frames, WATER.dipole[TRAIN])


def _transformers(frames):
    """Features with learned contractions, none of them a regressor."""
    return SOAP(cutoff=3.0, n_max=3, l_max=2, n_optimal=2, n_species_channels=1, aggregate="mean").fit(frames)


def _bispectrum(frames):
    return make_pipeline(Bispectrum(cutoff=3.0, n_max=1, l_max=1), TensorRidge()).fit(frames, WATER.energy[TRAIN])


def _expansion(frames):
    return SphericalExpansion(cutoff=3.0, n_max=2, l_max=1).fit(frames)


def _thole(frames):
    return TholePolarizability("linear").fit(frames, WATER.polarizability[TRAIN])


def _delta_of_thole(frames):
    model = TensorGPR(descriptor=descriptor(l_max=1), baseline=TholePolarizability(), optimizer=None)
    return model.fit(frames, WATER.polarizability[TRAIN])


def _delta_of_a_fitted_model(frames):
    baseline = make_pipeline(descriptor(n_max=1), TensorRidge(1e-3)).fit(frames, WATER.polarizability[TRAIN])
    return TensorRidge(1e-4, descriptor=descriptor(), baseline=baseline).fit(frames, WATER.polarizability[TRAIN])


def _delta_of_a_network(frames):
    network = EquivariantNetworkRegressor(channels=2, max_iter=2, baseline=TholePolarizability(), random_state=0)
    return network.fit(frames, WATER.polarizability[TRAIN])


def _declared_irreps(frames):
    model = TensorRidge(descriptor=descriptor(irreps=Irreps("0e+2e")), baseline="mean", aggregate="mean")
    return model.fit(
        frames, WATER.quadrupole[TRAIN] - np.trace(WATER.quadrupole[TRAIN], axis1=1, axis2=2)[:, None, None]
    )


MAKERS = {
    name.removeprefix("_"): make
    for name, make in list(globals().items())
    if getattr(make, "__code__", None) is not None and name.startswith("_") and not name.startswith("__")
}


def fitted(name):
    """The model of a name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[name](WATER.frames[TRAIN])


def others(name):
    """Structures that a model was not fitted to."""
    return copper(2, 10) if name == "sparse_gpr_with_forces" else WATER.frames[20:24]


def outcomes(model, frames):
    """All that a model predicts, as one flat array by what it is."""
    if not hasattr(model, "predict"):
        features = model.transform(frames)
        return {"features": _flat(features.blocks if hasattr(features, "blocks") else features)}
    found = {"predicted": _flat(model.predict(frames))}
    if hasattr(model, "recalibrate"):
        found["std"] = _flat(model.predict(frames, return_std=True)[1])
    if "forces" in getattr(model, "derivative_totals_", ()):
        found["forces"] = _flat(model.predict_forces(frames))
    if hasattr(model, "predict_left_out"):
        found["left out"] = _flat(model.predict_left_out())
    return found


def _flat(values):
    if isinstance(values, dict):
        return np.concatenate([_flat(values[key]) for key in sorted(values)])
    return np.concatenate([np.ravel(one) for one in values]).astype(float)
