import itertools

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from eqkernels.io import read

NAMES = ["H2O", "CH4", "NH3"]


@pytest.fixture
def frames(tmp_path):
    ase.io.write(tmp_path / "a.xyz", [molecule(name) for name in NAMES])
    return tmp_path / "a.xyz"


@pytest.fixture
def y():
    y = np.random.default_rng(0).normal(size=(3, 3, 3))
    return y + y.swapaxes(1, 2)


def write_csv(path, columns, delimiter=","):
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def pairs(separator="_"):
    return {f"alpha{separator}{a}{b}": (i, j) for (i, a), (j, b) in itertools.product(enumerate("xyz"), repeat=2)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("separator", ["_", ".", " "])
def test_components_by_letters_in_any_order(frames, y, tmp_path, delimiter, separator):
    columns = {name: y[:, i, j] for name, (i, j) in reversed(pairs(separator).items())}
    path = write_csv(tmp_path / "l.csv", {"name": NAMES, **columns, "step": [1, 2, 3]}, delimiter)
    data = read(frames, "polarizability", labels=path, groups="name")
    np.testing.assert_array_equal(data.y, y)
    assert data.groups.tolist() == NAMES
    assert data.path == [str(frames)]


def test_six_components_of_a_symmetric_matrix(frames, y, tmp_path):
    order = ["xx", "yy", "zz", "yz", "xz", "xy"]
    columns = {f"alpha_{one}": y[:, "xyz".index(one[0]), "xyz".index(one[1])] for one in order}
    np.testing.assert_array_equal(read(frames, labels=write_csv(tmp_path / "l.csv", columns)).y, y)
    del columns["alpha_yz"]
    with pytest.raises(ValueError, match="no label for target='polarizability'.*\n  alpha_xx"):
        read(frames, "polarizability", labels=write_csv(tmp_path / "l.csv", columns))


@pytest.mark.parametrize("first", [0, 1])
def test_components_by_numbers(frames, y, tmp_path, first):
    columns = {f"alpha_{first + k}": y.reshape(3, 9)[:, k] for k in range(9)}
    np.testing.assert_array_equal(read(frames, labels=write_csv(tmp_path / "l.csv", columns)).y, y)


def test_units_scalars_and_missing_cells(frames, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("id,energy [eV],mu_x (D),mu_y (D),mu_z (D)\n0,-1.5,0,0,1.8\n1,,,,\n2,-3.5,0.5,0,1.5\n")
    data = read(frames, "energy", labels=path)
    np.testing.assert_array_equal(data.y, [-1.5, np.nan, -3.5])
    assert data.units == "eV"
    data = read(frames, "dipole", labels=path)
    np.testing.assert_array_equal(data.y, [[0, 0, 1.8], [np.nan] * 3, [0.5, 0, 1.5]])
    assert data.units == "D"
    with pytest.raises(ValueError, match="no label under the key 'name'.*\n  energy .*\n  mu .*\n  id "):
        read(frames, key="name", labels=path)


def test_text_in_a_csv_file(frames, tmp_path):
    path = write_csv(tmp_path / "l.csv", {"mu_x": [0, 1, 2], "mu_y": [0, "1,5", 2], "mu_z": [0, 1, 2]}, ";")
    with pytest.raises(ValueError, match="'mu' of structure 1 of .*l.csv is text, '1,5'"):
        read(frames, "dipole", labels=path)


def test_csv_of_another_length(frames, tmp_path):
    path = write_csv(tmp_path / "l.csv", {"energy": [1.0, 2.0]})
    with pytest.raises(ValueError, match="has 2 rows below its header, there are 3 structures"):
        read(frames, "energy", labels=path)
    path.write_text("energy,gap\n1,2\n1\n1,2\n")
    with pytest.raises(ValueError, match=r"row 1 \(below the header\) has 1 cells, the header has 2"):
        read(frames, "energy", labels=path)
    path.write_text("energy,energy\n1,2\n1,2\n1,2\n")
    with pytest.raises(ValueError, match="several columns 'energy'"):
        read(frames, "energy", labels=path)
    path.write_text("")
    with pytest.raises(ValueError, match="0 rows"):
        read(frames, "energy", labels=path)


def test_npz_of_structures_and_of_atoms(frames, y, tmp_path):
    forces = [np.random.default_rng(k).normal(size=(n, 3)) for k, n in enumerate([3, 5, 4])]
    np.savez(
        tmp_path / "l.npz", alpha=y, F=np.concatenate(forces), E=[1.0, np.nan, 2.0], names=np.array(NAMES), unit="eV"
    )
    path = tmp_path / "l.npz"
    np.testing.assert_array_equal(read(frames, "polarizability", labels=path).y, y)
    np.testing.assert_array_equal(read(frames, "energy", labels=path).y, [1, np.nan, 2])
    data = read(frames, "forces", labels=path, index="1:")
    for one, expected in zip(data.y, forces[1:], strict=True):
        np.testing.assert_array_equal(one, expected)


def test_python_objects_are_not_read(frames, y, tmp_path):
    np.savez(tmp_path / "l.npz", alpha=y, names=np.array(NAMES, dtype=object))
    assert read(frames, labels=tmp_path / "l.npz").key == "alpha"
    with pytest.raises(ValueError, match="'names' of structure 0 .*Python objects, which can run code"):
        read(frames, key="names", labels=tmp_path / "l.npz")
    np.save(tmp_path / "l.npy", np.array(NAMES, dtype=object))
    with pytest.raises(ValueError, match="l.npy cannot be read: Python objects"):
        read(frames, labels=tmp_path / "l.npy")


def test_files_that_do_not_fit(frames, tmp_path):
    np.savez(tmp_path / "l.npz", alpha=np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"\(alpha: \(2, 9\)\) fits 3 structures with 12 atoms"):
        read(frames, labels=tmp_path / "l.npz")
    with pytest.raises(FileNotFoundError, match="labels: there is no file"):
        read(frames, labels=tmp_path / "none.csv")
    (tmp_path / "l.txt").write_text("1\n")
    with pytest.raises(ValueError, match="must be a csv, npz or npy file"):
        read(frames, labels=tmp_path / "l.txt")
    (tmp_path / "l.npy").write_text("1\n")
    with pytest.raises(ValueError, match="l.npy cannot be read"):
        read(frames, labels=tmp_path / "l.npy")
    (tmp_path / "l.csv").write_bytes("energy;µ\n1;2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="l.csv cannot be read as a csv file in UTF-8"):
        read(frames, labels=tmp_path / "l.csv")
    with pytest.raises(TypeError, match="labels must be the name of one csv, npz or npy file, got ndarray"):
        read(frames, labels=np.zeros((3, 3)))


@pytest.mark.parametrize(
    "written",
    [
        lambda one: " ".join(map(repr, one.ravel().tolist())),
        lambda one: ", ".join(map(repr, one.ravel().tolist())),
        lambda one: str(one.tolist()),
        lambda one: str(tuple(map(tuple, one.tolist()))),
        lambda one: np.array2string(one, precision=17, floatmode="unique"),  # with lines
    ],
    ids=["blanks", "commas", "list", "tuple", "numpy"],
)
def test_arrays_as_text(frames, y, tmp_path, written):
    lines = [
        "name,alpha,step",
        *(f'{name},"{written(one)}",{k}' for k, (name, one) in enumerate(zip(NAMES, y, strict=True))),
    ]
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(read(frames, "polarizability", labels=tmp_path / "l.csv", groups="name").y, y)


def test_arrays_of_atoms_as_text(frames, tmp_path):
    charges = [np.arange(len(molecule(name))) / 10 for name in NAMES]
    forces = [np.arange(3 * len(molecule(name))).reshape(-1, 3) / 10 for name in NAMES]
    rows = (f"{one.tolist()};{other.tolist()}" for one, other in zip(charges, forces, strict=True))
    (tmp_path / "l.csv").write_text("charges;forces\n" + "\n".join(rows) + "\n")
    for key, expected in (("charges", charges), ("forces", forces)):
        for one, other in zip(read(frames, key, labels=tmp_path / "l.csv").y, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cell", ["[1 2", "[1 2] 3]", "[[1 2] [3]]", "[1 ... 3]", "[]"])
def test_text_that_is_no_array(frames, tmp_path, cell):
    (tmp_path / "l.csv").write_text("dipole;x\n[1 2 3];1\n[1 2 nan];2\n" + cell + ";3\n")
    with pytest.raises(ValueError, match=r"'dipole' of structure 2 of .*l.csv is text"):
        read(frames, "dipole", labels=tmp_path / "l.csv")
