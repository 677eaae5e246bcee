"""Nothing jumps where an atom passes the cutoff, so that rounding decides nothing."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqkernels import (
    SOAP,
    Bispectrum,
    EquivariantFeatures,
    EquivariantNetwork,
    LambdaSOAP,
    NBodyFeatures,
    SphericalExpansion,
)
from eqkernels.radial import GTO, RadialTable

SIZE = {"n_max": 3, "l_max": 3}
MAKERS = {
    "expansion": lambda **options: SphericalExpansion(**SIZE, **options),
    "soap": lambda **options: SOAP(**SIZE, **options),
    "lambda soap": lambda **options: LambdaSOAP(**SIZE, irreps="0e+0o+1o+1e+2e", **options),
    "laplacian": lambda **options: LambdaSOAP(**SIZE, irreps="0e+1o", radial_basis="laplacian", **options),
    "scaled": lambda **options: LambdaSOAP(**SIZE, irreps="0e+1o", scaling_scale=2.0, **options),
    "n-body": lambda **options: NBodyFeatures(n_max=2, l_max=2, n_components=10, irreps="0e+1o", **options),
    "bispectrum": lambda **options: Bispectrum(n_max=2, l_max=2, irreps="0e", **options),
}
NETWORKS = {name: {"architecture": name, "channels": 4, "random_state": 0} for name in ("message_passing", "ace")}
CUTOFF = 3.0


def rows(features):
    """Features, a row for each center."""
    if not isinstance(features, EquivariantFeatures):
        return features
    return np.concatenate([block.reshape(len(block), -1) for block in features.blocks.values()], axis=1)


def passing(distance):
    """Two atoms and a third one at some distance of the first, far from the second."""
    direction = np.array([1.0, 2.0, 2.0]) / 3
    return Atoms("COH", positions=[[0, 0, 0], [-0.9, -0.7, 0.3], direction * distance])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("width", [1e-3 * CUTOFF, 0.5, CUTOFF])
def test_features_fade_as_the_cutoff_function_does(maker, width):
    descriptor = MAKERS[maker](cutoff=CUTOFF, cutoff_width=width).fit([passing(d) for d in (2.0, 2.5)])
    outside = rows(descriptor.transform([passing(CUTOFF)]))[0]
    scale = np.abs(rows(descriptor.transform([passing(max(CUTOFF - width, 1.0))]))[0]).max() + np.abs(outside).max()
    for delta in 10.0 ** np.arange(-9, -2):
        np.testing.assert_array_equal(rows(descriptor.transform([passing(CUTOFF + delta)]))[0], outside)
        change = np.abs(rows(descriptor.transform([passing(CUTOFF - delta)]))[0] - outside).max()
        # (1 + cos) / 2 is at most (pi delta / 2 width)^2 at delta from its end; products have up to three factors
        assert change <= 10 * scale * (np.pi * delta / (2 * width)) ** 2 + 1e-9 * scale
    near = CUTOFF - width / 2
    for delta in 10.0 ** np.arange(-9, -2) * width:
        one, other = (rows(descriptor.transform([passing(near + x)]))[0] for x in (-delta, delta))
        assert np.abs(one - other).max() <= 10 * scale * delta * (np.pi / width + 10) + 1e-13 * scale


@pytest.mark.parametrize("network", NETWORKS)
def test_features_of_networks_fade(network):
    network = EquivariantNetwork(cutoff=CUTOFF, **NETWORKS[network]).fit([passing(d) for d in (2.0, 2.5)])
    outside, scale = rows(network.transform([passing(CUTOFF)])), np.abs(rows(network.transform([passing(2.0)]))).max()
    for delta in 10.0 ** np.arange(-9, -2):
        np.testing.assert_array_equal(rows(network.transform([passing(CUTOFF + delta)])), outside)
        assert np.abs(rows(network.transform([passing(CUTOFF - delta)])) - outside).max() < 100 * scale * delta**2


def crystals():
    """Crystals of equivalent atoms, and the distances of their first shells."""
    a = 3.6
    for name, shells in (
        ("fcc", a * np.sqrt([0.5, 1.0, 1.5, 2.0])),
        ("bcc", a * np.array([np.sqrt(0.75), 1.0, np.sqrt(2)])),
        ("sc", a * np.array([1.0, np.sqrt(2), np.sqrt(3)])),
        ("diamond", a * np.array([np.sqrt(3) / 4, np.sqrt(0.5), np.sqrt(11) / 4])),
    ):
        yield name, bulk("Cu", name, a=a), shells
    yield "hcp", bulk("Mg", "hcp", a=a, c=a * np.sqrt(8 / 3)), a * np.array([1.0, np.sqrt(2), np.sqrt(8 / 3)])
    yield "rocksalt", bulk("NaCl", "rocksalt", a=a), a * np.array([0.5, np.sqrt(0.5), np.sqrt(0.75)])


CRYSTALS = {f"{name} {k}": (atoms, shell) for name, atoms, shells in crystals() for k, shell in enumerate(shells)}


def variants(atoms):
    """The crystal as it is, as supercells, rotated and shifted."""
    for repeats in ((1, 1, 1), (3, 3, 3), (1, 2, 5)):
        one = atoms.repeat(repeats)
        yield one
        turned = one.copy()
        turned.rotate(77.7, (1, 2, 3), rotate_cell=True)
        turned.positions += [17.3, -5.1, 2.9]
        turned.wrap()
        yield turned


@pytest.mark.parametrize("crystal", CRYSTALS)
def test_equal_atoms_are_equal_with_a_shell_at_the_cutoff(crystal):
    atoms, shell = CRYSTALS[crystal]
    frames = list(variants(atoms))
    numbers = np.concatenate([one.numbers for one in frames])
    # the shell at the cutoff, and at half the height of the cutoff function
    for cutoff, width in ((shell, 1e-3 * shell), (shell, 0.5), (shell * 1.0005, 1.0005e-3 * shell)):
        for maker in ("soap", "bispectrum"):
            features = rows(MAKERS[maker](cutoff=cutoff, cutoff_width=width).fit_transform(frames))
            for number in np.unique(numbers):
                of_species = features[numbers == number]
                assert np.abs(of_species - of_species[0]).max() < 1e-10 * np.abs(features).max()


@pytest.mark.parametrize("architecture", NETWORKS)
def test_equal_atoms_are_equal_for_networks(architecture):
    for crystal in ("fcc 1", "rocksalt 2"):
        atoms, shell = CRYSTALS[crystal]
        frames = list(variants(atoms))[:4]
        features = EquivariantNetwork(cutoff=shell, **NETWORKS[architecture]).fit_transform(frames)
        scalars = features.blocks["0e"][:, 0]
        for number in np.unique(features.species):
            of_species = scalars[features.species == number]
            assert np.abs(of_species - of_species[0]).max() < 1e-10 * np.abs(scalars).max()


@pytest.mark.parametrize("maker", MAKERS)
def test_a_sharp_cutoff_is_refused(maker):
    for width in (0, 0.0, 1e-12, 2e-3):
        with pytest.raises(
            ValueError, match=r"cutoff_width=.* must be at least 0.003 .*rounding decides.*cutoff_width=0.3"
        ):
            MAKERS[maker](cutoff=CUTOFF, cutoff_width=width).fit([passing(2.0)])


def test_a_sharp_table_is_refused():
    with pytest.raises(ValueError, match="cutoff_width=0 must be at least 0.005"):
        RadialTable(GTO(2, 5.0), 2, 0.3, 5.0, cutoff_width=0)
