import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from eqkernels.structures import StructureBatch, find_neighbors
from eqkernels.structures._neighbors_loops import _add_images


def random_structures(seed):
    random = np.random.default_rng(seed)
    for pbc in itertools.product([False, True], repeat=3):
        for n_atoms, size in ((1, 2.0), (4, 3.0), (25, 4.5), (150, 11.0)):
            cell = size * (np.eye(3) + 0.35 * random.normal(size=(3, 3)))
            if n_atoms == 4:
                cell[0] *= -1  # left-handed
            # also outside of the cell
            positions = random.uniform(-0.6, 1.6, size=(n_atoms, 3)) @ cell
            yield Atoms(numbers=random.integers(1, 9, size=n_atoms), positions=positions, cell=cell, pbc=pbc)


@pytest.mark.parametrize("cutoff", [0.9, 3.1, 6.5])
def test_equal_ase(cutoff):
    frames = list(random_structures(seed=int(10 * cutoff)))
    batch = StructureBatch.from_frames(frames)
    pairs = find_neighbors(batch, cutoff)
    for k, atoms in enumerate(frames):
        i, j, d, vectors, shifts = neighbor_list("ijdDS", atoms, cutoff)
        rows = slice(pairs.offsets[batch.offsets[k]], pairs.offsets[batch.offsets[k + 1]])
        ours = np.c_[
            pairs.centers[rows] - batch.offsets[k], pairs.neighbors[rows] - batch.offsets[k], pairs.shifts[rows]
        ]
        theirs = np.c_[i, j, shifts]
        order, their_order = np.lexsort(ours.T), np.lexsort(theirs.T)
        np.testing.assert_array_equal(ours[order], theirs[their_order])
        np.testing.assert_allclose(pairs.distances[rows][order], d[their_order], atol=1e-12)
        np.testing.assert_allclose(pairs.vectors[rows][order], vectors[their_order], atol=1e-12)


def test_large_molecule_uses_bins():
    """The two searches must agree: the same atoms, as one molecule and as pieces of it."""
    random = np.random.default_rng(0)
    atoms = Atoms("H400", positions=random.uniform(0, 20, size=(400, 3)))
    pairs = find_neighbors(StructureBatch.from_frames([atoms]), 3.0)
    distances = atoms.get_all_distances()
    expected = np.argwhere((distances < 3.0) & (distances > 0))
    np.testing.assert_array_equal(np.unique(np.c_[pairs.centers, pairs.neighbors], axis=0), expected)


def test_far_apart_in_vacuum_costs_no_memory():
    positions = np.concatenate([np.random.default_rng(0).uniform(0, 5, size=(60, 3)) + shift for shift in (0, 1e7)])
    batch = StructureBatch.from_frames([Atoms("H120", positions=positions)])
    pairs = find_neighbors(batch, 3.0)
    assert np.all((pairs.centers < 60) == (pairs.neighbors < 60))
    assert len(pairs.centers) > 100


def test_offsets_delimit_the_centers():
    batch = StructureBatch.from_frames([bulk("Si"), Atoms("H"), bulk("Cu")])
    pairs = find_neighbors(batch, 3.0)
    np.testing.assert_array_equal(np.diff(pairs.offsets), [4, 4, 0, 12])
    np.testing.assert_array_equal(pairs.centers, np.repeat(np.arange(4), [4, 4, 0, 12]))
    part = batch.select(2, 3)
    np.testing.assert_allclose(find_neighbors(part, 3.0).vectors, pairs.vectors[pairs.offsets[3] :], atol=1e-12)


def test_coincident_atoms_are_named():
    good, bad = Atoms("H2", [[0, 0, 0], [1, 0, 0]]), Atoms("OH2", [[0, 0, 0], [1, 0, 0], [1, 0, 1e-9]])
    batch = StructureBatch.from_frames([good, good, bad])
    with pytest.raises(ValueError, match="structure 2: atoms 1 and 2 coincide"):
        find_neighbors(batch, 3.0)
    with pytest.raises(ValueError, match="structure 2: atoms 1 and 2 coincide"):
        find_neighbors(batch.select(2, 3), 3.0)
    image = Atoms("H", cell=[1e-4, 5, 5], pbc=True)
    with pytest.raises(ValueError, match="structure 0, atom 0 coincides with its own periodic image"):
        find_neighbors(StructureBatch.from_frames([image]), 0.01)


@pytest.mark.parametrize(
    ("cutoff", "error"),
    [(0, ValueError), (-1.0, ValueError), (np.inf, ValueError), (np.nan, ValueError), ("4", TypeError)],
)
def test_wrong_cutoffs(cutoff, error):
    with pytest.raises(error, match="cutoff"):
        find_neighbors(StructureBatch.from_frames([Atoms("H")]), cutoff)


def test_absurd_number_of_pairs():
    with pytest.raises(ValueError, match="neighbors within cutoff=5000: use a smaller cutoff, or check the units"):
        find_neighbors(StructureBatch.from_frames([bulk("Cu")]), 5000.0)


def test_images_stay_within_their_room():
    """Every image counts here, and the last place that is tried is that of an atom itself."""
    cell, inverse, pbc = 10 * np.eye(3), np.eye(3) / 10, np.ones(3, dtype=bool)
    atoms, cutoff = np.array([[0.5] * 3, [9.5] * 3]), 4.5
    images, owners = np.full((16, 3), np.nan), np.full(16, -1)
    images[:2], owners[:2] = atoms, [0, 1]
    low, high = atoms.min(axis=0), atoms.max(axis=0)
    add_images = getattr(_add_images, "py_func", _add_images)  # plain Python notices what lies beyond an array
    assert add_images(2, cell, inverse, pbc, np.full(3, cutoff / 10), cutoff, images, owners, low, high) == 16
    np.testing.assert_array_equal(np.bincount(owners), [8, 8])
    assert np.isfinite(images).all()
