"""The script that makes the data: what needs no quantum chemistry, and one structure where that is installed."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest

from eqkernels.datasets import load_chiral_molecules, load_water_clusters
from eqkernels.datasets._storage import PROPERTIES, SET_PROPERTIES, unpack_arrays
from examples.make_datasets import generate

HAS_TBLITE = importlib.util.find_spec("tblite") is not None
ROUNDING = 1e-6  # of the stored labels


@pytest.mark.parametrize(
    ("module", "dependency"),
    [("quantum_chemistry", "pyscf"), ("geometries", "tblite.interface")],
)
def test_missing_programs_are_an_error_that_says_what_to_install(monkeypatch, module, dependency):
    monkeypatch.setitem(sys.modules, dependency, None)
    monkeypatch.delitem(sys.modules, f"examples.make_datasets.{module}", raising=False)
    with pytest.raises(ImportError, match=r'pip install "eqkernels\[data\]"'):
        importlib.import_module(f"examples.make_datasets.{module}")


def _write_work(folder, labelled):
    """Two structures of the set of chiral molecules, of which some have labels."""
    folder = folder / "chiral_molecules"
    folder.mkdir()
    np.savez(
        folder / "geometries.npz",
        names=["methanol", "allene"],
        n_atoms=[2, 1],
        numbers=[6, 8, 6],
        positions=np.arange(9.0).reshape(3, 3),
    )
    rng = np.random.default_rng(0)
    for index in labelled:
        labels = {name: rng.normal(size=(3,) * PROPERTIES[name].rank) for name in SET_PROPERTIES["chiral_molecules"]}
        np.savez(folder / f"{index:05d}.npz", **labels)


def test_pack_writes_a_file_that_can_be_read(tmp_path):
    _write_work(tmp_path, labelled=[0, 1])
    arguments = ["pack", "--work", str(tmp_path), "--destination", str(tmp_path), "--set", "chiral_molecules"]
    assert generate.main(arguments) == 0
    with np.load(tmp_path / "chiral_molecules.npz") as stored:
        names, numbers, positions, labels = unpack_arrays(stored)
    assert names.tolist() == ["methanol", "allene"]
    assert [entry.tolist() for entry in numbers] == [[6, 8], [6]]
    np.testing.assert_allclose(positions[1], [[6, 7, 8]])
    assert set(labels) == set(SET_PROPERTIES["chiral_molecules"])


def test_structures_without_label_are_left_out_and_reported(tmp_path, capsys):
    _write_work(tmp_path, labelled=[1])
    arguments = ["pack", "--work", str(tmp_path), "--destination", str(tmp_path), "--set", "chiral_molecules"]
    assert generate.main(arguments) == 1
    assert "00000.npz: no label" in capsys.readouterr().out
    with np.load(tmp_path / "chiral_molecules.npz") as stored:
        assert unpack_arrays(stored)[0].tolist() == ["allene"]


def test_failed_structures_are_reported_and_the_others_kept(tmp_path, monkeypatch, capsys):
    _write_work(tmp_path, labelled=[])

    class FakeChemistry:
        @staticmethod
        def compute_properties(numbers, positions, properties):
            if len(numbers) == 2:
                raise RuntimeError("the self-consistent field did not converge")
            return {"energy": -1.0}

    monkeypatch.setitem(sys.modules, "examples.make_datasets.quantum_chemistry", FakeChemistry)
    monkeypatch.setattr("examples.make_datasets.quantum_chemistry", FakeChemistry, raising=False)
    arguments = ["labels", "--work", str(tmp_path), "--set", "chiral_molecules"]
    assert generate.main(arguments) == 1
    output = capsys.readouterr().out
    assert "methanol: RuntimeError('the self-consistent field did not converge')" in output
    assert sorted(file.name for file in (tmp_path / "chiral_molecules").glob("0*")) == ["00001.npz"]
    assert "allene" in output


def test_labels_that_are_there_are_not_computed_again(tmp_path, monkeypatch):
    _write_work(tmp_path, labelled=[0, 1])

    class FakeChemistry:
        @staticmethod
        def compute_properties(*_):
            raise AssertionError("not needed")

    monkeypatch.setitem(sys.modules, "examples.make_datasets.quantum_chemistry", FakeChemistry)
    monkeypatch.setattr("examples.make_datasets.quantum_chemistry", FakeChemistry, raising=False)
    assert generate.compute_labels(tmp_path, ["chiral_molecules"]) == {}


def test_geometries_are_not_made_anew_under_their_labels(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "examples.make_datasets.geometries", None)
    monkeypatch.setattr("examples.make_datasets.geometries", None, raising=False)
    _write_work(tmp_path, labelled=[0])
    with pytest.raises(FileExistsError, match="chiral_molecules has labels of earlier geometries"):
        generate.make_geometries(tmp_path, ["chiral_molecules"])


@pytest.mark.parametrize(
    ("load", "set_name", "name"),
    [
        (load_water_clusters, "water_clusters", "water monomer"),
        (load_chiral_molecules, "chiral_molecules", "hydrogen peroxide"),
    ],
)
def test_labels_can_be_recomputed(load, set_name, name):
    pytest.importorskip("pyscf.prop.nmr", reason="needs pyscf and pyscf-properties")
    from examples.make_datasets.quantum_chemistry import compute_properties

    data = load()
    index = data.names.tolist().index(name)
    atoms = data.frames[index]
    labels = compute_properties(atoms.numbers, atoms.positions, SET_PROPERTIES[set_name])
    for label, value in labels.items():
        tolerance = ROUNDING * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(data[label][index], value, rtol=0, atol=tolerance, err_msg=label)


def test_labels_turn_with_the_molecule_and_are_reflected_with_it():
    from scipy.spatial.transform import Rotation

    pytest.importorskip("pyscf.prop.nmr", reason="needs pyscf and pyscf-properties")
    from examples.make_datasets.quantum_chemistry import compute_properties

    improper = -Rotation.random(random_state=0).as_matrix()
    data = load_chiral_molecules()
    atoms = data.frames[data.names.tolist().index("hydrogen peroxide")]
    labels = compute_properties(atoms.numbers, atoms.positions, PROPERTIES)
    moved = compute_properties(atoms.numbers, atoms.positions @ improper.T + [3.0, 4.0, -5.0], PROPERTIES)
    for name, known in PROPERTIES.items():
        expected = np.asarray(labels[name])
        for axis in range(expected.ndim - known.rank, expected.ndim):
            expected = np.moveaxis(np.tensordot(expected, improper, (axis, 1)), -1, axis)
        if known.axial:
            expected = -expected
        tolerance = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(moved[name], expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.skipif(not HAS_TBLITE, reason="needs tblite")
def test_normal_modes_of_water_follow_equipartition():
    from ase.units import kB

    from examples.make_datasets.geometries import NormalModes

    modes = NormalModes.of("H2O")
    assert len(modes.displacements) == 3
    for displacement in modes.displacements:
        strain = modes.strain(modes.minimum + 10 * displacement)  # at 100 K
        assert strain == pytest.approx(0.5 * kB * 100, rel=0.05)


@pytest.mark.skipif(not HAS_TBLITE, reason="needs tblite")
def test_fewer_geometries_are_a_part_of_more():
    from examples.make_datasets.geometries import chiral_molecules

    few, more = chiral_molecules({"hydrogen peroxide": 2}), chiral_molecules({"hydrogen peroxide": 4})
    for short, long in zip(few, more[:2], strict=True):
        np.testing.assert_allclose(short.positions, long.positions, atol=1e-12)
