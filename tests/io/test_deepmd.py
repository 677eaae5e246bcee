"""Files as https://docs.deepmodeling.com/projects/deepmd/en/stable/data/system.html documents them, written by hand."""

import numpy as np
import pytest

from eqkernels.io import find_targets, read, read_files

N_FRAMES, TYPES, SYMBOLS = 5, [0, 1, 1], ["O", "H"]


def write_system(path, rng, n_frames=N_FRAMES, types=TYPES, periodic=True, labels=(), sets=1):
    path.mkdir(parents=True)
    (path / "type.raw").write_text("\n".join(map(str, types)))
    (path / "type_map.raw").write_text("\n".join(SYMBOLS))
    n = len(types)
    shapes = {
        "energy": (n_frames,), "force": (n_frames, 3 * n), "virial": (n_frames, 9), "dipole": (n_frames, 3),
        "polarizability": (n_frames, 9), "atomic_dipole": (n_frames, 3 * n), "atomic_polarizability": (n_frames, 9 * n),
    }  # fmt: skip
    data = {name: rng.normal(size=shapes[name]) for name in labels}
    data["coord"] = rng.normal(size=(n_frames, 3 * n))
    if periodic:
        data["box"] = np.tile(10 * np.eye(3).ravel(), (n_frames, 1)) + 0.1 * rng.normal(size=(n_frames, 9))
    else:
        (path / "nopbc").touch()
    for k, rows in enumerate(np.array_split(np.arange(n_frames), sets)):
        (path / f"set.{k:03d}").mkdir()
        for name, values in data.items():
            np.save(path / f"set.{k:03d}" / f"{name}.npy", values[rows])
    return data


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("sets", [1, 2])
def test_structures_and_their_labels(tmp_path, rng, sets):
    data = write_system(tmp_path / "a", rng, labels=["energy", "virial", "dipole", "polarizability"], sets=sets)
    bunch = read(tmp_path / "a", "polarizability")
    np.testing.assert_array_equal(bunch.y, data["polarizability"].reshape(-1, 3, 3))
    assert bunch.units is None
    for atoms, coord, box in zip(bunch.frames, data["coord"], data["box"], strict=True):
        np.testing.assert_array_equal(atoms.positions, coord.reshape(-1, 3))
        np.testing.assert_array_equal(atoms.cell, box.reshape(3, 3))
        assert atoms.get_chemical_symbols() == ["O", "H", "H"]
        assert atoms.pbc.all()
    np.testing.assert_array_equal(read(tmp_path / "a", "dipole").y, data["dipole"])
    energies = read(tmp_path / "a", "energy", index=":3")
    np.testing.assert_array_equal(energies.y, data["energy"][:3])
    assert energies.units == "eV"
    np.testing.assert_array_equal(read(tmp_path / "a", "virial").y, data["virial"].reshape(-1, 3, 3))


def test_labels_of_atoms(tmp_path, rng):
    data = write_system(tmp_path / "a", rng, labels=["force", "atomic_dipole", "atomic_polarizability"])
    for target, key, shape in (
        ("forces", "force", (3,)),
        ("atomic_dipole", "atomic_dipole", (3,)),
        ("atomic_polarizability", "atomic_polarizability", (3, 3)),
    ):
        bunch = read(tmp_path / "a", target)
        assert bunch.per_atom
        assert bunch.key == key
        for one, expected in zip(bunch.y, data[key], strict=True):
            np.testing.assert_array_equal(one, expected.reshape(3, *shape))
    assert {one.guesses for one in find_targets(read_files(tmp_path / "a")[0].frames)} == {
        ("forces",), ("atomic_dipole",), ("atomic_polarizability",)
    }  # fmt: skip


def test_systems_in_a_directory_are_groups(tmp_path, rng):
    write_system(tmp_path / "b" / "small", rng, 2, labels=["dipole"], periodic=False)
    write_system(tmp_path / "a", rng, 3, types=[0, 1, 1, 0, 1, 1], labels=["dipole"])
    bunch = read(tmp_path, "dipole")
    assert bunch.groups.tolist() == [str(tmp_path / "a")] * 3 + [str(tmp_path / "b" / "small")] * 2
    assert [len(atoms) for atoms in bunch.frames] == [6, 6, 6, 3, 3]
    assert [bool(atoms.pbc.any()) for atoms in bunch.frames] == [True] * 3 + [False] * 2


