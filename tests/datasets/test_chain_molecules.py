"""Peptides and donor-acceptor chains: their form, and laws that their labels obey."""

import numpy as np

from eqkernels.datasets import load_chain_molecules


def test_form():
    data = load_chain_molecules()
    sizes = np.array([len(atoms) for atoms in data.frames])
    assert len(data.frames) == len(data.names) == len(data.charges) == 312
    assert len(set(data.names.tolist())) == 78
    assert (sizes.min(), sizes.max()) == (17, 55)
    assert data.dipole.shape == (312, 3)
    assert set(np.concatenate([atoms.numbers for atoms in data.frames]).tolist()) == {1, 6, 7, 8}
    frames, dipole = load_chain_molecules(return_X_y=True)
    assert np.array_equal(dipole, data.dipole)
    assert frames[0] is not data.frames[0]
    assert "GFN2-xTB" in data.DESCR


def test_molecules_are_neutral_and_whole():
    data = load_chain_molecules()
    for atoms, charges in zip(data.frames, data.charges, strict=True):
        assert charges.shape == (len(atoms),)
        assert abs(charges.sum()) < 1e-4
        distances = atoms.get_all_distances() + 10 * np.eye(len(atoms))
        assert distances.min() > 0.8
        assert distances.min(axis=1).max() < 1.7
        assert np.linalg.norm(atoms.positions.mean(axis=0)) < 1e-4


def test_dipoles_are_nearly_those_of_the_charges():
    """Mulliken charges and dipoles of atoms make the dipole, of which charges are the larger part."""
    data = load_chain_molecules()
    of_charges = np.array([q @ atoms.positions for atoms, q in zip(data.frames, data.charges, strict=True)])
    assert np.linalg.norm(data.dipole - of_charges) < 0.6 * np.linalg.norm(data.dipole)
