r"""Kernel of the multipoles that charges of the atoms make.

A dipole is the sum of charges of the atoms times their positions and of dipoles of the atoms (M. Veit, D. M. Wilkins,
Y. Yang, R. A. DiStasio, M. Ceriotti, J. Chem. Phys. 153, 024113 (2020)). With a Gaussian process of charges, whose
covariance :math:`k_0` is that of invariants, the dipoles of two structures have the covariance

.. math::
    K(A, B) = w \sum_{i \in A} \sum_{j \in B} \mathbf d_i\, k_0(i, j)\, \mathbf d_j^T , \quad
    k_0(i, j) = \left[ \frac{\mathbf p_i \cdot \mathbf p_j}{|\mathbf p_i| |\mathbf p_j|} \right]^\zeta ,

for i and j of the same species, with the displacement :math:`\mathbf d_i = \mathbf r_i - \mathbf r_A` from the middle
of the molecule (:mod:`eqkernels.structures.places`). Charges that are the same everywhere make no dipole: these are the
charges from which the mean over the molecule is taken off, so that they sum up to zero, exactly, and the dipole does
not depend on the origin. A total charge Q is added in equal parts to all atoms: its dipole is Q times the mean position
of the atoms, about the origin of the coordinates. The quadrupole of charges has components of
:math:`\mathbf r_i \mathbf r_i^T` in place of :math:`\mathbf r_i`, about the mean position of the atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eqkernels._parameters import is_number
from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels._charge_loops import add_multipoles
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.bounds import start_value
from eqkernels.kernels.contraction import Contraction
from eqkernels.kernels.covariant import CovariantKernel, pairs_of_environments
from eqkernels.kernels.environments import environment_arrays, environment_scale, environments
from eqkernels.kernels.gradients import polynomial_gradient
from eqkernels.kernels.position_gradients import PositionGradient
from eqkernels.kernels.precise_sums import multiply_kernels, precise_products, precise_weights
from eqkernels.so3 import Irrep
from eqkernels.structures.places import Places, moments

# Multipoles that charges make, by their irreps: dipole, traceless quadrupole and its trace.
_DEGREES = {"0e": 0, "1o": 1, "2e": 2}
# Terms that cancel leave rounding of this size, relative to the sum of their moduli.
_CANCELLED = 1e-14
# Rows of one product of environments in derivatives; structures whose features are made at once for their own kernels.
_ROWS, _STRUCTURES = 512, 64


class ChargeKernel(TensorKernel):
    """Kernel of dipoles (and quadrupoles) made by charges of the atoms, for molecules larger than the cutoff.

    It is added to the kernel of dipoles of the atoms, ``CovariantKernel() + ChargeKernel()``: those describe what is
    local, charges how far it is apart.

    Parameters
    ----------
    zeta : int, default=2
        Degree of the kernel between charges, at least 1, as of :class:`CovariantKernel`.
    normalize : {"invariant", True, False}, default="invariant"
        Whether features are divided by their norm; False: they are used as they are.
    weight : "auto" or float, default="auto"
        Factor of the kernel, the variance of the charges where the labels are in units of a charge times a length.
        ``"auto"``: models choose it by the structures that they leave out, so that charges which are no good do no
        harm (:mod:`eqkernels.regression.weights`).
    reach : float, default=5.0
        Distance up to which atoms belong to the same molecule, in which charges sum up to zero. Infinity: those of the
        whole structure.
    weight_bounds : pair of floats or "fixed", default=(1e-8, 1e8)
        Range in which :class:`TensorGPR` goes on from a weight that is stated.

    See Also
    --------
    CovariantKernel : Kernel of tensors of the atoms.
    eqkernels.TensorKernelRidge.predict_charges : Charges of the atoms of a fitted model.

    Notes
    -----
    Other irreps than 1o (dipoles), 2e and 0e (quadrupoles) are zero. Features need the positions of their centers,
    which all descriptors store. Structures must be molecules, with their total charge as ``atoms.info["charge"]`` if it
    is not zero.

    References
    ----------
    M. Veit, D. M. Wilkins, Y. Yang, R. A. DiStasio, M. Ceriotti, J. Chem. Phys. 153, 024113 (2020),
    https://doi.org/10.1063/5.0009106.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import CovariantKernel, LambdaSOAP
    >>> features = LambdaSOAP(n_max=4, l_max=3, irreps="0e+1o").fit_transform([molecule("H2O"), molecule("NH3")])
    >>> kernel = CovariantKernel() + ChargeKernel(weight=0.1)
    >>> kernel(features, irrep="1o").shape
    (2, 2, 3, 3)
    """

    aggregate = "sum"
    uses_positions = True

    def __init__(
        self,
        zeta: int = 2,
        normalize: str | bool = "invariant",
        weight: float | str = "auto",
        reach: float = 5.0,
        weight_bounds: tuple[float, float] | str = (1e-8, 1e8),
    ):
        self.zeta = zeta
        self.normalize = normalize
        self.weight = weight
        self.reach = reach
        self.weight_bounds = weight_bounds

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Kernel matrices between structures.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            The two sets of structures; None for Y means X.
        irrep : str, default="0e"

        Returns
        -------
        ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Raises
        ------
        ValueError
            If features do not know positions, structures are periodic, or charges do not add up.
        """
        return self._factor() * self._matrix(X, Y, irrep)

    def _matrix(self, X, Y, irrep):
        self._check(X, Y, irrep)
        d, n_columns = Irrep.parse(irrep).dim, len(X if Y is None else Y)
        out, moduli = np.zeros((len(X), n_columns, d, d)), np.zeros((len(X), n_columns))
        if irrep not in _DEGREES:
            return out
        left, right = environments(X, Y, "0e", self.normalize, False)
        arms = [self._displacements(one.features, irrep) for one in (left, right)]
        for rows, columns, mirror in pairs_of_environments(left, right):
            products, _ = left.products(rows, right, columns)
            kernels = (left.scale[rows, None] * right.scale[columns] * products[:, 0, :, 0]) ** int(self.zeta)
            structures = left.features.structures[rows], right.features.structures[columns]
            add_multipoles(kernels, arms[0][rows], arms[1][columns], *structures, mirror, out, moduli)
        out[np.abs(out).max(axis=(2, 3)) <= _CANCELLED * moduli] = 0.0
        return out

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of every structure with itself."""
        if not isinstance(X, EquivariantFeatures):
            return super().diag(X, irrep)
        self._check(X, None, irrep)
        d = Irrep.parse(irrep).dim
        out = np.zeros((len(X), d, d))
        if irrep not in _DEGREES:
            return out
        arms, size = self._displacements(X, irrep), _STRUCTURES
        for start in range(0, len(X), size):
            first, last = X.offsets[[start, min(start + size, len(X))]]
            block, _, scale = environment_arrays(X, "0e", self.normalize, np.arange(first, last), False)
            scalars = scale[:, None] * block[:, 0]
            for k in range(start, min(start + size, len(X))):
                own = slice(X.offsets[k], X.offsets[k + 1])
                of_own = scalars[own.start - first : own.stop - first]
                same = X.species[own, None] == X.species[own]
                part = arms[own].T @ (np.where(same, of_own @ of_own.T, 0.0) ** int(self.zeta)) @ arms[own]
                out[k] = (part + part.T) / 2
        return self._factor() * out

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[Any]:
        """Differentiate kernels with single environments by the features, and by the positions of the centers.

        Parameters
        ----------
        X : EquivariantFeatures
            Complete structures.
        Y : EquivariantFeatures
            Structures of one environment at most, such as sparse points.
        irrep : str, default="0e"

        Returns
        -------
        list of KernelGradient and PositionGradient
        """
        self._check(X, Y, irrep)
        if irrep not in _DEGREES:
            return []
        normal = self.normalize is not False
        scales = tuple(environment_scale(one, "0e", self.normalize) for one in (X, Y)) if normal else None
        charges = self._charges_of_points(X, Y, scales)
        arms = np.zeros((len(Y), 2 * _DEGREES[irrep] + 1))
        arms[Y.structures] = self._factor() * self._displacements(Y, irrep)
        by_features = polynomial_gradient(X, Y, int(self.zeta), scales, False)
        along = self._displacements(X, irrep)[:, None, :, None] * arms[:, None]
        by_features = by_features.times(along[..., 0, 0] if irrep == "0e" else along)
        places = known_places(X)
        whole = places.whole

        def slopes(structure):
            first, last = whole.offsets[[structure, structure + 1]]
            every = np.zeros((last - first, len(Y)))
            here = np.flatnonzero((places.rows >= first) & (places.rows < last))
            every[places.rows[here] - first] = charges[here]
            return whole.multipole_slopes(self.reach, _DEGREES[irrep], every, structure)[..., None] * arms

        return [by_features, PositionGradient.of(slopes, places)]

    def _charges_of_points(self, X, Y, scales):
        """Kernels of the charges of centers with those of single environments, (n_centers, n_points)."""
        out = np.zeros((len(X.species), len(Y)))
        left, right = (np.ones(len(X.species)), np.ones(len(Y.species))) if scales is None else scales
        for species in np.intersect1d(X.species, Y.species):
            i, m = np.flatnonzero(X.species == species), np.flatnonzero(Y.species == species)
            products = X.block_rows("0e", i)[:, 0].astype(float) @ Y.block_rows("0e", m)[:, 0].astype(float).T
            out[np.ix_(i, Y.structures[m])] = (left[i, None] * right[m] * products) ** int(self.zeta)
        return out

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(weights * kernel) by the features and the positions of X.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        weights : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Returns
        -------
        dict of str to ndarray
            By the features, (n_centers, 1, n_features), under ``"0e"``; by the positions of all centers of the
            structures of which X are a part, (n, 3), under ``"positions"``.
        """
        self._check(X, Y, irrep)
        out = {"0e": np.zeros(X.block_shape("0e")), "positions": np.zeros((len(known_places(X).whole.positions), 3))}
        if irrep not in _DEGREES:
            return out
        left, right = (self._displacements(one, irrep) for one in (X, Y))
        scales = [environment_scale(one, "0e", self.normalize) for one in (X, Y)]
        of_arms = np.zeros(left.shape)
        for species in np.intersect1d(X.species, Y.species):
            rows, m = np.flatnonzero(X.species == species), np.flatnonzero(Y.species == species)
            q, theirs = Y.block_rows("0e", m)[:, 0].astype(float, copy=False), Y.structures[m]
            for i in (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)):
                p, scale = X.block_rows("0e", i)[:, 0].astype(float, copy=False), scales[0][i, None] * scales[1][m]
                cosines = scale * (p @ q.T)
                of_pairs = self._factor() * np.einsum("imab,mb->ima", weights[X.structures[i, None], theirs], right[m])
                of_arms[i] = np.einsum("im,ima->ia", cosines ** int(self.zeta), of_pairs)
                slope = self.zeta * cosines ** (int(self.zeta) - 1) * np.einsum("ia,ima->im", left[i], of_pairs)
                out["0e"][i, 0] = (scale * slope) @ q
                if self.normalize is not False:
                    out["0e"][i, 0] -= (np.sum(slope * cosines, axis=1) * scales[0][i] ** 2)[:, None] * p
        out["positions"] = known_places(X).displacements_vjp(self.reach, _DEGREES[irrep], of_arms)
        return out

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Kernel matrices to twice the working precision."""
        self._check(X, Y, irrep)
        if irrep not in _DEGREES:
            return super().precise(X, Y, irrep)
        arms = [self._displacements(one, irrep) for one in (X, Y)]
        norms = [] if self.normalize is False else ["0e"] * int(self.zeta)
        scales = ([(key, environment_scale(one, key, self.normalize)) for key in norms] for one in (X, Y))
        weights = [precise_weights(one, scale, "sum") for one, scale in zip((X, Y), scales, strict=True)]
        factor = np.full((1, 1, 1, 1), self._factor())
        return multiply_kernels(precise_products(X, Y, arms, int(self.zeta), weights), (factor, 0.0 * factor))

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum of kernels times coefficients as a function of features: charges times displacements."""
        if irrep not in _DEGREES:
            return super().contraction(Y, irrep, coef)
        charges = self._charges(Y, irrep, coef)

        def sums(X):
            self._check(X, Y, irrep)
            out = np.zeros((len(X), *coef.shape[1:]))
            np.add.at(out, X.structures, self._displacements(X, irrep)[:, :, None] * charges(X)[:, None])
            return out

        return sums

    def atomic_parts(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, coef: Floats
    ) -> tuple[Floats, Floats]:
        """Charges, which sum up to zero in each molecule; no tensors."""
        self._check(X, Y, irrep)
        tensors, places = np.zeros((len(X.species), *coef.shape[1:])), known_places(X)
        charges = np.zeros((len(places.whole.positions), coef.shape[2]))
        if irrep in _DEGREES:
            charges[places.rows] = self._charges(Y, irrep, coef)(X)
            charges -= places.whole.spread(charges, self.reach)
        return charges, tensors

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats:
        """Multipole of the total charges, in equal parts on all centers, (n_structures, 2 lambda + 1)."""
        return _of_total_charge(X, irrep)

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate sum(cotangents * offset) by the positions of all centers of the structures of X."""
        whole = known_places(X).whole
        charges, out = whole.total_charges(), np.zeros(whole.positions.shape)
        if irrep not in _DEGREES or not charges.any():
            return out
        of_structures = np.zeros((len(charges), cotangents.shape[1]))
        of_structures[whole.structures[known_places(X).rows]] = cotangents.sum(axis=2)[X.structures]
        shares = (charges / np.maximum(np.diff(whole.offsets), 1))[whole.structures, None]
        return whole.moments_vjp(_DEGREES[irrep], shares * of_structures[whole.structures])

    def _charges(self, Y, irrep, coef):
        """Charges of centers as a function of features, before the mean over a molecule is taken off."""
        arms = self._displacements(Y, irrep)
        of_environments = self._factor() * np.einsum("ma,mak->mk", arms, coef[Y.structures])[:, None]
        contraction = Contraction(Y.split_centers(), "0e", int(self.zeta), self.normalize, of_environments, False)
        return lambda X: contraction(X.split_centers())[:, 0]

    def _theta_gradient(self, X, irrep, cache):
        key = ("charges", irrep, int(self.zeta), self.normalize, float(self.reach))
        if key not in cache:
            cache[key] = self._matrix(X, None, irrep)
        matrix = self._factor() * cache[key]
        return matrix, {"weight": matrix}

    def _factor(self):
        return float(start_value(self.weight, "weight"))

    def _displacements(self, features, irrep):
        return known_places(features).displacements(self.reach, _DEGREES[irrep])

    def _check(self, X, Y, irrep):
        if not (is_number(self.reach) or self.reach == np.inf) or self.reach <= 0:
            raise ValueError(f"reach={self.reach!r} must be a positive distance")
        CovariantKernel(self.zeta, self.normalize)._check(X, Y, "0e")
        Irrep.parse(irrep)
        for features in (X, X if Y is None else Y):
            known_places(features).check()


def known_places(features):
    """Places of the centers, or an error that says where they come from."""
    places: Places | None = features.places
    if places is None:
        raise ValueError(
            "the features do not know the positions of their centers, which charges need: make them anew with a "
            "descriptor such as LambdaSOAP, or pass EquivariantFeatures(..., positions=...)"
        )
    return places


def _of_total_charge(features, irrep):
    """Multipole of the total charge of each structure."""
    out = np.zeros((len(features), Irrep.parse(irrep).dim))
    whole = known_places(features).whole
    charges = whole.total_charges()
    if irrep not in _DEGREES or not charges.any():
        return out
    degree, counts = _DEGREES[irrep], np.maximum(np.diff(whole.offsets), 1)
    vectors = whole.positions if degree == 1 else whole.centered()
    sums = np.zeros((len(charges), out.shape[1]))
    np.add.at(sums, whole.structures, moments(vectors, degree))
    return known_places(features).of_structures(sums * (charges / counts)[:, None], features.structures, len(features))
