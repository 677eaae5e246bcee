r"""Tensors with symmetric pairs of indices in Voigt's notation, and back.

A pair xx, yy, zz, yz, xz, xy becomes one index J = 1 ... 6. What is contracted with stresses has factors, so that the
contraction with six numbers is that with nine: with f_J = 2 for the mixed pairs (J > 3) and else 1,

.. math::

    \sigma_J = \sigma_{jk} , \quad \epsilon_J = f_J \epsilon_{jk} , \quad
    C_{IJ} = C_{ijkl} , \quad S_{IJ} = f_I f_J S_{ijkl} , \quad e_{iJ} = e_{ijk} , \quad d_{iJ} = f_J d_{ijk}

(J. F. Nye, Physical Properties of Crystals, Oxford 1985, chapters VII and VIII).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import real_array
from eqkernels.so3.inference import SYMMETRY_TOLERANCE

#: Orders of the six pairs, by the names of who uses them.
VOIGT_ORDERS = {
    "voigt": "xx yy zz yz xz xy",
    "ase": "xx yy zz yz xz xy",
    "vasp": "xx yy zz xy yz zx",
    "lammps": "xx yy zz xy xz yz",
}


class _Kind(NamedTuple):
    """Indices that stand alone, in front, and the factor of the mixed components of each pair."""

    alone: int
    factors: tuple[float, ...]


_KINDS = {
    "stress": _Kind(0, (1.0,)),
    "strain": _Kind(0, (2.0,)),
    "stiffness": _Kind(0, (1.0, 1.0)),
    "compliance": _Kind(0, (2.0, 2.0)),
    "piezoelectric_e": _Kind(1, (1.0,)),
    "piezoelectric_d": _Kind(1, (2.0,)),
}
#: What can be written in Voigt's notation.
VOIGT_KINDS = tuple(_KINDS)


def to_voigt(tensors: ArrayLike, kind: str = "stress", *, order: str = "voigt") -> NDArray[np.float64]:
    """Write symmetric pairs of indices as one index of six.

    Signs and units stay as they are: the stress of ASE is positive where the cell wants to shrink, that of VASP where
    it wants to expand.

    Parameters
    ----------
    tensors : array-like of shape (..., 3, 3), (..., 3, 3, 3) or (..., 3, 3, 3, 3)
    kind : {"stress", "strain", "stiffness", "compliance", "piezoelectric_e", "piezoelectric_d"}, default="stress"
        Which factors the mixed components get: ``"stress"`` stands for all symmetric matrices that have none, such as
        polarizabilities; ``"strain"`` has 2; the elastic ``"stiffness"`` none, the ``"compliance"`` 2 and 4.
        Piezoelectric tensors have the pair last: ``"piezoelectric_e"`` (charge by strain) without factors,
        ``"piezoelectric_d"`` (charge by stress, or strain by field) with 2.
    order : str, default="voigt"
        Order of the pairs: ``"voigt"`` or ``"ase"`` (xx yy zz yz xz xy), ``"vasp"`` (xx yy zz xy yz zx), ``"lammps"``
        (xx yy zz xy xz yz), or six pairs, separated by blanks.

    Returns
    -------
    ndarray of shape (..., 6), (..., 6, 6) or (..., 3, 6)

    Raises
    ------
    ValueError
        If a pair of indices is not symmetric, or kind or order are none of those.

    See Also
    --------
    from_voigt : The inverse.

    References
    ----------
    J. F. Nye, Physical Properties of Crystals, Oxford University Press 1985, chapters VII and VIII.

    Examples
    --------
    >>> import numpy as np
    >>> shear = np.array([[0.0, 0.0, 0.01], [0.0, 0.0, 0.0], [0.01, 0.0, 0.0]])
    >>> to_voigt(shear, "strain")
    array([0.  , 0.  , 0.  , 0.  , 0.02, 0.  ])
    """
    known, (rows, columns) = _known(kind), _pairs(order)
    values, n_pairs = real_array(tensors, "tensors"), len(known.factors)
    rank = known.alone + 2 * n_pairs
    if values.shape[values.ndim - rank :] != (3,) * rank or values.ndim < rank:
        raise ValueError(f"tensors have shape {values.shape}, expected (..., {', '.join('3' * rank)}) for {kind!r}")
    for pair in range(n_pairs):
        _check_symmetric(values, rank - known.alone - 2 * pair, rank, kind)
    values = values.reshape(*values.shape[: values.ndim - 2 * n_pairs], *(9,) * n_pairs)
    for axis, factor in enumerate(_factors(known, rows, columns), start=-n_pairs):
        values = np.take(values, 3 * rows + columns, axis) * factor.reshape(-1, *(1,) * (-axis - 1))
    return values


def from_voigt(values: ArrayLike, kind: str = "stress", *, order: str = "voigt") -> NDArray[np.float64]:
    """Tensors of what is written in Voigt's notation.

    Parameters
    ----------
    values : array-like of shape (..., 6), (..., 6, 6) or (..., 3, 6)
    kind, order : str
        As for :func:`to_voigt`.

    Returns
    -------
    ndarray of shape (..., 3, 3), (..., 3, 3, 3) or (..., 3, 3, 3, 3)

    Raises
    ------
    ValueError
        If values have another shape, or kind or order are none of those.

    See Also
    --------
    to_voigt : The inverse.

    Examples
    --------
    Young's modulus of copper (elastic constants in GPa: J. F. Nye, 1985) along [111] and [100]:

    >>> import numpy as np
    >>> stiffness = np.diag([168.4 - 121.4] * 3 + [75.4] * 3)
    >>> stiffness[:3, :3] += 121.4
    >>> compliance = from_voigt(np.linalg.inv(stiffness), "compliance")
    >>> for direction in np.array([[1, 1, 1], [1, 0, 0]]):
    ...     n = direction / np.linalg.norm(direction)
    ...     print(round(1 / np.einsum("ijkl,i,j,k,l", compliance, n, n, n, n)))
    191
    67
    """
    known, (rows, columns) = _known(kind), _pairs(order)
    array, n_pairs = real_array(values, "values"), len(known.factors)
    shape = (3,) * known.alone + (6,) * n_pairs
    if array.ndim < len(shape) or array.shape[array.ndim - len(shape) :] != shape:
        raise ValueError(f"values have shape {array.shape}, expected (..., {', '.join(map(str, shape))}) for {kind!r}")
    place = np.empty((3, 3), dtype=int)
    place[rows, columns] = place[columns, rows] = np.arange(6)
    for axis, factor in enumerate(_factors(known, rows, columns), start=-n_pairs):
        array = np.take(array / factor.reshape(-1, *(1,) * (-axis - 1)), place.ravel(), axis)
    return array.reshape(*array.shape[: array.ndim - n_pairs], *(3, 3) * n_pairs)


def _known(kind):
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, _KINDS))}")
    return _KINDS[kind]


def _pairs(order):
    """Rows and columns of the six components."""
    pairs = VOIGT_ORDERS.get(order, order).split() if isinstance(order, str) else []
    if sorted("".join(sorted(pair)) for pair in pairs) != ["xx", "xy", "xz", "yy", "yz", "zz"]:
        raise ValueError(
            f"order={order!r} must be one of {', '.join(map(repr, VOIGT_ORDERS))}, or six pairs as in "
            f"{VOIGT_ORDERS['voigt']!r}"
        )
    return tuple(np.array(["xyz".index(pair[k]) for pair in pairs]) for k in range(2))


def _factors(known, rows, columns):
    return [np.where(rows == columns, 1.0, factor) for factor in known.factors]


def _check_symmetric(values, pair_from_end, rank, kind):
    """Refuse tensors whose indices of a pair cannot be exchanged."""
    axes = tuple(range(-rank, 0))
    rest = np.linalg.norm((values - values.swapaxes(-pair_from_end, 1 - pair_from_end)).reshape(-1, 3**rank), axis=1)
    norms = np.sqrt((values**2).sum(axes)).ravel()
    bad = np.flatnonzero(rest > 2 * SYMMETRY_TOLERANCE * norms)
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(norms)} tensors, the first at {bad[0]}, are not symmetric in the indices that "
            f"{kind!r} writes as one (a relative part of {rest[bad[0]] / norms[bad[0]] / 2:.2g}): "
            "take the symmetric part, if that is what you want"
        )
