"""The bispectrum: the printed sum, integrals over rotations, and environments that need three factors."""

import numpy as np
import pytest
from ase import Atoms

from eqkernels import SOAP, Bispectrum, LambdaSOAP, NBodyFeatures, SphericalExpansion
from eqkernels.so3 import clebsch_gordan, wigner_d
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames
from tests.descriptors.test_nbody import ALL, assert_same_grams, coefficients, grams
from tests.descriptors.test_soap import environments, overlaps
from tests.naive import rotation_quadrature


def test_bispectrum_is_the_triple_sum(molecules):
    """Each unordered triple once: an explicit sum over m, m', m'' for every triple of channels, with its weight."""
    frames, options = molecules[:2], {"cutoff": 4.0, "n_max": 1, "l_max": 2}
    descriptor = Bispectrum(**options, irreps="0e+0o").fit(molecules)
    features = descriptor.transform(frames)
    c = [block[3] for block in SphericalExpansion(**options).fit(molecules).transform(frames).blocks.values()]
    species = descriptor.neighbor_species_
    for key, block in features.blocks.items():
        labels = descriptor.feature_labels(key)
        assert len(labels) == block.shape[2] == len(np.unique(labels))
        expected = []
        for one in labels:
            l = [int(one[f"l_{k}"]) for k in (1, 2, 3)]
            q = [int(np.searchsorted(species, one[f"species_{k}"])) + one[f"n_{k}"] for k in (1, 2, 3)]
            assert (-1) ** sum(l) == (1 if key == "0e" else -1)
            table, total = clebsch_gordan(*l) / np.sqrt(2 * l[2] + 1), 0.0
            for m1, m2, m3 in np.ndindex(table.shape):
                total += table[m1, m2, m3] * c[l[0]][m1, q[0]] * c[l[1]][m2, q[1]] * c[l[2]][m3, q[2]]
            n_permutations = {1: 1, 2: 3, 3: 6}[len(set(zip(l, q, strict=True)))]
            expected.append(np.sqrt(n_permutations) * total)
        # the order of coupling may change the sign of an odd triple
        np.testing.assert_allclose(np.abs(block[3, 0]), np.abs(expected), atol=1e-13 * np.abs(c[0]).max() ** 3)


def test_pseudoscalars_are_those_of_lambda_soap():
    frames = random_frames(seed=4, n_frames=3, n_species=4, n_atoms=(5, 6))
    options = {"cutoff": 4.0, "n_max": 1, "l_max": 3}
    expected = LambdaSOAP(**options, irreps="0o").fit_transform(frames)
    bispectrum = Bispectrum(**options, irreps="0o").fit_transform(frames)
    assert bispectrum.blocks["0o"].shape == expected.blocks["0o"].shape
    assert np.abs(expected.blocks["0o"]).max() > 1e-6
    assert_same_grams(grams(bispectrum), grams(expected))
    assert_same_grams(grams(NBodyFeatures(**options, **ALL, irreps="0o").fit_transform(frames)), grams(expected))


def density_overlaps(c, i, j, sign, rotations):
    """S(R) = sum_q,lmm' c_i[q l m] D^l_mm'(R) c_j[q l m'] for every rotation, times an inversion for sign = -1."""
    return sum(
        sign**l * np.einsum("aq,rab,bq->r", block[i], wigner_d(f"{l}e", rotations), block[j])
        for l, block in enumerate(c)
    )


def test_scalar_products_are_rotation_integrals_of_the_cubed_overlap():
    """Bartok et al. 2013, eq. 36, for both parities and, in the manner of Grisafi et al. 2018, with Wigner matrices."""
    options = {"cutoff": 3.5, "n_max": 2, "l_max": 2}
    frames = random_frames(seed=5, n_frames=2, n_species=2)
    features = Bispectrum(**options, irreps="0e+0o+1o+1e+2e+2o").fit_transform(frames)
    c = coefficients(frames, **options)
    rotations, weights = rotation_quadrature(3 * 2 + 2 + 1)
    for i, j in ((0, 1), (0, len(frames[0])), (2, 2)):
        cubes = {sign: density_overlaps(c, i, j, sign, rotations) ** 3 for sign in (1, -1)}
        for key, block in features.blocks.items():
            lam = int(key[0])
            parity = 1 if key[1] == "e" else -1
            d = wigner_d(f"{lam}e", rotations)
            integral = np.einsum("r,r,rab->ab", weights, (cubes[1] + parity * cubes[-1]) / 2, d)
            np.testing.assert_allclose(
                block[i] @ block[j].T, (2 * lam + 1) * integral, atol=1e-12 * np.abs(cubes[1]).max()
            )


@pytest.mark.parametrize("periodic", [False, True])
def test_bispectrum_is_the_integral_without_any_expansion(periodic):
    """The overlap of the densities themselves, Gaussian by Gaussian, which a converged basis must reproduce."""
    frames = random_frames(seed=17, n_frames=2, n_species=1, periodic=periodic)
    descriptor = Bispectrum(cutoff=2.5, n_max=7, l_max=8, sigma=0.9, irreps="0e+0o", center_species=["H"])
    features = descriptor.fit_transform(frames)
    rows = [0, len(frames[0])]
    rotations, weights = rotation_quadrature(25)
    seen = environments(frames, 2.5)
    for a, b in ((0, 0), (0, 1), (1, 1)):
        proper, improper = (
            np.sum(weights * overlaps(seen[a], seen[b], sign * rotations, 0.9, 2.5) ** 3) for sign in (1, -1)
        )
        even, odd = (features.blocks[key][rows[a], 0] @ features.blocks[key][rows[b], 0] for key in ("0e", "0o"))
        np.testing.assert_allclose(even, (proper + improper) / 2, rtol=1e-3)
        np.testing.assert_allclose(even + odd, proper, rtol=1e-3)


def ring(steps):
    """A carbon with hydrogens around it at multiples of 45 degrees."""
    angles = np.pi / 4 * np.array(steps)
    hydrogens = 1.5 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return Atoms("CH4", positions=np.vstack([np.zeros(3), hydrogens]))


def test_three_factors_tell_apart_what_two_do_not():
    """Two environments with the same distances and angles (homometric sets on a circle), and no common shape.

    S. N. Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020): only features of three neighbors see the difference.
    """
    pair = [ring([0, 1, 3, 4]), ring([0, 1, 2, 5])]
    options = {"cutoff": 3.0, "n_max": 4, "l_max": 4, "center_species": ["C"]}

    def distance(features):
        return np.linalg.norm(features[0] - features[1]) / np.linalg.norm(features[0])

    assert distance(SOAP(**options).fit_transform(pair)) < 1e-10
    bispectrum = distance(Bispectrum(**options).fit_transform(pair).invariants())
    assert bispectrum > 1e-3
    contracted = NBodyFeatures(**options, n_components=10).fit(pair)
    assert distance(contracted.transform(pair).invariants()) > 0.5 * bispectrum
    rotated = [transformed(atoms, random_rotation(k)) for k, atoms in enumerate([pair[0], pair[0]])]
    assert distance(contracted.transform(rotated).invariants()) < 1e-10
