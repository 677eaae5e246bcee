"""A calculator of ASE as a baseline: what a cheap method says is subtracted from labels and added to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from eqkernels.structures import by_structure

# Properties of ASE that have a value for each atom.
_OF_ATOMS = ("forces", "charges", "magmoms", "energies", "stresses")
_ENERGIES = ("energy", "free_energy")


class CalculatorBaseline(BaseEstimator):
    """Property that an ASE calculator computes, as the baseline of a model, with forces and stress of energies.

    Parameters
    ----------
    calculator : ase.calculators.calculator.Calculator
        Any that computes the property of structures: a force field, a tight-binding method, a
        :class:`~eqkernels.TensorCalculator`. It is used as it is: clones of a model share it.
    property : str, default="energy"
        Name that ASE gives it: ``"energy"``, ``"dipole"``, ``"forces"``, ``"charges"``, ... In the units of the
        calculator, which have to be those of the labels; stress as matrices.

    See Also
    --------
    TholePolarizability : Induced dipoles as a baseline of polarizabilities.

    Examples
    --------
    Energies with those of effective medium theory, which is wrong by the energies of the atoms:

    >>> import numpy as np
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> from eqkernels import LambdaSOAP, TensorRidge
    >>> frames = [bulk("Cu", cubic=True) for _ in range(5)]
    >>> for k, atoms in enumerate(frames):
    ...     atoms.rattle(0.05, seed=k)
    >>> baseline = CalculatorBaseline(EMT(), "energy")
    >>> y = baseline.predict(frames) - 4 * 3.5
    >>> model = TensorRidge(alpha=1e-6, descriptor=LambdaSOAP(n_max=3, l_max=2), baseline=baseline).fit(frames, y)
    >>> bool(np.abs(model.predict(frames) - y).max() < 1e-8), model.predict_forces(frames)[0].shape
    (True, (4, 3))
    """

    def __init__(self, calculator: Any, property: str = "energy"):
        self.calculator = calculator
        self.property = property

    def __sklearn_clone__(self) -> CalculatorBaseline:
        """Clone that shares the calculator, which may be a running program."""
        return type(self)(self.calculator, self.property)

    def predict(self, X: Sequence[Atoms]) -> NDArray[Any]:
        """Compute the property.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures, ...), or for properties of atoms ndarray of object, arrays (n_atoms, ...)
        """
        found = [self._of(atoms, self.property) for atoms in X]
        if self.property in _OF_ATOMS:
            return by_structure(np.concatenate(found), [len(one) for one in found])
        return np.array(found)

    def predict_forces(self, X: Sequence[Atoms]) -> list[NDArray[np.float64]]:
        """Compute the forces, (n_atoms, 3) for each structure."""
        self._check_energy("forces")
        return [self._of(atoms, "forces") for atoms in X]

    def predict_stress(self, X: Sequence[Atoms]) -> NDArray[np.float64]:
        """Compute the stress, (n_structures, 3, 3)."""
        self._check_energy("stress")
        return np.array([self._of(atoms, "stress") for atoms in X])

    def _check_energy(self, what):
        if self.property not in _ENERGIES:
            raise TypeError(f"CalculatorBaseline of {self.property!r} has no {what}: only that of an energy has")

    def _of(self, atoms, name):
        if not hasattr(self.calculator, "get_property"):
            raise TypeError(f"calculator={self.calculator!r:.60} must be an ASE calculator, such as EMT()")
        structure = atoms.copy()
        value = self.calculator.get_property(name, structure)
        if value is None:
            raise ValueError(f"calculator={type(self.calculator).__name__} gives no {name!r}")
        value = np.array(value, dtype=float)
        return voigt_6_to_full_3x3_stress(value) if name == "stress" and value.shape == (6,) else value
