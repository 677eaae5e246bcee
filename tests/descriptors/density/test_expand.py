"""The density expansion in ranges: as by brute force, whatever the ranges, and without neighbors."""

import numpy as np
import pytest

from eqkernels import SphericalExpansion
from eqkernels.descriptors.density import expand
from eqkernels.radial import GTO
from eqkernels.structures import StructureBatch
from tests.conftest import random_frames
from tests.naive import density_coefficients

L_MAX, N_MAX, CUTOFF, SIGMA = 2, 3, 3.0, 0.5
SPECIES = np.array([1, 6])


def coefficients(frames, is_center=None, weight=1.0):
    table = expand.radial_table("gto", N_MAX, L_MAX, SIGMA, CUTOFF, 0.5, (1.0, None, 4.0), 1e-10)
    expansion = expand.DensityExpansion(table, N_MAX, L_MAX, weight, SPECIES)
    batch = StructureBatch.from_frames(frames)
    is_center = np.ones(batch.n_atoms, dtype=bool) if is_center is None else is_center
    out = np.full((is_center.sum(), (L_MAX + 1) ** 2, expansion.n_channels), np.nan)

    def store(rows, density):
        out[rows] = density

    expansion.for_each_range(batch, is_center, store)
    return out


def test_coefficients_are_those_by_brute_force():
    atoms = random_frames(3, n_frames=1, n_species=2)[0]
    found = coefficients([atoms], weight=0.7)
    basis = GTO(N_MAX, CUTOFF)
    expected = density_coefficients(atoms, 1, SPECIES, basis, L_MAX, SIGMA, CUTOFF, 0.5, 0.7, (1.0, None, 4.0))
    np.testing.assert_allclose(found[1], expected.reshape(expected.shape[0], -1), atol=1e-8)


def test_ranges_do_not_change_the_bits(monkeypatch):
    frames = random_frames(4, n_frames=5, n_species=2, periodic=True)
    expected = coefficients(frames)
    monkeypatch.setattr(expand, "_DENSITY_PER_RANGE", 1)
    monkeypatch.setattr(expand, "_ATOMS_PER_BLOCK", 1)
    np.testing.assert_array_equal(coefficients(frames), expected)
    some = np.arange(len(expected)) % 2 == 0
    np.testing.assert_array_equal(coefficients(frames, some), expected[some])


@pytest.mark.parametrize(("size", "n"), [(2**20, 1), (2**30, 1), (2**10, 2**10), (0, 2**20)])
def test_centers_per_range(size, n):
    assert expand.centers_per_range(size) == n


def test_derivatives_are_differences():
    """Few atoms: the loops of derivatives without compilation too."""
    atoms = random_frames(3, n_frames=1, n_species=2)[0][:3]
    descriptor = SphericalExpansion(CUTOFF, n_max=2, l_max=2).fit([atoms])
    random = np.random.default_rng(0)
    features = descriptor.transform([atoms])
    cotangents = {key: random.normal(size=block.shape) for key, block in features.blocks.items()}
    step = random.normal(size=(3, 3))
    found = descriptor.vjp([atoms], cotangents).positions

    def total(h):
        moved = atoms.copy()
        moved.positions += h * step
        return sum(np.sum(cotangents[key] * block) for key, block in descriptor.transform([moved]).blocks.items())

    h = 1e-3
    expected = (8 * (total(h) - total(-h)) - (total(2 * h) - total(-2 * h))) / (12 * h)
    np.testing.assert_allclose(np.sum(found * step), expected, rtol=1e-6)
    forward = descriptor.gradients([atoms])
    contracted = np.zeros((3, 3))
    for key, block in forward.blocks.items():
        np.add.at(contracted, forward.atoms, np.einsum("exmf,emf->ex", block, cotangents[key][forward.centers]))
    np.testing.assert_allclose(found, contracted, atol=1e-11)
