r"""Cartesian tensors to irreducible components and back.

The indices of a general tensor are coupled one by one with Clebsch-Gordan coefficients, which gives an orthonormal
basis tensor :math:`Q^{\lambda\mu}_p` for every path p of intermediate degrees. The projector S on the declared symmetry
commutes with rotations, so that among the paths of one :math:`\lambda` it is a matrix that does not depend on
:math:`\mu`,

.. math:: M_{pp'} = \langle Q^{\lambda\mu}_p | S | Q^{\lambda\mu}_{p'} \rangle ,

itself a projector: the dimension of its range is the multiplicity of the irrep, and an orthonormal basis
of it makes the tensors of the change of basis.
"""

from __future__ import annotations

from functools import lru_cache
from textwrap import indent
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from eqkernels._numeric import real_array
from eqkernels.so3.clebsch_gordan import clebsch_gordan
from eqkernels.so3.irreps import Irrep, Irreps
from eqkernels.so3.properties import find_property, refuse_word, table_of_properties
from eqkernels.so3.spherical_harmonics import spherical_harmonics

_RANK_LIMIT = 6
#: In place of axial indices: a tensor that changes sign as a whole where handedness does.
PSEUDO = "*"
# Columns of the projector that are linear combinations of earlier ones leave a rest of rounding, ~1e-15.
_DEPENDENT = 1e-6
# x, y, z in the order of l = 1
_VECTOR_ORDER = [1, 2, 0]


