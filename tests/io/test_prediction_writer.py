import os

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from eqkernels.io import read, write

NAMES = ["H2O", "CH4", "NH3"]


@pytest.fixture
def frames():
    return [molecule(name) for name in NAMES]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def of_atoms(frames, rng, *shape):
    parts = np.empty(len(frames), dtype=object)
    parts[:] = [rng.normal(size=(len(atoms), *shape)) / 3 * 1e-7 for atoms in frames]
    return parts


@pytest.mark.parametrize(
    ("target", "rank"), [("energy", 0), ("dipole", 1), ("polarizability", 2), ("hyperpolarizability", 3)]
)
def test_structures_are_read_back_exactly(frames, rng, tmp_path, target, rank):
    y, std = rng.normal(size=(2, 3, *(3,) * rank)) / 3
    write(tmp_path / "p.xyz", frames, y, std, target=target)
    data = read(tmp_path / "p.xyz", target)
    np.testing.assert_array_equal(data.y, y)
    assert data.key == target
    np.testing.assert_array_equal(read(tmp_path / "p.xyz", key=f"{target}_std").y, std)
    for one, atoms in zip(data.frames, frames, strict=True):
        np.testing.assert_array_equal(one.positions, atoms.positions)
        assert one.get_chemical_symbols() == atoms.get_chemical_symbols()
        assert one.pbc.tolist() == atoms.pbc.tolist()


@pytest.mark.parametrize(("target", "shape"), [("charges", ()), ("forces", (3,)), ("shielding", (3, 3))])
def test_atoms_are_read_back_exactly(frames, rng, tmp_path, target, shape):
    y, std = of_atoms(frames, rng, *shape), of_atoms(frames, rng, *shape)
    y[1][2] = np.nan
    write(tmp_path / "p.xyz", frames, y, std, target=target)
    back, error_bars = read(tmp_path / "p.xyz", target), read(tmp_path / "p.xyz", key=f"{target}_std")
    for k in range(3):
        np.testing.assert_array_equal(back.y[k], y[k])
        np.testing.assert_array_equal(error_bars.y[k], std[k])


def test_stress_is_a_matrix_as_ase_has_it(rng, tmp_path):
    y = rng.normal(size=(2, 3, 3))
    y = y + y.swapaxes(1, 2)
    write(tmp_path / "p.xyz", [bulk("Si"), bulk("Cu")], y, target="stress")
    np.testing.assert_array_equal(read(tmp_path / "p.xyz", "stress").y, y)
    np.testing.assert_array_equal(ase.io.read(tmp_path / "p.xyz", 0).get_stress(voigt=False), y[0])
    with pytest.raises(ValueError, match="stress of structure 0 is not symmetric"):
        write(tmp_path / "p.xyz", [bulk("Si")], [np.arange(9.0).reshape(3, 3)], key="stress", per_atom=False)


def test_frames_keep_what_they_carry_and_are_not_changed(rng, tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.info.update(name="a b", run=3, flag=True, mu=rng.normal(size=3), table=[[1.0, 2.0], [3.0, 4.0]], pair=(1, 2))
    atoms.set_array("becs", rng.normal(size=(4, 3, 3)))
    atoms.set_array("site", np.array(["a", "b", "c", "d"]))
    atoms.set_array("spin", np.array([True, False, True, True]))
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_initial_charges(rng.normal(size=4))
    atoms.set_constraint(FixAtoms([0, 2]))
    voigt = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, energy=-1 / 3, forces=rng.normal(size=(4, 3)), stress=voigt)
    before, results = atoms.copy(), dict(atoms.calc.results)
    write(tmp_path / "p.xyz", [atoms], np.eye(3)[None], target="polarizability")
    assert atoms == before
    assert atoms.info.keys() == before.info.keys()
    assert atoms.calc.results.keys() == results.keys()
    back = ase.io.read(tmp_path / "p.xyz")
    for key in ("positions", "tags", "initial_charges", "spin"):
        np.testing.assert_array_equal(back.arrays[key], atoms.arrays[key])
    np.testing.assert_array_equal(back.arrays["becs"], atoms.arrays["becs"].reshape(4, 9))
    assert list(back.arrays["site"]) == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(back.cell, atoms.cell)
    assert (back.info["name"], back.info["run"], back.info["flag"]) == ("a b", 3, True)
    np.testing.assert_array_equal(back.info["mu"], atoms.info["mu"])
    np.testing.assert_array_equal(back.info["table"], atoms.info["table"])
    np.testing.assert_array_equal(back.get_stress(), voigt)
    assert back.get_potential_energy() == -1 / 3
    np.testing.assert_array_equal(back.calc.results["forces"], results["forces"])
    assert back.constraints[0].index.tolist() == [0, 2]


def test_several_predictions(frames, rng, tmp_path):
    mu, charges = rng.normal(size=(3, 3)), of_atoms(frames, rng)
    write(tmp_path / "p.xyz", frames, {"mu": mu, "charges": charges}, {"mu": np.abs(mu)})
    np.testing.assert_array_equal(read(tmp_path / "p.xyz", "dipole").y, mu)
    np.testing.assert_array_equal(read(tmp_path / "p.xyz", key="mu_std").y, np.abs(mu))
    np.testing.assert_array_equal(read(tmp_path / "p.xyz", "charges").y[2], charges[2])
    with pytest.raises(ValueError, match="std must be a dict with keys of predictions, which are mu"):
        write(tmp_path / "p.xyz", frames, {"mu": mu}, {"alpha": mu})
    with pytest.raises(ValueError, match="leave key and target out"):
        write(tmp_path / "p.xyz", frames, {"mu": mu}, key="mu")


