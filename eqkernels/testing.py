"""Checks of symmetry for any model: ours, and those of users.

A function of structures is equivariant when rotating, mirroring, moving or relabelling a structure changes its value
in the one way that its type prescribes, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._numeric import check_integer, check_positive
from eqkernels.so3 import CartesianTensor
from eqkernels.symmetry.equivariance_check import measured
from eqkernels.symmetry.transformations import random_rotation, transformed

__all__ = ["assert_equivariant", "random_rotation", "transformed"]

_NAMES = {
    "rotation": "proper rotation",
    "inversion": "improper rotation (inversion)",
    "translation": "translation",
    "permutation": "permutation of the atoms",
}


def assert_equivariant(
    model: Any,
    frames: Sequence[Atoms],
    target: str | CartesianTensor | None = None,
    *,
    n_transformations: int = 3,
    tolerance: float = 1e-10,
    random_state: int | np.random.RandomState | None = 0,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Check that a model follows rotations, inversion, translations and permutations of its structures.

    Parameters
    ----------
    model : estimator or callable
        Something with ``predict`` or ``transform``, already fitted, or a function of a list of frames. It may return
        Cartesian tensors (n_structures, 3, ..., 3), a list of one array (n_atoms, 3, ..., 3) for each structure, or
        :class:`~eqkernels.descriptors.EquivariantFeatures`.
    frames : sequence of ase.Atoms
        Structures to try it on.
    target : str or CartesianTensor, default=None
        Only for tensors with axial indices: ``CartesianTensor("ij", axial="j")``. Otherwise every index is polar, and
        arrays without axes of length 3 are invariants.
    n_transformations : int, default=3
        Number of random rotations. Inversion, a translation and a permutation are tried once each.
    tolerance : float, default=1e-10
        Largest deviation, relative to the largest value that the model returns (at least 1e-300).
    random_state : int or numpy.random.RandomState, default=0
        Seed of the transformations.
    inputs : dict of str to str, default=None
        Inputs of the model beyond the geometry, as those of its descriptor: they are rotated with their structure.

    Raises
    ------
    AssertionError
        With each law that is broken, the structure that breaks it most and by how much.

    See Also
    --------
    eqkernels.symmetry.check_equivariance : Measures, and looks at supercells and the choice of the cell, too.

    Examples
    --------
    >>> from ase.build import molecule
    >>> frames = [molecule("H2O"), molecule("CH3OH")]
    >>> assert_equivariant(lambda frames: [atoms.get_center_of_mass() - atoms.positions[0] for atoms in frames], frames)
    Traceback (most recent call last):
        ...
    AssertionError: permutation of the atoms: structure 1 deviates by ...
    """
    check_integer(n_transformations, "n_transformations", 1, 10**6)
    check_positive(tolerance, "tolerance")
    call = getattr(model, "predict", None) or getattr(model, "transform", None) or model
    if not callable(call):
        raise TypeError(f"model is {model!r}, expected an estimator with predict or transform, or a function of frames")
    counts = {"rotation": n_transformations, "inversion": 1, "translation": 1, "permutation": 1}
    report = measured(call, frames, target, counts, tolerance, random_state, inputs=inputs)
    if report.broken:
        raise AssertionError("\n".join(_broken(report, name) for name in report.broken))


def _broken(report, name):
    size, structure = report.violations[name], report.structures[name]
    if size == np.inf:
        return f"{_NAMES[name]}: structure {structure} has a value of another shape, or NaN in other places"
    return (f"{_NAMES[name]}: structure {structure} deviates by {size:.1e} of the largest value, allowed "
            f"{report.tolerance:.1e}")  # fmt: skip
