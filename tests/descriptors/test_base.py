"""What all transformers of densities share: names of species, cotangents, and parts of long sets."""

import numpy as np
import pytest

from eqkernels import LambdaSOAP
from eqkernels.descriptors.base import among, checked_cotangents, species_number, species_numbers


def test_names_of_species():
    np.testing.assert_array_equal(species_numbers(["O", 1, "H"], "center_species"), [1, 8])
    np.testing.assert_array_equal(species_numbers("O", "center_species"), [8])
    np.testing.assert_array_equal(among(np.array([1, 8]), np.array([8, 6, 1])), [True, False, True])


@pytest.mark.parametrize("species", ["X", "Xx", 0, -1, 119, True, 1.0, None])
def test_what_is_not_a_species(species):
    with pytest.raises(ValueError, match="neither a chemical symbol nor an atomic number"):
        species_number(species, "center_species")


def test_cotangents_of_the_shapes_of_the_blocks():
    shapes = {"0e": (2, 1, 3)}
    checked = checked_cotangents({"0e": np.ones((2, 1, 3), np.float32)}, shapes)
    assert checked["0e"].dtype == np.float64
    for wrong in ({"1o": np.ones((2, 1, 3))}, {"0e": np.ones((2, 1, 2))}):
        with pytest.raises(ValueError, match="the features have"):
            checked_cotangents(wrong, shapes)
    with pytest.raises(TypeError, match="a dict of arrays by irrep, got list"):
        checked_cotangents([], shapes)


def test_species_that_are_not_seen_at_fit_are_named(molecules):
    hydrogen = [atoms for atoms in molecules if set(atoms.numbers) == {1}] or [molecules[0][molecules[0].numbers == 1]]
    with pytest.raises(ValueError, match="was not seen at fit"):
        LambdaSOAP(3.0, n_max=1, l_max=0, irreps="0e").fit(hydrogen).transform(molecules)
