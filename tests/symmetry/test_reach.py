"""Labels that symmetry forbids are named at fit, and structures without symmetry are passed over."""

import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, SparseTensorGPR, TensorKernelRidge, TensorRidge
from eqkernels.structures import StructureBatch, atom_counts, read_labels
from eqkernels.symmetry import point_group
from eqkernels.symmetry.reach import may_be_symmetric, unreachable_parts
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames

NAMES = ["C6H6", "CO2", "H2O", "NH3", "CH3OH", "CH4", "C2H4", "H2CO", "CH3Cl", "C2H6", "HCN", "SO2", "BF3", "PH3"]


def parts(frames, y, target, per_atom=None):
    batch = StructureBatch.from_frames(frames)
    return list(unreachable_parts(batch, read_labels(y, atom_counts(frames), target, per_atom)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rattled", [0.0, 0.2])
def test_what_is_passed_over_has_no_symmetry(name, rattled):
    atoms = transformed(molecule(name), random_rotation(3))
    atoms.rattle(rattled, seed=1)
    symmetric = point_group(atoms, tolerance=1e-3).order > 1
    possible = may_be_symmetric(atoms.positions, atoms.numbers)
    assert possible >= symmetric  # never False where there is symmetry
    if len(atoms) > 4:  # three atoms are in a plane, pyramids of four may be
        assert possible == symmetric


def test_sizes_of_forbidden_parts():
    frames = [transformed(molecule(name), random_rotation(k)) for k, name in enumerate(["CO2", "H2O", "NH3"])]
    random = np.random.default_rng(0)
    y = random.normal(size=(3, 3))
    found = {part.structure: part.size for part in parts(frames, y, "dipole")}
    assert found[0] == pytest.approx(np.linalg.norm(y[0]))
    axis = frames[1].positions[0] - frames[1].positions[1:].mean(axis=0)
    axis /= np.linalg.norm(axis)
    assert found[1] == pytest.approx(np.linalg.norm(y[1] - (y[1] @ axis) * axis))
    assert not parts(frames, np.array([1.0, 2.0, 3.0]), "energy")


def test_atoms_and_crystals():
    water = molecule("H2O")
    assert parts([water, molecule("CO2")], [[-0.8, 0.4, 0.4], [1.0, -0.5, -0.5]], "charges") == []
    (found,) = parts([water, molecule("CO2")], [[-0.8, 0.5, 0.3], [1.0, -0.5, -0.5]], "charges")
    assert (found.structure, found.size) == (0, pytest.approx(0.1))
    pytest.importorskip("spglib")
    salt = bulk("NaCl", "rocksalt", a=5.6)
    charges = np.array([np.eye(3), -np.eye(3)])
    assert parts([salt] * 2, [charges, charges * 1.1], "born_charge") == []
    charges = charges + np.diag([0.0, 0.0, 0.3])
    assert len(parts([salt] * 2, [charges, charges], "born_charge")) == 2


@pytest.mark.parametrize(
    "model",
    [
        TensorRidge(descriptor=LambdaSOAP(3.0, n_max=2, l_max=2)),
        SparseTensorGPR(descriptor=LambdaSOAP(3.0, n_max=2, l_max=2), n_points=20),
        make_pipeline(LambdaSOAP(3.0, n_max=2, l_max=2), TensorKernelRidge()),
    ],
    ids=["ridge", "sparse", "pipeline"],
)
def test_models_warn(model):
    frames = [molecule(name) for name in ("CH3OH", "H2O", "H2CO", "CO2")]
    y = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, -1.0], [0.0, 0.0, -2.0], [0.0, 0.0, 0.3]])
    with pytest.warns(UserWarning, match="label of structure 3 .*symmetry forbids.*i leaves nothing"):
        model.fit(frames, y)
    y[3] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="no relation|.*at the end of its range")
        model.fit(frames, y)


def test_random_structures_cost_little():
    frames = random_frames(0, n_frames=20, n_species=2, periodic=False)
    assert not any(may_be_symmetric(atoms.positions, atoms.numbers) for atoms in frames if len(atoms) > 4)
