import os
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from sklearn.model_selection import GroupKFold

from eqkernels import CartesianTensor
from eqkernels.io import read
from eqkernels.structures import read_labels

DATA = Path(os.environ.get("EQKERNELS_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
NAMES = ["H2O", "CH4", "NH3", "H2O"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def molecules(names=NAMES):
    return [molecule(name) for name in names]


def labelled(values, key="alpha", names=NAMES):
    frames = molecules(names)
    for atoms, value in zip(frames, values, strict=True):
        if value is not None:
            atoms.info[key] = value
    return frames


def saved(tmp_path, frames, name="a.xyz", **arguments):
    path = tmp_path / name
    ase.io.write(path, frames, **arguments)
    return path


@pytest.mark.parametrize(
    ("rank", "target"),
    [(1, "dipole"), (2, "polarizability"), (3, "hyperpolarizability"), (4, "second_hyperpolarizability")],
)
@pytest.mark.parametrize("flat", [True, False])
def test_numbers_in_the_comment_line_row_by_row(tmp_path, rng, rank, target, flat):
    y = rng.normal(size=(4, *(3,) * rank))
    path = saved(tmp_path, labelled([one.ravel() if flat else one for one in y], key="x"))
    data = read(path, target, key="x")
    np.testing.assert_array_equal(data.y, y)
    assert (data.target, data.key, data.per_atom, data.units, data.groups) == (target, "x", False, None, None)
    assert [atoms.get_chemical_formula() for atoms in data.frames] == ["H2O", "CH4", "H3N", "H2O"]
    assert data.path == [str(path)]


def test_results_of_a_calculator(tmp_path, rng):
    frames = [bulk("Si"), bulk("Cu", cubic=True)]
    stress, forces, dipoles = [], [], rng.normal(size=(2, 3))
    for k, atoms in enumerate(frames):
        stress.append(np.add(*[one := rng.normal(size=(3, 3)), one.T]))
        forces.append(rng.normal(size=(len(atoms), 3)).round(8))
        voigt = full_3x3_to_voigt_6_stress(stress[-1])
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * k, forces=forces[-1], stress=voigt, dipole=dipoles[k])
    for name in ("a.xyz", "a.traj", "a.db"):
        path = saved(tmp_path, frames, name)
        np.testing.assert_array_equal(read(path, "energy").y, [0.0, -1.5])
        np.testing.assert_allclose(read(path, "stress").y, stress, atol=1e-15)
        np.testing.assert_array_equal(read(path, "dipole").y, dipoles)
        data = read(path, "forces")
        assert data.per_atom is True
        assert data.y.shape == (2,)
        for one, expected in zip(data.y, forces, strict=True):
            np.testing.assert_array_equal(one, expected)
        assert data.units == (None if name == "a.xyz" else "eV/Angstrom")  # xyz files hold what their author wrote


def test_per_atom_columns(tmp_path, rng):
    frames = molecules()
    tensors = [rng.normal(size=(len(atoms), 9)).round(8) for atoms in frames]
    for atoms, one in zip(frames, tensors, strict=True):
        atoms.set_array("becs", one)
    data = read(saved(tmp_path, frames), "born_charge")
    assert data.y.dtype == object
    for one, expected in zip(data.y, tensors, strict=True):
        np.testing.assert_array_equal(one, expected.reshape(-1, 3, 3))
    labels = read_labels(data.y, np.array([3, 5, 4, 3]), data.target, data.per_atom)
    np.testing.assert_array_equal(labels.values, np.concatenate(tensors).reshape(-1, 3, 3))


def test_missing_labels_are_nan(tmp_path):
    path = saved(tmp_path, labelled([np.eye(3), None, 2 * np.eye(3), None]))
    data = read(path, "polarizability")
    np.testing.assert_array_equal(np.isnan(data.y).all(axis=(1, 2)), [False, True, False, True])
    np.testing.assert_array_equal(data.y[2], 2 * np.eye(3))
    frames = molecules()
    frames[1].calc = SinglePointCalculator(frames[1], forces=np.ones((5, 3)))
    data = read(saved(tmp_path, frames), "forces")
    assert [one.shape for one in data.y] == [(3, 3), (5, 3), (4, 3), (3, 3)]
    assert [bool(np.isnan(one).all()) for one in data.y] == [True, False, True, True]


def test_only_label_without_target(tmp_path):
    frames = labelled([np.eye(3)] * 4)
    for atoms in frames:
        atoms.info["name"] = "a"
    data = read(saved(tmp_path, frames))
    assert (data.target, data.key) == ("polarizability", "alpha")
    frames[0].info["mu"] = np.ones(3)
    with pytest.raises(
        ValueError, match=r"2 labels: write key='alpha' or key='mu'\n  alpha \(info.*polarizability\n  mu"
    ):
        read(saved(tmp_path, frames))


def test_wrong_key_lists_those_that_are_there(tmp_path):
    path = saved(tmp_path, labelled([np.eye(3)] * 4, key="polarisation_tensor"))
    with pytest.raises(
        ValueError, match=r"no label under the key 'polarisationtensor'; did you mean 'polarisation_tensor'"
    ) as error:
        read(path, key="polarisationtensor")
    assert "polarisation_tensor (info, shape (3, 3), in 4 of 4 structures): tensor of rank 2" in str(error.value)
    with pytest.raises(ValueError, match="no label for target='dipole'; write key="):
        read(path, "dipole")
    with pytest.raises(ValueError, match="structures only, no label"):
        read(saved(tmp_path, molecules()), "dipole")


def test_target_as_formula(tmp_path):
    path = saved(tmp_path, labelled([np.eye(3).ravel()] * 4, key="t"))
    for target in ("ij=ji", CartesianTensor("ij=ji")):
        data = read(path, target)
        assert data.y.shape == (4, 3, 3)
        assert data.target is target
    with pytest.raises(ValueError, match="no label for target='i'"):
        read(path, "i")
    with pytest.raises(ValueError, match="did you mean 'polarizability'"):
        read(path, "polarizabilty")
    path = saved(tmp_path, labelled([np.eye(3).ravel()] * 4, key="alpha"))
    with pytest.raises(
        ValueError, match="target='alpha' is a key of .*a.xyz, but no property by name: write key='alpha'"
    ):
        read(path, "alpha")
    with pytest.raises(TypeError, match="key=3 must be a text"):
        read(path, key=3)


def test_mace_keys_and_the_choice_between_two(tmp_path):
    frames = labelled([-1.0, -2.0, -3.0, -4.0], key="REF_energy")
    assert read(saved(tmp_path, frames), "energy").key == "REF_energy"
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, free_energy=0.0)
    path = saved(tmp_path, frames)
    with pytest.raises(ValueError, match="write key='REF_energy' or key='energy'"):
        read(path, "energy")
    np.testing.assert_array_equal(read(path, "energy", key="REF_energy").y, [-1, -2, -3, -4])
    np.testing.assert_array_equal(read(path, "energy", key="energy").y, np.zeros(4))


def test_one_key_in_two_places(tmp_path):
    frames = molecules()
    for k, atoms in enumerate(frames):
        atoms.info["q"] = 1.5 * k
        atoms.set_array("q", np.full(len(atoms), 0.25))
    path = saved(tmp_path, frames)
    with pytest.raises(ValueError, match="write key='info:q' or key='arrays:q'"):
        read(path, key="q")
    np.testing.assert_array_equal(read(path, key="info:q").y, [0, 1.5, 3, 4.5])
    np.testing.assert_array_equal(read(path, key="q", per_atom=False).y, [0, 1.5, 3, 4.5])
    assert read(path, "charges", key="q").y[1].tolist() == [0.25] * 5


def test_two_readings_are_never_guessed(tmp_path, rng):
    y = rng.normal(size=(2, 3, 3))
    path = saved(tmp_path, labelled(y, key="x", names=["H2O", "H2O"]))
    with pytest.raises(
        ValueError, match=r"shape \(3, 3\), and all structures have 3 atoms.*2 ways.*per_atom=False.*per_atom=True"
    ):
        read(path, key="x")
    np.testing.assert_array_equal(read(path, key="x", per_atom=False).y, y)
    np.testing.assert_array_equal(read(path, "polarizability", key="x").y, y)
    forces = read(path, "forces", key="x").y
    assert forces.dtype == object
    np.testing.assert_array_equal(forces[1], y[1])
    path = saved(tmp_path, labelled([np.arange(9.0)], key="x", names=["CH3CH2OH"]))
    with pytest.raises(ValueError, match="2 ways"):  # scalars of 9 atoms, or a matrix
        read(path, key="x")


def test_place_and_target_contradict(tmp_path):
    frames = molecules()
    for atoms in frames:
        atoms.set_array("alpha", np.zeros((len(atoms), 9)))
    path = saved(tmp_path, frames)
    with pytest.raises(ValueError, match=r"'alpha'.*belongs to atoms \(arrays\).*per_atom=True if that is meant"):
        read(path, "polarizability")
    assert read(path, "polarizability", per_atom=True).y[0].shape == (3, 3, 3)
    assert read(path, "atomic_polarizability", key="alpha").y[0].shape == (3, 3, 3)


def test_shape_that_does_not_fit(tmp_path):
    path = saved(tmp_path, labelled([np.zeros(3)] * 4))
    with pytest.raises(
        ValueError,
        match=r"structure 0 of .*a.xyz has shape \(3,\), expected one matrix of each structure, of shape \(3, 3\) or \(9,\)",
    ):
        read(path, "polarizability", key="alpha")
    path = saved(tmp_path, labelled([np.zeros(6)] * 4))
    with pytest.raises(ValueError, match="Voigt's notation, in an order that the file does not state"):
        read(path, "polarizability")
    path = saved(tmp_path, labelled([np.zeros(9), np.zeros(9), np.zeros(3), None]))
    with pytest.raises(
        ValueError, match=r"structure 2 of .*a.xyz has shape \(3,\), that of structure 0 .* has shape \(9,\)"
    ):
        read(path, "polarizability")


def test_text_where_numbers_belong(tmp_path):
    path = saved(tmp_path, labelled([np.eye(3), np.eye(3), "1.0 2.0 x", None]))
    with pytest.raises(ValueError, match="'alpha' of structure 2 of .* is text, '1.0 2.0 x': numbers are needed"):
        read(path, "polarizability")


def test_several_files_are_groups(tmp_path):
    first = saved(tmp_path, labelled([np.eye(3)] * 2, names=["H2O", "CH4"]), "a.xyz")
    second = saved(tmp_path, labelled([2 * np.eye(3)] * 3, names=["H2O", "CH4", "CH4"]), "b.xyz")
    data = read([first, str(second)])
    assert data.groups.tolist() == [str(first)] * 2 + [str(second)] * 3
    np.testing.assert_array_equal(data.y[:, 0, 0], [1, 1, 2, 2, 2])
    for train, test in GroupKFold(2).split(data.frames, data.y, data.groups):
        assert not set(data.groups[train]) & set(data.groups[test])
    assert read([first, second], index="0").y.shape == (2, 3, 3)  # of each file
    broken = saved(tmp_path, labelled([np.zeros(3)], names=["H2O"]), "c.xyz")
    with pytest.raises(ValueError, match=r"structure 0 of .*c.xyz .*has shape \(3,\)"):
        read([first, broken], "polarizability")


def test_groups(tmp_path):
    frames = labelled([np.eye(3)] * 4)
    for k, atoms in enumerate(frames):
        atoms.info["run"] = ["1", "b", "b", "1"][k]
    path = saved(tmp_path, frames)
    assert read(path).groups is None
    assert read(path, groups="composition").groups.tolist() == ["H2O", "CH4", "H3N", "H2O"]
    assert read(path, groups="run").groups.tolist() == ["1", "b", "b", "1"]
    assert set(read(path, groups="file").groups) == {str(path)}
    with pytest.raises(ValueError, match="groups='runs': no structure has this key; there are alpha, run"):
        read(path, groups="runs")
    del frames[2].info["run"]
    with pytest.raises(ValueError, match="structure 2 of .*a.xyz has no such key"):
        read(saved(tmp_path, frames), groups="run")
    with pytest.raises(TypeError, match="groups=3 must be"):
        read(path, groups=3)


def test_units_that_the_file_states(tmp_path):
    frames = labelled([np.eye(3)] * 4)
    for atoms in frames:
        atoms.info["alpha_unit"] = "bohr^3"
    assert read(saved(tmp_path, frames), "polarizability").units == "bohr^3"
    frames[2].info["alpha_unit"] = "A^3"
    with pytest.raises(ValueError, match=r"'bohr\^3' in structure 0 of .*a.xyz and 'A\^3' in structure 2"):
        read(saved(tmp_path, frames), "polarizability")


def test_index_and_single_structures(tmp_path):
    path = saved(tmp_path, labelled([k * np.eye(3) for k in range(4)]))
    assert read(path, index=2).y[:, 0, 0].tolist() == [2]
    assert read(path, index="-1").y[:, 0, 0].tolist() == [3]
    assert read(path, index=slice(1, 3)).y[:, 0, 0].tolist() == [1, 2]
    single = read(saved(tmp_path, labelled([np.eye(3)], names=["H2O"]), "one.xyz"))
    assert single.y.shape == (1, 3, 3)
    assert len(single.frames) == 1


def test_a_separate_file_is_indexed_as_the_frames(tmp_path, rng):
    path, y = saved(tmp_path, molecules()), rng.normal(size=(4, 3, 3))
    np.save(tmp_path / "alpha.npy", y)
    data = read(path, "polarizability", labels=tmp_path / "alpha.npy", index="1::2")
    np.testing.assert_array_equal(data.y, y[1::2])
    assert [atoms.get_chemical_formula() for atoms in data.frames] == ["CH4", "H2O"]
    assert data.key == "alpha"
    with pytest.raises(ValueError, match="no label under the key 'mu'"):
        read(path, key="mu", labels=tmp_path / "alpha.npy")


def test_database_with_data_and_key_value_pairs(tmp_path, rng):
    y, shielding = rng.normal(size=(4, 3, 3)), [rng.normal(size=(len(one), 3, 3)) for one in molecules()]
    with ase.db.connect(tmp_path / "a.db") as database:
        for k, atoms in enumerate(molecules()):
            database.write(atoms, data={"alpha": y[k], "shielding": shielding[k]}, run=f"r{k}", gap=0.5 * k)
    path = tmp_path / "a.db"
    np.testing.assert_array_equal(read(path, "polarizability").y, y)
    data = read(path, "shielding", groups="run", index="1:")
    assert data.groups.tolist() == ["r1", "r2", "r3"]
    for one, expected in zip(data.y, shielding[1:], strict=True):
        np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(read(path, "band_gap").y, [0, 0.5, 1, 1.5])


def test_per_atom_must_be_a_bool(tmp_path):
    with pytest.raises(ValueError, match="per_atom='yes' must be None, True or False"):
        read(saved(tmp_path, molecules()), "dipole", per_atom="yes")


real = pytest.mark.skipif(not DATA.is_dir(), reason="needs real data")


@real
@pytest.mark.parametrize(
    ("file", "target", "key", "shape"),
    [
        ("water_monomer.xyz", "hyperpolarizability", "beta", (3, 3, 3)),
        ("water_monomer_gamma.xyz", None, "gamma", (3, 3, 3, 3)),
        ("qm7x_reduced_100.xyz", None, "polarizability", (3, 3)),
        ("nma_in_field.xyz", "polarizability", "polarizability", (3, 3)),
        ("nma_in_field.xyz", "energy", "ref_energy", ()),
        ("bec_crystals_1520.xyz", "dielectric", "eps", (3, 3)),
        ("charge_charge.xyz", "energy", "energy", ()),
    ],
)
def test_real_files(file, target, key, shape):
    data = read(DATA / file, target, index=":20")
    assert (data.key, data.y.shape) == (key, (20, *shape))
    assert np.isfinite(data.y).all()


@real
def test_real_born_charges_obey_the_sum_rule():
    data = read(DATA / "bec_crystals_1520.xyz", "born_charge")
    assert all(np.abs(one.mean(axis=0)).max() < 0.05 for one in data.y)
