"""The interface of the loaders, and the form of what they return."""

import subprocess
import sys
import time

import numpy as np
import pytest

from eqkernels.datasets import load_chiral_molecules, load_small_organics, load_water_clusters

LOADERS = {
    "small_organics": load_small_organics,
    "water_clusters": load_water_clusters,
    "chiral_molecules": load_chiral_molecules,
}
SIZES = {
    "small_organics": 900,
    "water_clusters": 500,
    "chiral_molecules": 400,
}
OF_STRUCTURES = {"energy": 0, "dipole": 1, "quadrupole": 2, "polarizability": 2, "hyperpolarizability": 3}
OF_ATOMS = {"forces": 1, "polar_tensor": 2, "electric_field_gradient": 2, "shielding": 2}
LABELS = {
    "small_organics": OF_STRUCTURES | OF_ATOMS,
    "water_clusters": OF_STRUCTURES | OF_ATOMS,
    "chiral_molecules": OF_STRUCTURES | {"gprime": 2},
}


@pytest.fixture(scope="module", params=list(LOADERS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name):
    return LOADERS[name]()


def test_each_label_has_one_tensor_for_each_structure_or_atom(name, data):
    assert len(data.frames) == len(data.names) == SIZES[name]
    for label, rank in LABELS[name].items():
        if label in OF_ATOMS:
            assert isinstance(data[label], list)
            shapes = [array.shape for array in data[label]]
            assert shapes == [(len(atoms), *(3,) * rank) for atoms in data.frames]
        else:
            assert data[label].shape == (len(data.frames), *(3,) * rank)


def test_labels_are_finite_doubles_with_units_and_description(name, data):
    assert set(data.target_names) == set(data.units) == set(data.tensors) == set(LABELS[name])
    for label in data.target_names:
        for array in data[label] if label in OF_ATOMS else [data[label]]:
            assert array.dtype == np.float64
            assert np.isfinite(array).all()
        assert data.units[label]
        assert f"- {label}: " in data.DESCR
    for words in ("Hartree-Fock", "def2-SVPD", "Licence", "doi:", "about the centre of nuclear charge"):
        assert words in " ".join(data.DESCR.split())


def test_tensors_declare_the_symmetry_that_the_labels_have(data):
    for label, tensor in data.tensors.items():
        values = np.concatenate(data[label]) if isinstance(data[label], list) else data[label]
        assert tensor.shape == values.shape[1:]
        restored = tensor.to_cartesian(tensor.to_irreps(values))
        np.testing.assert_allclose(restored, values, rtol=0, atol=1e-10 * np.abs(values).max(), err_msg=label)


def test_only_the_second_index_of_gprime_is_axial():
    data = load_chiral_molecules()
    assert str(data.tensors["gprime"].irreps) == "1x0o+1x1o+1x2o"
    assert str(data.tensors["polarizability"].irreps) == "1x0e+1x2e"


def test_frames_are_molecules_that_know_their_name(data):
    for atoms, molecule in zip(data.frames, data.names, strict=True):
        assert atoms.info["name"] == molecule
        assert not atoms.pbc.any()
        np.testing.assert_allclose(atoms.positions.mean(axis=0), 0, atol=2e-6)
    assert len({atoms.positions.tobytes() for atoms in data.frames}) == len(data.frames)


def test_each_beginning_of_the_list_is_balanced():
    names = load_small_organics().names
    counts = np.unique(names[:300], return_counts=True)[1]
    assert len(counts) == 30
    assert set(counts) == {10}


def test_each_call_makes_new_objects(name):
    first, second = LOADERS[name](), LOADERS[name]()
    first.frames[0].positions += 1.0
    first.polarizability[:] = np.nan
    first.units["dipole"] = "debye"
    assert np.isfinite(second.polarizability).all()
    assert np.isfinite(LOADERS[name]().polarizability).all()
    assert not np.allclose(first.frames[0].positions, second.frames[0].positions)
    assert second.units["dipole"] == "e a0"


def test_return_X_y_gives_the_label_asked_for(name, data):
    for label in data.target_names:
        frames, y = LOADERS[name](return_X_y=True, target=label)
        assert frames == data.frames
        assert len(y) == len(frames)
        for got, expected in zip(y, data[label], strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("small_organics", "polarizability"),
        ("water_clusters", "polarizability"),
        ("chiral_molecules", "gprime"),
    ],
)
def test_default_target(name, default):
    _, y = LOADERS[name](return_X_y=True)
    data = LOADERS[name]()
    np.testing.assert_array_equal(y, data[default])
    np.testing.assert_array_equal(data.target, data[default])
    assert data.target_name == default
    assert LOADERS[name](target="dipole").target.shape == (SIZES[name], 3)


@pytest.mark.parametrize("return_X_y", [False, True])
def test_unknown_target_is_an_error_that_lists_the_labels(name, return_X_y):
    with pytest.raises(ValueError, match="'magnetizability' is not a label of .*energy, dipole, .*polarizability"):
        LOADERS[name](return_X_y=return_X_y, target="magnetizability")


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError):
        load_small_organics(True)


def test_loading_is_quick(name):
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        LOADERS[name]()
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.5  # 0.05 s on an idle machine


def test_import_needs_none_of_the_programs_that_made_the_data():
    code = "import sys, eqkernels.datasets; sys.exit(bool({'pyscf', 'tblite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
