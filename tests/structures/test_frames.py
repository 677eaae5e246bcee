"""Frames in any container, read once and the same by every class; messages that name the right structure."""

import warnings

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import molecule
from ase.db import connect
from ase.io import Trajectory
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP,
    EquivariantNetwork,
    EquivariantNetworkRegressor,
    EquivariantUnion,
    LambdaSOAP,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.structures import StructureBatch
from tests.conftest import water_set

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 1}


def soap():
    return LambdaSOAP(**SMALL)


NETWORK = {"channels": 2, "n_layers": 1, "max_iter": 2, "random_state": 0}
MODELS = {
    "TensorRidge": lambda: TensorRidge(descriptor=soap()),
    "TensorKernelRidge": lambda: TensorKernelRidge(descriptor=soap()),
    "TensorGPR": lambda: TensorGPR(descriptor=soap()),
    "SparseTensorGPR": lambda: SparseTensorGPR(5, descriptor=soap(), random_state=0),
    "TensorCommittee": lambda: TensorCommittee(TensorKernelRidge(descriptor=soap()), n_estimators=3, random_state=0),
    "EquivariantNetworkRegressor": lambda: EquivariantNetworkRegressor(**NETWORK),
    "pipeline": lambda: make_pipeline(soap(), TensorKernelRidge()),
    "committee of pipelines": lambda: TensorCommittee(
        make_pipeline(soap(), TensorRidge()), n_estimators=3, random_state=0
    ),
    "of a union": lambda: TensorRidge(
        descriptor=EquivariantUnion([("a", soap()), ("b", soap().set_params(cutoff=4.0))])
    ),
}
TRANSFORMERS = {
    "SphericalExpansion": lambda: SphericalExpansion(**SMALL),
    "SOAP": lambda: SOAP(**SMALL),
    "LambdaSOAP": soap,
    "EquivariantUnion": lambda: EquivariantUnion([("a", soap())]),
    "EquivariantNetwork": lambda: EquivariantNetwork(**NETWORK),
}


@pytest.fixture(scope="module")
def data():
    frames, vectors, _, _ = water_set(12, seed=5)
    return frames, vectors


def containers(frames, folder):
    """The same structures as users have them."""
    array = np.empty(len(frames), dtype=object)
    array[:] = frames
    with Trajectory(folder / "frames.traj", "w") as file:
        for atoms in [*frames, molecule("CH4")]:
            file.write(atoms)
    with connect(folder / "frames.db") as database:
        for atoms in frames:
            database.write(atoms)
    index = [f"s{k}" for k in range(len(frames))][::-1]
    return {
        "tuple": lambda: tuple(frames),
        "object array": lambda: array,
        "Series": lambda: pd.Series(frames, index=index),
        "column of a table": lambda: pd.DataFrame({"atoms": frames, "x": 1.0}, index=index)["atoms"],
        "part of a trajectory": lambda: Trajectory(folder / "frames.traj")[: len(frames)],
        "rows of a database": lambda: list(connect(folder / "frames.db").select()),
        "batch": lambda: StructureBatch.from_frames(frames),
        "generator": lambda: (atoms for atoms in frames),
        "selected rows": lambda: connect(folder / "frames.db").select(),
    }


@pytest.mark.parametrize("name", MODELS)
def test_models_take_any_container(name, data, tmp_path):
    frames, y = data
    reference = MODELS[name]().fit(frames, y)
    expected = reference.predict(frames)
    for what, make in containers(frames, tmp_path).items():
        np.testing.assert_allclose(reference.predict(make()), expected, rtol=0, atol=1e-12, err_msg=what)
        model = MODELS[name]().fit(make(), y)
        np.testing.assert_allclose(model.predict(frames), expected, rtol=0, atol=1e-8, err_msg=what)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_take_any_container(name, data, tmp_path):
    frames, _ = data

    def blocks(features):
        return getattr(features, "blocks", {"": features})

    expected = blocks(TRANSFORMERS[name]().fit(frames).transform(frames))
    for what, make in containers(frames, tmp_path).items():
        for features in (
            TRANSFORMERS[name]().fit_transform(make()),
            TRANSFORMERS[name]().fit(make()).transform(make()),
        ):
            for key, block in blocks(features).items():
                np.testing.assert_array_equal(block, expected[key], err_msg=what)


def test_cross_validation_of_object_arrays(data):
    frames, y = data
    array = np.empty(len(frames), dtype=object)
    array[:] = frames
    model = make_pipeline(soap(), TensorKernelRidge())
    np.testing.assert_allclose(cross_val_predict(model, array, y, cv=3), cross_val_predict(model, frames, y, cv=3))


