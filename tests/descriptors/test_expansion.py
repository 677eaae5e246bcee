import numpy as np
import pytest

from eqkernels import SphericalExpansion
from eqkernels.radial import GTO, LaplacianEigenstates
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.naive import density_coefficients

BASES = {"gto": GTO, "laplacian": LaplacianEigenstates}


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"radial_basis": "laplacian", "cutoff_width": 1.0},
        {"scaling_scale": 2.0, "scaling_exponent": 3.0, "scaling_rate": 0.7, "center_weight": 0.3},
    ],
    ids=["gto", "laplacian", "scaled"],
)
def test_coefficients_equal_three_dimensional_quadrature(periodic, options):
    frames = random_frames(seed=3, n_frames=2, n_species=2, periodic=periodic)
    cutoff, n_max, l_max, sigma = 3.0, 4, 4, 0.5
    descriptor = SphericalExpansion(cutoff, n_max=n_max, l_max=l_max, sigma=sigma, **options).fit(frames)
    features = descriptor.transform(frames)
    basis = BASES[descriptor.radial_basis](n_max, cutoff)
    scaling = (descriptor.scaling_rate, descriptor.scaling_scale, descriptor.scaling_exponent)
    for row in (0, len(features.species) - 1):
        atoms = frames[features.structures[row]]
        expected = density_coefficients(
            atoms, features.atoms[row], descriptor.neighbor_species_, basis, l_max, sigma, cutoff,
            descriptor.cutoff_width, descriptor.center_weight, scaling,
        )  # fmt: skip
        got = np.concatenate([block[row] for block in features.blocks.values()])
        np.testing.assert_allclose(got, expected.reshape(got.shape), atol=1e-9 * np.abs(expected).max())


def test_equivariant(frames):
    assert_equivariant(SphericalExpansion(3.5, n_max=3, l_max=3).fit(frames), frames)


def test_tiled_cell_has_the_same_environments():
    frames = random_frames(seed=5, n_frames=1, n_species=2, periodic=True)
    frames[0].pbc = True
    descriptor = SphericalExpansion(4.0, n_max=3, l_max=2).fit(frames)
    one, tiled = descriptor.transform(frames), descriptor.transform([frames[0] * (2, 1, 2)])
    for key, block in one.blocks.items():
        np.testing.assert_allclose(tiled.blocks[key], np.tile(block, (4, 1, 1)), atol=1e-12)


def test_coefficients_are_continuous_where_a_neighbor_enters():
    pair = random_frames(seed=1, n_frames=1, n_species=1, n_atoms=(1, 2))[0]
    descriptor = SphericalExpansion(3.0, n_max=4, l_max=3).fit([pair])
    pair.set_distance(0, 1, 3.0 - 1e-6)
    inside = descriptor.transform([pair]).blocks["1o"]
    pair.set_distance(0, 1, 3.0 + 1e-6)
    outside = descriptor.transform([pair]).blocks["1o"]
    np.testing.assert_allclose(inside, outside, atol=1e-9)
    assert np.abs(outside).max() == 0


def test_single_atom_has_only_its_own_density():
    from ase import Atoms

    features = SphericalExpansion(3.0, n_max=4, l_max=2).fit_transform([Atoms("C")])
    assert np.abs(features.blocks["0e"]).max() > 0
    assert np.abs(features.blocks["1o"]).max() == np.abs(features.blocks["2e"]).max() == 0


def test_choice_of_species(molecules):
    everything = SphericalExpansion(4.0, n_max=3, l_max=2).fit_transform(molecules)
    some = SphericalExpansion(4.0, n_max=3, l_max=2, center_species=["C"], neighbor_species=["H", 7]).fit_transform(
        molecules
    )
    rows = everything.species == 6
    assert np.array_equal(some.species, everything.species[rows])
    channels = [0, 1, 2, 6, 7, 8]  # H and N of H, C, N
    np.testing.assert_allclose(some.blocks["2e"], everything.blocks["2e"][rows][:, :, channels], atol=1e-14)


def test_result_does_not_depend_on_threads_or_block_sizes(molecules, monkeypatch):
    serial = SphericalExpansion(4.0, n_max=3, l_max=2).fit_transform(molecules)
    monkeypatch.setattr("eqkernels.descriptors.density.expand._DENSITY_PER_RANGE", 2000)
    monkeypatch.setattr("eqkernels.descriptors.density.expand._ATOMS_PER_BLOCK", 5)
    threaded = SphericalExpansion(4.0, n_max=3, l_max=2, n_jobs=2).fit_transform(molecules)
    for key, block in serial.blocks.items():
        assert np.array_equal(block, threaded.blocks[key])


def test_unknown_species(molecules):
    descriptor = SphericalExpansion(4.0, n_max=3, l_max=2).fit(molecules)
    other = molecules[1].copy()
    other.numbers[-1] = 9
    with pytest.raises(ValueError, match=r"species F \(first in structure 1, atom"):
        descriptor.transform([molecules[0], other])
    ignored = descriptor.set_params(handle_unknown="ignore").transform([other])
    without = descriptor.transform([other[:-1]])
    assert np.array_equal(ignored.blocks["1o"], without.blocks["1o"])
    assert ignored.n_atoms[0] == len(other)


def test_progress_is_reported(molecules, capsys, monkeypatch):
    monkeypatch.setattr("eqkernels._progress._PAUSE", 0.0)
    SphericalExpansion(4.0, n_max=2, l_max=1, verbose=1).fit_transform(molecules)
    assert "SphericalExpansion: 100% of 12 structures" in capsys.readouterr().err