def test_iterators_and_append(frames, rng, tmp_path):
    path, mu, forces = tmp_path / "p.xyz", rng.normal(size=(3, 3)), of_atoms(frames, rng, 3)
    write(path, iter(frames), iter(mu), (one for one in mu), target="dipole")
    write(path, frames[:1], mu[:1], mu[:1], target="dipole", append=True)
    np.testing.assert_array_equal(read(path, "dipole").y, mu[[0, 1, 2, 0]])
    write(path, frames, iter(forces), target="forces")
    np.testing.assert_array_equal(read(path, "forces").y[1], forces[1])
    with pytest.raises(ValueError, match="mu: write per_atom=True or per_atom=False"):
        write(path, frames, iter(mu), key="mu")


def test_the_file_that_is_read_may_be_written(frames, rng, tmp_path):
    path, mu = tmp_path / "p.xyz", rng.normal(size=(3, 3))
    ase.io.write(path, frames)
    write(path, ase.io.iread(path), mu, target="dipole")
    np.testing.assert_array_equal(read(path, "dipole").y, mu)
    write(tmp_path / "p.xyz.gz", frames, mu, target="dipole")
    np.testing.assert_array_equal(read(tmp_path / "p.xyz.gz", "dipole").y, mu)


def test_an_error_leaves_the_file_as_it_was(frames, tmp_path):
    path = tmp_path / "p.xyz"
    path.write_text("precious")
    for mu, message in (
        (np.zeros((2, 3)), "2 entries, there are more frames"),
        (np.zeros((4, 3)), r"more entries than there are frames \(3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            write(path, frames, mu, target="dipole")
        with pytest.raises(ValueError, match=message):
            write(path, frames, mu, target="dipole", append=True)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["p.xyz"]


def test_labels_are_not_overwritten(frames, tmp_path):
    frames[1].info["dipole"] = np.zeros(3)
    with pytest.raises(ValueError, match="structure 1 has something under 'dipole' already.*key='predicted_dipole'"):
        write(tmp_path / "p.xyz", frames, np.zeros((3, 3)), target="dipole")
    write(tmp_path / "p.xyz", frames, np.zeros((3, 3)), key="predicted_dipole")


def test_wrong_arguments(frames, tmp_path):
    path, mu = tmp_path / "p.xyz", np.zeros((3, 3))
    with pytest.raises(ValueError, match="target='i' is no property by name.*write key="):
        write(path, frames, mu, target="i")
    with pytest.raises(ValueError, match="target=None is no property"):
        write(path, frames, mu)
    for key in ("", "a b", "a:b", "pos", 3):
        with pytest.raises(ValueError, match=r"key=.* must be a text without blanks"):
            write(path, frames, mu, key=key)
    with pytest.raises(ValueError, match="not as 'p.db': end the name with .xyz"):
        write(tmp_path / "p.db", frames, mu, target="dipole")
    message = r"forces of structure 0, which has 5 atoms, has shape \(3,\), expected \(5, 3\): per_atom= says"
    with pytest.raises(ValueError, match=message):
        write(path, frames[1:], list(np.zeros((2, 3))), target="forces")
    with pytest.raises(ValueError, match=r"polarizability of structure 0.* has shape \(3,\), expected \(3, 3\)"):
        write(path, frames, mu, target="polarizability")
    with pytest.raises(ValueError, match=r"forces of structure 1.* has shape \(3,\), expected \(5, ...\)"):
        write(path, frames, mu, key="forces", per_atom=True)
    with pytest.raises(ValueError, match=r"dipole of structure 0, .* has shape \(\), expected \(3,\)"):
        write(path, frames, np.zeros(3), target="dipole")
    with pytest.raises(TypeError, match="dipole_std must have one entry for each frame, got float"):
        write(path, frames, mu, 0.1, target="dipole")
    with pytest.raises(ValueError, match="frames is empty"):
        write(path, iter([]), mu, target="dipole")
    with pytest.raises(TypeError, match="dipole of structure 0 is not numeric but text"):
        write(path, frames, ["a", "b", "c"], target="dipole")
    frames[2].info["note"] = "two\nlines"
    with pytest.raises(ValueError, match="structure 2 has a text with a line break"):
        write(path, frames, mu, target="dipole")


def test_what_would_make_a_file_that_cannot_be_read(frames, tmp_path):
    path, mu = tmp_path / "p.xyz", np.zeros((3, 3))
    frames[1].info["virial"] = np.zeros(6)
    with pytest.raises(ValueError, match=r"virial of structure 1 has shape \(6,\), ASE reads \(3, 3\) only"):
        write(path, frames, mu, target="dipole")
    frames[1].info["virial"] = np.eye(3).tolist()
    frames[2].set_array("site", np.array(["a", "b c", "d", "e"]))
    with pytest.raises(ValueError, match="site of structure 2 has a text with blanks"):
        write(path, frames, mu, target="dipole")
    write(path, frames[:2], mu[:2], target="dipole")
    np.testing.assert_array_equal(read(path, "virial").y[1], np.eye(3))