def test_a_set_without_a_label(tmp_path, rng):
    write_system(tmp_path / "a", rng, labels=["energy"], sets=2)
    (tmp_path / "a" / "set.001" / "energy.npy").unlink()
    assert np.isnan(read(tmp_path / "a", "energy").y).tolist() == [False] * 3 + [True] * 2


def test_several_compositions_in_a_system(tmp_path, rng):
    data = write_system(tmp_path / "a", rng, 2, types=[0, 0, 0], labels=["force"], periodic=False)
    np.save(tmp_path / "a" / "set.000" / "real_atom_types.npy", [[0, 1, 1], [0, 1, -1]])
    bunch = read(tmp_path / "a", "forces")
    assert [str(atoms.symbols) for atoms in bunch.frames] == ["OH2", "OH"]
    np.testing.assert_array_equal(bunch.y[1], data["force"][1].reshape(3, 3)[:2])
    np.testing.assert_array_equal(bunch.frames[1].positions, data["coord"][1].reshape(3, 3)[:2])


def test_damaged_systems(tmp_path, rng):
    write_system(tmp_path / "a", rng, labels=["dipole"])
    folder = tmp_path / "a" / "set.000"
    np.save(folder / "atomic_dipole.npy", np.zeros((N_FRAMES, 3)))
    with pytest.raises(ValueError, match=r"atomic_dipole.npy has shape \(5, 3\), expected \(5, 3, 3\).*selected atoms"):
        read(tmp_path / "a", "dipole")
    np.save(folder / "atomic_dipole.npy", np.zeros((N_FRAMES - 1, 9)))
    with pytest.raises(ValueError, match=r"atomic_dipole.npy has shape \(4, 9\)"):
        read(tmp_path / "a", "dipole")
    (folder / "atomic_dipole.npy").write_text("no numbers")
    with pytest.raises(ValueError, match=r"atomic_dipole.npy is no npy file of numbers"):
        read(tmp_path / "a", "dipole")
    (folder / "atomic_dipole.npy").unlink()
    (folder / "box.npy").unlink()
    with pytest.raises(ValueError, match="has no box.npy: if the system is not periodic, write an empty file"):
        read(tmp_path / "a", "dipole")
    (tmp_path / "a" / "nopbc").touch()
    (tmp_path / "a" / "type_map.raw").write_text("O")
    with pytest.raises(ValueError, match="has atoms of type 1, type_map.raw names 1 types only"):
        read(tmp_path / "a", "dipole")
    (tmp_path / "a" / "type_map.raw").write_text("O Hw")
    with pytest.raises(ValueError, match="'Hw', which is no element"):
        read(tmp_path / "a", "dipole")
    (tmp_path / "a" / "type_map.raw").unlink()
    with pytest.raises(ValueError, match=r"no type_map.raw, so that the elements of the types \[0, 1\] are not known"):
        read(tmp_path / "a", "dipole")


@pytest.mark.parametrize("n_frames", [1, 4])
@pytest.mark.parametrize("periodic", [True, False])
def test_raw_text_without_sets(tmp_path, rng, n_frames, periodic):
    labels = ["energy", "force", "virial"]
    data = write_system(tmp_path / "sets", rng, n_frames, labels=labels, periodic=periodic)
    (tmp_path / "raw").mkdir()
    for name in ("type.raw", "type_map.raw", *([] if periodic else ["nopbc"])):
        (tmp_path / "raw" / name).write_text((tmp_path / "sets" / name).read_text())
    for name, values in data.items():
        np.savetxt(tmp_path / "raw" / f"{name}.raw", values)
    for key in labels:
        one, other = read(tmp_path / "sets", key), read(tmp_path / "raw", key)
        assert one.units == other.units
        for a, b in zip(one.y, other.y, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(one.frames, other.frames, strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.cell, b.cell)
            assert (a.pbc == b.pbc).all()
            assert (a.numbers == b.numbers).all()
    (tmp_path / "raw" / "force.raw").write_text("1 2 x\n")
    with pytest.raises(ValueError, match=r"force.raw is no raw file of numbers"):
        read(tmp_path / "raw", "energy")
    (tmp_path / "raw" / "force.raw").unlink()
    np.savetxt(tmp_path / "raw" / "energy.raw", np.zeros(n_frames + 1))
    with pytest.raises(ValueError, match=r"energy.raw has shape"):
        read(tmp_path / "raw", "energy")
