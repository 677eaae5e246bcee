r"""Thole's model of polarizabilities: a few numbers for each element, fitted to labels, and the physics of long range.

See :mod:`eqkernels.regression.induced_dipoles` for the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.units import Bohr
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from sklearn.base import BaseEstimator, RegressorMixin

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Choice, Number, check_parameters
from eqkernels._warnings import warn
from eqkernels.descriptors import Derivatives
from eqkernels.metrics import tensor_r2
from eqkernels.regression.base import _check_weight
from eqkernels.regression.fitted_targets import projected
from eqkernels.regression.induced_dipoles import DAMPINGS, by_size
from eqkernels.regression.summary import Summarized
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch, read_labels, symbols

# Where a fit begins: atomic polarizabilities (bohr^3) that van Duijnen and Swart (1998) fitted to experiments with
# exponential damping, and the damping of both kinds.
PUBLISHED = {
    "H": 2.7927, "C": 8.6959, "N": 6.5565, "O": 5.7494, "F": 3.0013, "S": 16.6984, "Cl": 16.1979, "Br": 23.5714,
    "I": 36.9880,
}  # fmt: skip
PUBLISHED_A = {"exponential": 2.1304, "linear": 1.7278}
# Cubic Angstrom in one unit of the labels.
UNITS = {"bohr^3": Bohr**3, "angstrom^3": 1.0}
# Where nothing is published: about the cube of the covalent radius and this (Angstrom), which is right within a factor.
_LARGER, _FACTOR = 0.2, 1.5
# Rows that draw logarithms of the parameters to where they began, relative to the size of the labels: they decide only
# about elements of which the labels say nothing.
_PRIOR = 1e-3
# Labels look like those in another unit, if by that they are within this factor of the model with published values.
_LIKE_ANOTHER = 1.4


class TholePolarizability(Summarized, RegressorMixin, BaseEstimator):
    """Polarizability of molecules from interacting atomic dipoles, with a polarizability for each element.

    It has few parameters and the right long range. Alone it errs by some percent; as ``baseline=TholePolarizability()``
    of a model that learns the rest it is fitted to the same labels first.

    Parameters
    ----------
    damping : {"exponential", "linear"}, default="exponential"
        How dipoles of close atoms are damped: as charges that decay exponentially, or linearly. With linear damping
        derivatives jump where it ends.
    a : float, default=None
        Parameter of the damping; None: fitted. Larger ones damp less with exponential, more with linear damping.
    unit : {"bohr^3", "angstrom^3"}, default="bohr^3"
        Unit of y; positions are in Angstrom, as in ASE.

    Attributes
    ----------
    polarizabilities_ : dict of str to float
        Of the atoms of each element, in the unit of y.
    a_ : float
        Parameter of the damping.
    rmse_ : float
        Of the fit, Frobenius norm, in the unit of y.
    target_, axial_, per_atom_
        As in :class:`TensorKernelRidge`.

    See Also
    --------
    TensorKernelRidge : With this as a baseline.

    Notes
    -----
    Least squares by Levenberg and Marquardt, in the logarithms of the parameters with analytic derivatives, from the
    values of van Duijnen and Swart, or where they have none from covalent radii. Elements of which the labels say
    nothing keep these.

    References
    ----------
    B. T. Thole, Chem. Phys. 59, 341 (1981), https://doi.org/10.1016/0301-0104(81)85176-2. P. T. van Duijnen, M. Swart,
    J. Phys. Chem. A 102, 2399 (1998), https://doi.org/10.1021/jp980221f.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> model = TholePolarizability().fit(data.frames[:60], data.polarizability[:60])
    >>> {symbol: round(value, 1) for symbol, value in model.polarizabilities_.items()}
    {'H': 1.9, 'C': 9.8, 'N': 6.8, 'O': 4.9}
    >>> bool(model.score(data.frames[60:], data.polarizability[60:]) > 0.9)
    True
    """

    _takes_batches = True
    _constraints = {  # noqa: RUF012
        "damping": Choice(*DAMPINGS),
        "a": Number(above=0, none=True),
        "unit": Choice(*UNITS),
    }

    def __init__(self, damping: str = "exponential", *, a: float | None = None, unit: str = "bohr^3"):
        self.damping = damping
        self.a = a
        self.unit = unit

    @whole_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> TholePolarizability:
        """Fit the atomic polarizabilities, and the damping unless it is stated.

        Parameters
        ----------
        X : sequence of ase.Atoms
            Molecules.
        y : array-like of shape (n_structures, 3, 3)
            Their polarizabilities.
        sample_weight : array-like of shape (n_structures,), default=None

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If structures or labels are unusable, or a structure is periodic.
        """
        check_parameters(self)
        batch = _molecules(X)
        labels = read_labels(y, np.diff(batch.offsets), CartesianTensor("ij=ji"), False)
        weight = _check_weight(sample_weight, len(batch))
        values = projected(labels.tensor, labels.values) * UNITS[self.unit]
        self.target_, self.axial_, self.per_atom_ = labels.tensor.formula, labels.tensor.axial, False
        species = batch.species
        start = np.log([_start(number) for number in species] + [self.a or PUBLISHED_A[self.damping]])
        self._warn_of_unit(batch, species, start, values)
        roots = np.ones(len(values)) if weight is None else np.sqrt(weight)
        problem = _Problem(batch, species, self.damping, values, roots, start, self.a is None)
        found = problem.solve()
        self.polarizabilities_ = {
            chemical_symbols[number]: float(np.exp(one) / UNITS[self.unit])
            for number, one in zip(species, found, strict=False)
        }
        self.a_ = float(np.exp(found[-1]))
        residual = self.predict(batch) - values / UNITS[self.unit]
        self.rmse_ = float(np.sqrt(np.average(np.sum(residual**2, axis=(1, 2)), weights=weight)))
        self.n_structures_fit_ = len(batch)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Polarizabilities of molecules.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures, 3, 3)
            In the unit of y.
        """
        check_fitted(self)
        batch = _molecules(X)
        out = np.empty((len(batch), 3, 3))
        for molecules, response in self._responses(batch):
            out[molecules.rows] = response.polarizabilities
        return out / UNITS[self.unit]

    def predict_derivatives(self, X: Any) -> list[NDArray[np.float64]]:
        """Differentiate the polarizabilities by the positions of the atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        list of ndarray of shape (n_atoms, 3, 3, 3)
            For each molecule ``[a, i, l, j]``, the derivative of component il by coordinate j of atom a.
        """
        check_fitted(self)
        batch = _molecules(X)
        out: list[Any] = [None] * len(batch)
        for molecules, response in self._responses(batch):
            for row, derivatives in zip(molecules.rows, response.by_positions(), strict=True):
                out[row] = derivatives / UNITS[self.unit]
        return out

    def vjp(self, X: Sequence[Atoms], cotangents: ArrayLike) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * predict(X)) by positions and strain.

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : array-like of shape (n_structures, 3, 3)

        Returns
        -------
        Derivatives
        """
        batch, cotangents = _molecules(X), np.asarray(cotangents, dtype=float)
        if cotangents.shape != (len(batch), 3, 3):
            raise ValueError(f"cotangents have shape {cotangents.shape}, the predictions {(len(batch), 3, 3)}")
        parts = [
            np.einsum("ailj,il->aj", one, c) for one, c in zip(self.predict_derivatives(batch), cotangents, strict=True)
        ]
        positions, strain = np.concatenate(parts), np.zeros((len(batch), 3, 3))
        np.add.at(strain, batch.structure_of_atom, positions[:, :, None] * batch.positions[:, None, :])
        return Derivatives(positions, strain)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """R2 with the squares of all components summed, see :func:`eqkernels.metrics.tensor_r2`."""
        return tensor_r2(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    @property
    def species_(self) -> NDArray[np.int64]:
        """Atomic numbers of the elements of the fit."""
        return np.array([atomic_numbers[symbol] for symbol in self.polarizabilities_])

    def _responses(self, batch):
        species, alphas = self.species_, np.array(list(self.polarizabilities_.values())) * UNITS[self.unit]
        unknown = np.flatnonzero(~np.isin(batch.numbers, species))
        if len(unknown):
            raise ValueError(
                f"species {chemical_symbols[batch.numbers[unknown[0]]]} (first in {batch.where(unknown[0])}) was not "
                f"seen at fit, which saw {symbols(species)}: fit on molecules that contain it"
            )
        for molecules in by_size(batch, np.searchsorted(species, batch.numbers)):
            yield molecules, molecules.response(alphas, self.a_, self.damping)

    def _warn_of_unit(self, batch, species, start, values):
        """Warn of labels that have the size of another unit."""
        kinds, sizes = np.searchsorted(species, batch.numbers), np.zeros(len(batch))
        for molecules in by_size(batch, kinds):
            response = molecules.response(np.exp(start[:-1]), np.exp(start[-1]), self.damping)
            sizes[molecules.rows] = np.trace(response.polarizabilities, axis1=1, axis2=2)
        known = all(chemical_symbols[number] in PUBLISHED for number in species)
        ratio = np.median(np.trace(values, axis1=1, axis2=2) / sizes)
        for unit, size in UNITS.items():
            if known and unit != self.unit and 1 / _LIKE_ANOTHER < ratio * size / UNITS[self.unit] < _LIKE_ANOTHER:
                warn(
                    f"y has {ratio:.2g} times the size of polarizabilities in {self.unit}: if it is in {unit}, write "
                    f"unit={unit!r}"
                )


class _Problem:
    """Least squares of the logarithms of atomic polarizabilities (cubic Angstrom) and of the damping."""

    def __init__(self, batch, species, damping, values, roots, start, fits_a):
        self.groups = list(by_size(batch, np.searchsorted(species, batch.numbers)))
        self.damping, self.values, self.roots, self.start = damping, values, roots, start
        self.n_free = len(start) if fits_a else len(start) - 1
        self.prior = _PRIOR * np.linalg.norm(roots[:, None, None] * values)

    def solve(self):
        known: dict[bytes, Any] = {}

        def at(theta, k):
            key = theta.tobytes()
            if key not in known:
                known.clear()
                known[key] = self._evaluate(theta)
            return known[key][k]

        found = least_squares(partial(at, k=0), self.start[: self.n_free], jac=partial(at, k=1), x_scale=1.0)
        return np.concatenate([found.x, self.start[self.n_free :]])

    def _evaluate(self, theta):
        """Residuals and their derivatives."""
        full = np.concatenate([theta, self.start[self.n_free :]])
        n, n_kinds = len(self.values), len(full) - 1
        residuals, slopes = np.empty((n, 3, 3)), np.empty((n, 3, 3, n_kinds + 1))
        for molecules in self.groups:
            response, rows = molecules.response(np.exp(full[:-1]), np.exp(full[-1]), self.damping), molecules.rows
            residuals[rows] = response.polarizabilities - self.values[rows]
            slopes[rows] = response.by_parameters(n_kinds)
        residuals *= self.roots[:, None, None]
        slopes *= self.roots[:, None, None, None]
        drawn = self.prior * (theta - self.start[: self.n_free])
        jacobian = slopes.reshape(9 * n, -1)[:, : self.n_free]
        return np.concatenate([residuals.ravel(), drawn]), np.vstack([jacobian, self.prior * np.eye(self.n_free)])


def _start(number):
    """Polarizability of an atom (cubic Angstrom) with which a fit begins."""
    symbol = chemical_symbols[number]
    if symbol in PUBLISHED:
        return PUBLISHED[symbol] * Bohr**3
    return _FACTOR * (covalent_radii[number] + _LARGER) ** 3


def _molecules(X):
    """Structures, none of which may be periodic."""
    batch = StructureBatch.from_frames(X)
    periodic = np.flatnonzero(batch.pbc.any(axis=1))
    if len(periodic):
        raise ValueError(
            f"structure {batch.number(periodic[0])} is periodic: TholePolarizability is a model of molecules, whose "
            "dipoles are finite in number. Set atoms.pbc = False if it is a molecule; for crystals take another model"
        )
    return batch
