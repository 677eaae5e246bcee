r"""Kernel of the quadrupoles that dipoles of the atoms make.

A dipole of an atom adds :math:`\mathbf r_i \boldsymbol\mu_i^T + \boldsymbol\mu_i \mathbf r_i^T` to the quadrupole of
its molecule, about the mean position :math:`\bar{\mathbf r}` of the atoms (M. Veit et al., J. Chem. Phys. 153, 024113
(2020), for charges). That is linear in the dipole, so that with features :math:`\mathbf p^1` of dipoles

.. math::
    \mathbf p_i^{2m} =
    \sum_\mu \frac{\partial M_{2m}}{\partial r_\mu}(\mathbf r_i - \bar{\mathbf r})\, \mathbf p_i^{1\mu}

are features of quadrupoles, with the components :math:`M_{2m}` of :math:`\mathbf r \mathbf r^T`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.bounds import start_value
from eqkernels.kernels.charges import known_places
from eqkernels.kernels.covariant import CovariantKernel
from eqkernels.kernels.position_gradients import PositionGradient
from eqkernels.kernels.precise_sums import multiply_kernels
from eqkernels.so3 import Irrep
from eqkernels.structures.places import moments_vjp

_DEGREES = {"0e": 0, "2e": 2}
# Names of the blocks of features that dipoles make; that of the trace must differ from the invariants.
_KEYS = {"0e": "0o", "2e": "2e"}
# m = -1, 0, 1 of a vector x, y, z
_ORDER = [1, 2, 0]


class AtomicDipoleKernel(TensorKernel):
    """Kernel of quadrupoles made by dipoles of the atoms, to be added to those of quadrupoles and charges of the atoms.

    Parameters
    ----------
    zeta : int, default=2
        Degree, as of :class:`CovariantKernel`.
    normalize : {"invariant", False}, default="invariant"
        Whether features are divided by the norm of the invariant ones.
    weight : "auto" or float, default="auto"
        Factor of the kernel; ``"auto"``: chosen by the models, as for :class:`ChargeKernel`.
    weight_bounds : pair of floats or "fixed", default=(1e-8, 1e8)
        Range in which :class:`TensorGPR` goes on from a weight that is stated.

    See Also
    --------
    ChargeKernel : Multipoles that charges make.

    Notes
    -----
    Irreps 2e and 0e, the trace, are those of quadrupoles; others are zero. Features need the block 1o, and molecules.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP
    >>> from eqkernels.kernels import ChargeKernel, CovariantKernel
    >>> kernel = CovariantKernel() + AtomicDipoleKernel(weight=1.0) + ChargeKernel(weight=0.1)
    >>> features = LambdaSOAP(n_max=3, l_max=2, irreps="0e+1o+2e").fit_transform([molecule("H2O"), molecule("NH3")])
    >>> kernel(features, irrep="2e").shape
    (2, 2, 5, 5)
    """

    aggregate = "sum"
    uses_positions = True
    more_irreps = ("1o",)

    def __init__(
        self,
        zeta: int = 2,
        normalize: str | bool = "invariant",
        weight: float | str = "auto",
        weight_bounds: tuple[float, float] | str = (1e-8, 1e8),
    ):
        self.zeta = zeta
        self.normalize = normalize
        self.weight = weight
        self.weight_bounds = weight_bounds

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Kernel matrices between structures, (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)."""
        return self._factor() * self._matrix(X, Y, irrep)

    def _matrix(self, X, Y, irrep):
        if irrep not in _KEYS:
            d = Irrep.parse(irrep).dim
            return np.zeros((len(X), len(X if Y is None else Y), d, d))
        Y = None if Y is None else self._features(Y, irrep)
        return self._inner()(self._features(X, irrep), Y, irrep=_KEYS[irrep])

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of every structure with itself."""
        if irrep not in _KEYS or not isinstance(X, EquivariantFeatures):
            return super().diag(X, irrep)
        return self._factor() * self._inner().diag(self._features(X, irrep), _KEYS[irrep])

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
        if irrep not in _KEYS:
            return []
        left, right = self._features(X, irrep), self._features(Y, irrep)
        points = np.zeros((len(Y), *right.block_shape(_KEYS[irrep])[1:]))
        points[right.structures] = right.block(_KEYS[irrep])
        places, slopes = known_places(X), _slopes(irrep)
        whole, out = places.whole, []
        for one in self._inner().gradient(left, right, _KEYS[irrep]):
            one = one.times(self._factor())
            if one.block == _KEYS[irrep]:
                lift = np.einsum("mab,ib->ima", slopes, whole.centered()[places.rows])
                out.append(replace(one, block="1o", lift=lift, lifted=points))
                by_positions = partial(_by_positions, places, X.block("1o"), slopes, one.points, points)
                out.append(PositionGradient.of(by_positions, places))
            elif irrep == "0e":
                arrays = {name: getattr(one, name) for name in ("points", "own")}
                squeezed = {name: None if array is None else array[..., 0, 0] for name, array in arrays.items()}
                zero = np.zeros((len(X.species), len(Y)))
                out.append(replace(one, **{name: zero if a is None else a for name, a in squeezed.items()}))
            else:
                out.append(one)
        return out

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(weights * kernel) by the features and the positions of X."""
        if irrep not in _KEYS:
            return {}
        left, right = self._features(X, irrep), self._features(Y, irrep)
        inner = self._inner().vjp(left, right, _KEYS[irrep], self._factor() * weights)
        of_block, dipoles = inner[_KEYS[irrep]], X.block("1o").astype(float, copy=False)
        places, slopes = known_places(X), _slopes(irrep)
        vectors = places.whole.centered()[places.rows]
        by_dipoles = np.einsum("imf,mab,ib->iaf", of_block, slopes, vectors)
        by_vectors = np.zeros(places.whole.positions.shape)
        np.add.at(by_vectors, places.rows, np.einsum("imf,mab,iaf->ib", of_block, slopes, dipoles))
        by_positions = by_vectors - places.whole.means_of(by_vectors)
        return {**({"0e": inner["0e"]} if "0e" in inner else {}), "1o": by_dipoles, "positions": by_positions}

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Kernel matrices to twice the working precision."""
        if irrep not in _KEYS:
            return super().precise(X, Y, irrep)
        factor = np.full((1, 1, 1, 1), self._factor())
        both = self._inner().precise(self._features(X, irrep), self._features(Y, irrep), _KEYS[irrep])
        return multiply_kernels(both, (factor, 0.0 * factor))

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum of kernels times coefficients as a function of features."""
        if irrep not in _KEYS:
            return super().contraction(Y, irrep, coef)
        sums = self._inner().contraction(self._features(Y, irrep), _KEYS[irrep], self._factor() * coef)
        return lambda X: sums(self._features(X, irrep))

    def _theta_gradient(self, X, irrep, cache):
        key = ("atomic dipoles", irrep, int(self.zeta), self.normalize)
        if key not in cache:
            cache[key] = self._matrix(X, None, irrep)
        matrix = self._factor() * cache[key]
        return matrix, {"weight": matrix}

    def _factor(self):
        return float(start_value(self.weight, "weight"))

    def _inner(self):
        if self.normalize is True:
            raise ValueError("normalize=True would take away how far dipoles are apart: take 'invariant' or False")
        return CovariantKernel(self.zeta, self.normalize)

    def _features(self, features, irrep):
        """Features of quadrupoles."""
        CovariantKernel(self.zeta, self.normalize)._check(features, None, "1o")
        places = known_places(features)
        places.check()
        vectors = places.whole.centered()[places.rows]
        dipoles = features.block("1o").astype(float, copy=False)
        block = np.einsum("mab,ib,iaf->imf", _slopes(irrep), vectors, dipoles, optimize=True)
        blocks = {_KEYS[irrep]: block} | ({"0e": features.block("0e")} if "0e" in features.blocks else {})
        rows = features.species, features.structures, features.atoms, features.n_atoms
        return EquivariantFeatures.of_checked(blocks, *rows, positions=places)


def _by_positions(places, dipoles, slopes, factors, points, structure):
    """Differentiate kernels by the positions of a structure, at fixed features."""
    whole = places.whole
    first, last = whole.offsets[[structure, structure + 1]]
    here = np.flatnonzero((places.rows >= first) & (places.rows < last))
    made = np.einsum("mab,iaf->ibmf", slopes, dipoles[here].astype(float, copy=False), optimize=True)
    (n, _, d, width), n_points = made.shape, len(points)
    products = (made.reshape(n * 3 * d, width) @ points.reshape(n_points * d, width).T).reshape(n, 3, d, n_points, d)
    out = np.zeros((last - first, 3, d, n_points, d))
    out[places.rows[here] - first] = factors[here, None, None, :, None] * products
    return out - out.mean(axis=0)


def _slopes(irrep):
    """Second derivatives of the components of r r^T, (2 lambda + 1, 3, 3), first by m = -1, 0, 1, then by x, y, z."""
    degree = _DEGREES[irrep]
    unit = np.eye(2 * degree + 1)
    slopes = [[moments_vjp(axis[None], degree, one[None])[0][_ORDER] for axis in np.eye(3)] for one in unit]
    return np.transpose(slopes, (0, 2, 1))
