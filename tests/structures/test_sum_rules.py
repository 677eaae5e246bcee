"""Derivatives of functions that obey the laws pass; in other conventions they do not, and the message says which."""

import warnings

import numpy as np
import pytest
from ase import Atoms

from eqkernels.structures import StructureBatch, check_sum_rules, read_derivatives

STEP = 1e-4


def charges(positions):
    """Charges that depend on the surroundings and sum up to zero."""
    r2 = np.sum((positions[:, None] - positions) ** 2, axis=2)
    q = np.exp(-r2 / 3).sum(axis=1) ** 2
    return q - q.mean()


def dipole(positions):
    return charges(positions) @ positions


def quadrupole(positions):
    return np.einsum("a,ai,aj->ij", charges(positions), *[positions - positions.mean(axis=0)] * 2)


def skew(positions):
    return np.outer(dipole(positions), charges(positions) ** 3 @ (positions - positions.mean(axis=0)))


def derivatives_of(function, positions):
    """Central differences, fourth order: first the atom, last the direction."""
    out = np.empty((*positions.shape, *np.shape(function(positions))))
    for index in np.ndindex(positions.shape):
        total = 0.0
        for step, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = positions.copy()
            moved[index] += step * STEP
            total = total + weight * function(moved) / (12 * STEP)
        out[index] = total
    return np.moveaxis(out, 1, -1)


def molecules(function, n=5, seed=0, pbc=False):
    random = np.random.default_rng(seed)
    frames = [
        Atoms("OHHC"[: 3 + k % 2], random.normal(size=(3 + k % 2, 3)), cell=9 * np.eye(3), pbc=pbc) for k in range(n)
    ]
    values = np.array([function(atoms.positions) for atoms in frames])
    return frames, values, [derivatives_of(function, atoms.positions) for atoms in frames]


def check(frames, derivatives, values=None):
    n_atoms = np.array([len(atoms) for atoms in frames])
    read = read_derivatives(derivatives, n_atoms)
    check_sum_rules(read, n_atoms, lambda picked: StructureBatch.from_frames([frames[k] for k in picked]), values)


@pytest.mark.parametrize("function", [dipole, quadrupole, skew])
@pytest.mark.parametrize("known", [True, False])
def test_true_derivatives_pass(function, known):
    frames, values, derivatives = molecules(function)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(frames, derivatives, values if known else None)
        check(
            frames,
            [None, *derivatives[1:]],
            np.where(np.arange(5).reshape(-1, *[1] * (values.ndim - 1)) > 2, values, np.nan),
        )


@pytest.mark.parametrize("function", [dipole, quadrupole, skew])
def test_other_conventions_are_named(function):
    frames, values, derivatives = molecules(function)
    direction_first = [np.moveaxis(one, -1, 1) for one in derivatives]
    for wrong, message in (
        ([-one for one in derivatives], "with the opposite sign: derivatives"),
        (direction_first, "with the direction in which the atom moves last instead of first: derivatives"),
        ([-one for one in direction_first], "last instead of first, and the opposite sign: derivatives"),
        ([1.8897 * one for one in derivatives], r"with divided by 1.89 \(a unit of y or of the positions"),
    ):
        with pytest.raises(ValueError, match=message):
            check(frames, wrong, values)
    with pytest.raises(ValueError, match=r"np.moveaxis\(derivatives\[k\], 1, -1\) may be what is meant"):
        check(frames, direction_first)
    with pytest.warns(UserWarning, match=r"do not belong to y.*most in structure"):
        check(frames, derivatives, values[::-1])
    # of crystals, rotations say nothing
    frames, _, derivatives = molecules(function, pbc=True)
    check(frames, [-one for one in derivatives], values)


def test_the_acoustic_sum_rule():
    frames, values, derivatives = molecules(dipole)
    ion = derivatives[2] + np.eye(3) / 3 * 0.2
    with pytest.warns(
        UserWarning, match="sum rule in 1 of 5 structures, most in structure 2: their sum .* up to 0.2, "
    ):
        check(frames, [*derivatives[:2], ion, *derivatives[3:]], values)
    with pytest.raises(ValueError, match="in 5 of 5 structures, .* check that they belong to these structures"):
        check(frames, [np.ones_like(one) for one in derivatives], values)
    part = derivatives[2].copy()
    part[1] = np.nan
    check(frames, [*derivatives[:2], part, *derivatives[3:]], values)  # of which nothing can be said
    check(frames, [None] * 5, values)


def test_reading():
    n_atoms = np.array([2, 3])
    read = read_derivatives([np.arange(18).reshape(2, 3, 3).tolist(), None], n_atoms, 1)
    np.testing.assert_array_equal(read[:2], np.arange(18).reshape(2, 3, 3))
    assert np.isnan(read[2:]).all()
    part = np.ones((3, 3, 3))
    part[1, :, 2] = np.nan
    assert read_derivatives([np.nan, part], n_atoms).shape == (5, 3, 3)
    part[1, 0, 1] = np.inf
    with pytest.raises(ValueError, match="derivative of structure 1 by y of atom 1 has NaN or infinity"):
        read_derivatives([None, part], n_atoms)
    with pytest.raises(
        ValueError, match=r"structure 0 has 2 atoms: expected \(2, 3, 3\), the atom first and the direction"
    ):
        read_derivatives([np.ones((2, 3)), part], n_atoms, 1)
    with pytest.raises(ValueError, match="by x of atom 0 is larger than"):
        read_derivatives([np.full((2, 3, 3), 1e300), None], n_atoms)
    with pytest.raises(TypeError, match="derivatives must be a sequence"):
        read_derivatives(3.0, n_atoms)