NO_FRAMES = {
    "atoms": (lambda: molecule("H2O"), TypeError, "single ase.Atoms: wrap it in a list"),
    "array of atoms": (lambda: np.array([molecule("H2O")] * 3, dtype=object), TypeError, "pass the list of ase.Atoms"),
    "list of atoms": (lambda: list(molecule("H2O")), TypeError, "made of single atoms"),
    "path": (lambda: "water.xyz", TypeError, "ase.io.read"),
    "dict": (lambda: {"a": molecule("H2O")}, TypeError, "must be a sequence of ase.Atoms, got dict"),
    "table": (
        lambda: pd.DataFrame({"atoms": [molecule("H2O")]}),
        TypeError,
        "the columns \\['atoms'\\]: pass the column",
    ),
    "number": (lambda: 3, TypeError, "must be a sequence of ase.Atoms, got int"),
    "None": (lambda: None, TypeError, "must be a sequence of ase.Atoms, got NoneType"),
    "positions": (lambda: np.zeros((3, 3)), TypeError, "structure 0 is a ndarray, expected ase.Atoms"),
    "array without axes": (lambda: np.array(None), TypeError, "must be a sequence"),
    "nothing": (lambda: [], ValueError, "no structures \\(0 samples\\): give at least one"),
    "spent generator": (lambda: iter([]), ValueError, "an iterator can be read only once, make a list of it"),
    "a string among them": (lambda: [molecule("H2O"), "H2O"], TypeError, "structure 1 is a str, expected ase.Atoms"),
    "no atoms": (lambda: [molecule("H2O"), Atoms()], ValueError, "structure 1 has no atoms: remove it"),
}


@pytest.mark.parametrize("what", NO_FRAMES)
def test_what_are_no_frames(what, data):
    """The same words by every class, at fit and afterwards."""
    make, error, message = NO_FRAMES[what]
    for name, model in {**MODELS, **TRANSFORMERS}.items():
        with pytest.raises(error, match=message):
            model().fit(make(), data[1][:1])
        fitted = model().fit(*data)
        with pytest.raises(error, match=message):
            fitted.predict(make()) if name in MODELS else fitted.transform(make())


def spoiled(how):
    frames, vectors, _, _ = water_set(600, seed=1)
    if how == "nan":
        frames[567].positions[1, 2] = np.nan
    elif how == "coincide":
        frames[567].positions[1] = frames[567].positions[2]
    elif how == "species":
        frames[567].numbers[1] = 9
    elif how == "cell":
        frames[567].set_cell([5, 5, 0])
        frames[567].pbc = True
    return frames, vectors


WORDS = {
    "nan": "structure 567, atom 1",
    "coincide": "structure 567: atoms 1 and 2",
    "species": "first in structure 567, atom 1",
    "cell": "structure 567 is periodic along direction 2",
}


@pytest.mark.parametrize("how", WORDS)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "TensorGPR"])
def test_messages_name_the_structure(name, how):
    """Also beyond the number of structures that are worked on at once."""
    frames, y = spoiled(how)
    model = MODELS[name]().fit(frames[:20], y[:20])
    with pytest.raises(ValueError, match=WORDS[how]):
        model.predict(frames)
    if how != "species" and name in ("SparseTensorGPR", "TensorRidge"):
        with pytest.raises(ValueError, match=WORDS[how]):
            MODELS[name]().fit(frames, y)


@pytest.mark.parametrize("name", ["TensorRidge", "TensorKernelRidge", "SparseTensorGPR"])
def test_messages_name_the_structure_of_features(name):
    frames, y = spoiled("species")
    descriptor = LambdaSOAP(**SMALL, neighbor_species=["H", "O", "F"], center_species=["H", "O", "F"]).fit(frames)
    model = MODELS[name]().fit(descriptor.transform(frames[:20]), y[:20])
    with pytest.raises(ValueError, match="species F .first in structure 567, atom 1. was not a center"):
        model.predict(descriptor.transform(frames))


@pytest.mark.parametrize("how", ["nan", "coincide", "cell"])
def test_trajectories_are_read_in_parts(how, tmp_path):
    frames, y = spoiled(how)
    with Trajectory(tmp_path / "w.traj", "w") as file:
        for atoms in frames:
            file.write(atoms)
    model = MODELS["SparseTensorGPR"]()
    with pytest.raises(ValueError, match=WORDS[how]):
        model.fit(Trajectory(tmp_path / "w.traj"), y)
    model.fit(frames[:20], y[:20])
    with pytest.raises(ValueError, match=WORDS[how]):
        model.predict(Trajectory(tmp_path / "w.traj"))


def test_streams_name_the_structure():
    frames, _ = spoiled("nan")
    descriptor = soap().fit(frames[:5])
    with pytest.raises(ValueError, match=WORDS["nan"]):
        list(descriptor.iter_transform(iter(frames), memory_limit=2**16))


@pytest.mark.parametrize("name", [*MODELS, *TRANSFORMERS])
def test_warnings_come_once_and_point_here(name, data):
    frames, y = [atoms.copy() for atoms in data[0]], data[1]
    frames[3].pbc = True  # without a cell: a molecule
    model = {**MODELS, **TRANSFORMERS}[name]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(frames, y)
        model.predict(frames) if name in MODELS else model.transform(frames)
    about_cells = [one for one in caught if "flagged periodic but have no cell" in str(one.message)]
    assert len(about_cells) == 2  # fit, and what follows it
    assert all(one.filename == __file__ for one in about_cells)
    assert "first: 3" in str(about_cells[0].message)


def test_batches_are_sequences(data):
    frames, _ = data
    batch = StructureBatch.from_frames(frames)
    assert len(batch) == len(frames)
    assert [atoms == other for atoms, other in zip(batch, frames, strict=True)] == [True] * len(frames)
    assert batch[-1] == frames[-1]
    np.testing.assert_array_equal(batch[2:5].positions, np.concatenate([a.positions for a in frames[2:5]]))
    np.testing.assert_array_equal(batch[[7, 1]].positions, np.concatenate([frames[k].positions for k in (7, 1)]))
    assert batch[3:][[2, 0]][1:].where(0) == "structure 3, atom 0"
