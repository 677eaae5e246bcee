"""Packing of tensors into the files of the package, and their sizes."""

from importlib.resources import files

import numpy as np
import pytest

from eqkernels.datasets._storage import PROPERTIES, full_tensors, independent_components, pack_arrays, unpack_arrays

MAX_BYTES = 2_000_000


def test_the_files_are_small():
    sizes = [file.stat().st_size for file in files("eqkernels.datasets").iterdir() if file.name.endswith(".npz")]
    assert len(sizes) == 4
    assert sum(sizes) < MAX_BYTES


@pytest.mark.parametrize(("rank", "n_components"), [(1, 3), (2, 6), (3, 10)])
def test_independent_components_are_those_of_a_symmetric_tensor(rank, n_components):
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    tensors = vectors
    for _ in range(rank - 1):
        tensors = np.einsum("n...,ni->n...i", tensors, vectors)
    components = independent_components(tensors, rank)
    assert components.shape == (5, n_components)
    np.testing.assert_allclose(full_tensors(components, rank), tensors, rtol=1e-14)


def _structures(rng):
    sizes = [3, 1, 4]
    labels = {}
    for name, known in PROPERTIES.items():
        values = []
        for size in sizes:
            tensors = rng.normal(size=(size, *(3,) * known.rank))
            if known.is_symmetric:
                components = independent_components(tensors, known.rank)
                tensors = full_tensors(components, known.rank)
            values.append(tensors if known.per_atom else tensors[0])
        labels[name] = values
    numbers = [rng.integers(1, 9, size) for size in sizes]
    return ["b", "a", "b"], numbers, [rng.normal(size=(size, 3)).round(6) for size in sizes], labels


def test_what_is_packed_comes_back():
    names, numbers, positions, labels = _structures(np.random.default_rng(1))
    got_names, got_numbers, got_positions, got_labels = unpack_arrays(pack_arrays(names, numbers, positions, labels))
    assert got_names.tolist() == names
    for got, expected in zip(got_numbers, numbers, strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(got_positions, positions, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    assert list(got_labels) == list(PROPERTIES)
    for name, values in labels.items():
        for got, expected in zip(got_labels[name], values, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-7)


def test_energies_are_kept_in_double_precision():
    arrays = pack_arrays(["water"], [[8]], [np.zeros((1, 3))], {"energy": [-76.123456789012]})
    assert unpack_arrays(arrays)[3]["energy"][0] == -76.123456789012


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="dipole has values that are not finite"):
        pack_arrays(["water"], [[8]], [np.zeros((1, 3))], {"dipole": [[0.0, bad, 0.0]]})