class CartesianTensor(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]  # noqa: D101
    __doc__ = f"""A kind of Cartesian tensor, given by its index symmetries, and its irreducible components.

    The change of basis is orthonormal: the Frobenius norm of a tensor is the norm of its components.
    It is usable at once, without ``fit``, and as the transformer of a
    :class:`sklearn.compose.TransformedTargetRegressor`.

    Parameters
    ----------
    formula : str
        Index symmetries in e3nn's notation: ``"i"``, ``"ij=ji"``, ``"ij=-ji"``, ``"ijkl=jikl=klij"``; the empty string
        is a scalar. Rank 6 at most. Or the name of a property, see below.
    axial : str, default=""
        The indices that are axial (do not change sign under inversion), e.g. ``"j"``. Properties by name know theirs.
        ``"*"``: all indices are polar, and the tensor as a whole changes sign in addition where handedness does, as the
        symmetric gyration tensor, whose indices cannot be told apart.

    Raises
    ------
    ValueError
        If the formula cannot be read, contradicts itself or leaves no tensor but zero.

    Notes
    -----
    Names of properties, wherever a target is declared (plurals and common synonyms are understood, too):

{indent(table_of_properties(), "    ")}

    Examples
    --------
    >>> import numpy as np
    >>> polarizability = CartesianTensor("polarizability")  # the same as "ij=ji"
    >>> polarizability.irreps
    Irreps("1x0e+1x2e")
    >>> blocks = polarizability.to_irreps(np.diag([1.0, 1.0, 4.0]))
    >>> blocks["0e"].round(4), blocks["2e"].ravel().round(4)
    (array([[3.4641]]), array([0.    , 0.    , 2.4495, 0.    , 0.    ]))
    >>> polarizability.to_cartesian(blocks).diagonal().round(12)
    array([1., 1., 4.])
    """

    def __init__(self, formula: str, axial: str = ""):
        self.formula = formula
        self.axial = axial

    @property
    def rank(self) -> int:
        """Number of indices."""
        return len(_parse(self.formula, self.axial)[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one tensor."""
        return (3,) * self.rank

    @property
    def irreps(self) -> Irreps:
        """The irreps of the tensor, an :class:`Irreps`, sorted."""
        return _basis(self.formula, self.axial)[0]

    @property
    def dim(self) -> int:
        """Number of independent components."""
        return self.irreps.dim

    @property
    def change_of_basis(self) -> NDArray[np.float64]:
        """Orthonormal rows (dim, 3**rank): irrep by irrep, in it copy by copy, in it m = -l .. l."""
        return _basis(self.formula, self.axial)[1]

    def to_irreps(self, tensors: ArrayLike) -> dict[str, NDArray[Any]]:
        """Irreducible components; what does not have the declared symmetry is projected out.

        Parameters
        ----------
        tensors : array-like of shape (..., 3, ..., 3)

        Returns
        -------
        dict of str to ndarray of shape (..., 2 l + 1, multiplicity)
        """
        components = self._components(tensors)
        blocks = {}
        for (multiplicity, irrep), part in zip(self.irreps, self.irreps.slices(), strict=True):
            block = components[..., part].reshape(*components.shape[:-1], multiplicity, irrep.dim)
            blocks[str(irrep)] = np.ascontiguousarray(np.swapaxes(block, -1, -2))
        return blocks

    def to_cartesian(self, blocks: dict[str, Any]) -> NDArray[Any]:
        """Tensors of irreducible components.

        Parameters
        ----------
        blocks : dict of str to array-like of shape (..., 2 l + 1, multiplicity)
            One for each irrep of the tensor.

        Returns
        -------
        ndarray of shape (..., 3, ..., 3)
        """
        if not isinstance(blocks, dict):
            raise TypeError(f"blocks must be a dict of arrays by irrep, got {type(blocks).__name__}")
        if set(blocks) != {str(irrep) for _, irrep in self.irreps}:
            raise ValueError(f"blocks has the irreps {', '.join(blocks)}, {self.formula!r} has {self.irreps}")
        parts = []
        for multiplicity, irrep in self.irreps:
            block = _numbers(blocks[str(irrep)])
            if block.shape[-2:] != (irrep.dim, multiplicity):
                raise ValueError(f"block {irrep} has shape {block.shape}, expected (..., {irrep.dim}, {multiplicity})")
            parts.append(np.swapaxes(block, -1, -2).reshape(*block.shape[:-2], irrep.dim * multiplicity))
        return self.inverse_transform(np.concatenate(parts, axis=-1))

    def to_signal(self, tensors: ArrayLike, directions: ArrayLike) -> NDArray[Any]:
        r"""Tensors as functions on the sphere, sums of their components times spherical harmonics.

        A rotated tensor is the rotated function. Components of several copies of one irrep add up, so that only tensors
        without copies, such as symmetric matrices, can be told from their functions.

        Parameters
        ----------
        tensors : array-like of shape (..., 3, ..., 3)
        directions : array-like of shape (n_directions, 3)
            Of any length.

        Returns
        -------
        ndarray of shape (..., n_directions)

        See Also
        --------
        eqkernels.plotting.TensorDisplay : draws them.

        References
        ----------
        T. E. Smidt, Trends Chem. 3, 82 (2021), figure 2B.

        Examples
        --------
        >>> signal = CartesianTensor("ij=ji").to_signal(np.diag([1.0, 1.0, 4.0]), np.eye(3))
        >>> signal.round(3)  # largest along z
        array([0.205, 0.205, 2.522])
        """
        values = _numbers(directions)
        if values.ndim != 2 or values.shape[1] != 3:
            raise ValueError(f"directions have shape {values.shape}, expected (n_directions, 3)")
        components = self._components(tensors)
        harmonics = spherical_harmonics(values, max((irrep.l for _, irrep in self.irreps), default=0))
        signal = np.zeros((*components.shape[:-1], len(values)), dtype=components.dtype)
        for (multiplicity, irrep), part in zip(self.irreps, self.irreps.slices(), strict=True):
            block = components[..., part].reshape(*components.shape[:-1], multiplicity, irrep.dim).sum(axis=-2)
            signal += block @ harmonics[:, irrep.l**2 : (irrep.l + 1) ** 2].T
        return signal

    def project(self, tensors: ArrayLike) -> NDArray[Any]:
        """Return the part of tensors (..., 3, ..., 3) that has the declared symmetry."""
        return self.inverse_transform(self._components(tensors))

    def asymmetry(self, tensors: ArrayLike) -> float:
        """Norm of the part of tensors that breaks the declared symmetry, relative to the norm of all of them.

        Parameters
        ----------
        tensors : array-like of shape (..., 3, ..., 3)

        Returns
        -------
        float
            0 if all tensors are zero, NaN if a component is NaN.

        Examples
        --------
        >>> CartesianTensor("ij=ji").asymmetry([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        0.7071067811865476
        """
        tensors = _numbers(tensors)
        largest = np.abs(tensors).max(initial=0.0)
        if largest == 0:
            return 0.0
        tensors = tensors / largest  # whose squares do not overflow
        return float(np.linalg.norm(tensors - self.project(tensors)) / np.linalg.norm(tensors))

    def fit(self, X: ArrayLike, y: Any = None) -> CartesianTensor:
        """Check the shape of tensors (n, 3, ..., 3); there is nothing to learn."""
        self._components(X)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Flat components (n, dim) of tensors (n, 3, ..., 3)."""
        return self._components(X)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Tensors (..., 3, ..., 3) of flat components (..., dim)."""
        X = _numbers(X)
        if X.ndim == 0 or X.shape[-1] != self.dim:
            raise ValueError(f"components have shape {X.shape}, expected (..., {self.dim}) for {self.formula!r}")
        return (X @ self.change_of_basis).reshape((*X.shape[:-1], *self.shape))

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def _components(self, tensors):
        tensors = _numbers(tensors)
        batch = tensors.shape[: tensors.ndim - self.rank]
        if tensors.ndim < self.rank or tensors.shape[len(batch) :] != self.shape:
            raise ValueError(f"tensors have shape {tensors.shape}, expected (..., {', '.join('3' * self.rank)}) "
                             f"for {self.formula!r}")  # fmt: skip
        return tensors.reshape((*batch, 3**self.rank)) @ self.change_of_basis.T


def _numbers(values: Any) -> NDArray[Any]:
    """Array of numbers, real or complex."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fc":
        return values
    if isinstance(values, np.ndarray | list | tuple) and _complex(values):
        return np.asarray(values)
    return real_array(values, "tensors or components")


def _complex(values):
    try:
        return np.iscomplexobj(values)
    except ValueError:  # ragged
        return False


def cartesian_tensor(target: str | CartesianTensor | None, rank: int | None = None) -> CartesianTensor:
    """CartesianTensor of a formula or of the name of a property; without one, the general tensor of a rank.

    Parameters
    ----------
    target : str, CartesianTensor or None
    rank : int, default=None

    Returns
    -------
    CartesianTensor
        Its formula is one of indices, never a name.
    """
    if target is None:
        return CartesianTensor("ijklmn"[:rank])
    if isinstance(target, CartesianTensor):
        return CartesianTensor(*formula_of(target.formula, target.axial))
    if not isinstance(target, str):
        raise TypeError(
            "target must be the name of a property such as 'dipole', a formula such as 'ij=ji' or a CartesianTensor, "
            f"got {type(target).__name__}"
        )
    tensor = CartesianTensor(*formula_of(target, ""))
    tensor.irreps  # noqa: B018  what cannot be read is refused here
    return tensor


def formula_of(formula, axial=""):
    """Index formula and axial indices of a formula, which may be the name of a property."""
    known = find_property(formula)
    if known is None:
        refuse_word(formula)
        return formula, axial
    if axial and set(axial) != set(known.axial):
        raise ValueError(f"axial={axial!r} contradicts the property {formula!r}, of which {known.axial or 'no'!r} is")
    return known.formula, known.axial


@lru_cache(maxsize=128)
def _parse(formula, axial):
    """Letters of the indices, generators as (sign, permutation), and the parity of the tensor."""
    if not isinstance(formula, str) or not isinstance(axial, str):
        raise TypeError(f"formula and axial must be strings, got {formula!r} and {axial!r}")
    formula, axial = formula_of(formula, axial)
    first, *others = (term.strip() for term in formula.split("="))
    if first and (not first.isalpha() or len(set(first)) != len(first)):
        raise ValueError(f"formula {formula!r}: the first term must be distinct letters, one an index, as in 'ij=ji'")
    if len(first) > _RANK_LIMIT:
        raise ValueError(f"formula {formula!r} has rank {len(first)}, at most {_RANK_LIMIT} is supported")
    if axial != PSEUDO and not set(axial) <= set(first):
        raise ValueError(f"axial={axial!r} names indices that formula {formula!r} does not have")
    generators = []
    for term in others:
        letters = term.removeprefix("-").strip()
        if sorted(letters) != sorted(first):
            raise ValueError(f"formula {formula!r}: the term {term!r} does not have the letters of {first!r}")
        if any((a in axial) != (b in axial) for a, b in zip(first, letters, strict=True)):
            raise ValueError(f"formula {formula!r} exchanges an axial with a polar index (axial={axial!r})")
        generators.append((-1 if term.startswith("-") else 1, tuple(first.index(letter) for letter in letters)))
    return first, generators, (-1) ** (len(first) - len(set(axial)))


def _group(rank, generators, formula):
    """All products of the generators: signs by permutation."""
    signs = {tuple(range(rank)): 1}
    pending = list(signs)
    while pending:
        permutation = pending.pop()
        for sign, generator in generators:
            product = tuple(permutation[k] for k in generator)
            value = sign * signs[permutation]
            if product not in signs:
                pending.append(product)
            if signs.setdefault(product, value) != value:
                raise ValueError(f"formula {formula!r} contradicts itself: only the zero tensor satisfies it")
    return signs


@lru_cache(maxsize=128)
def _basis(formula, axial):
    formula, axial = formula_of(formula, axial)
    letters, generators, parity = _parse(formula, axial)
    signs = _group(len(letters), generators, formula)
    rows, terms = [], []
    for l, paths in sorted(_coupled_paths(len(letters)).items()):
        tensors = _symmetric_combinations(paths, signs, len(letters))
        if len(tensors):
            terms.append((len(tensors), Irrep(l, parity)))
            rows.append(tensors.reshape(-1, 3 ** len(letters)))
    if not rows:
        raise ValueError(f"formula {formula!r}: only the zero tensor has this symmetry")
    matrix = np.concatenate(rows)
    matrix.setflags(write=False)
    return Irreps(terms), matrix


@lru_cache(maxsize=_RANK_LIMIT + 1)
def _coupled_paths(rank):
    """Orthonormal basis tensors of the general tensor by degree: {l: (n_paths, 2 l + 1, 3**rank)}."""
    if rank == 0:
        return {0: np.ones((1, 1, 1))}
    vector = np.eye(3)[_VECTOR_ORDER]
    paths: dict[int, list[np.ndarray]] = {}
    for l1, tensors in sorted(_coupled_paths(rank - 1).items()):
        for l in range(abs(l1 - 1), l1 + 2):
            coupled = np.einsum("pat,bx,abm->pmtx", tensors, vector, clebsch_gordan(l1, 1, l), optimize=True)
            paths.setdefault(l, []).append(coupled.reshape(len(tensors), 2 * l + 1, -1))
    return {l: np.concatenate(parts) for l, parts in paths.items()}


def _symmetric_combinations(paths, signs, rank):
    """Orthonormal combinations of paths with the symmetry: (multiplicity, 2 l + 1, 3**rank)."""
    if len(signs) == 1:
        return paths
    # any component m serves, since the projector does not mix or distinguish them
    tensors = paths[:, 0].reshape(-1, *(3,) * rank)
    projected = np.zeros_like(tensors)
    for permutation, sign in signs.items():
        projected += sign * tensors.transpose(0, *(1 + np.array(permutation)))
    projector = paths[:, 0] @ projected.reshape(len(paths), -1).T / len(signs)
    combinations: list[np.ndarray] = []
    for column in projector.T:
        for _ in range(2):  # twice, to be orthogonal to rounding
            for earlier in combinations:
                column = column - (earlier @ column) * earlier
        if np.linalg.norm(column) > _DEPENDENT:
            combinations.append(column / np.linalg.norm(column))
    return np.einsum("qp,pmt->qmt", np.reshape(combinations, (-1, len(paths))), paths)
