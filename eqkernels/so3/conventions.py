"""Components in the order and phases of other codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqkernels.so3.cartesian import CartesianTensor, cartesian_tensor
from eqkernels.so3.clebsch_gordan import real_to_complex
from eqkernels.so3.irreps import Irrep, Irreps
from eqkernels.so3.wigner import block_diagonal, wigner_d

# Imaginary parts below this part of the tensors are rounding.
_ROUNDING = 1e-12


def change_to_e3nn(irreps: Irreps | Irrep | str) -> NDArray[np.float64]:
    """Orthogonal matrix from our components to e3nn's.

    e3nn calls the polar axis y: its harmonics are ours after the cyclic exchange of axes (x, y, z) -> (z, x, y), so
    that vectors have the order x, y, z.

    Parameters
    ----------
    irreps : Irreps, Irrep or str

    Returns
    -------
    ndarray of shape (dim, dim)

    Examples
    --------
    >>> import numpy as np
    >>> ours = np.array([2.0, 3.0, 1.0])  # y, z, x
    >>> (change_to_e3nn("1o") @ ours).round(12)
    array([1., 2., 3.])
    """
    return wigner_d(irreps, np.roll(np.eye(3), 1, axis=0))  # (x, y, z) -> (z, x, y)


def change_to_complex(irreps: Irreps | Irrep | str) -> NDArray[np.complex128]:
    """Unitary matrix from our components to those of complex harmonics.

    Parameters
    ----------
    irreps : Irreps, Irrep or str

    Returns
    -------
    ndarray of complex, shape (dim, dim)

    Examples
    --------
    >>> change_to_complex("2x1o").shape
    (6, 6)
    """
    return block_diagonal(irreps, lambda irrep: real_to_complex(irrep.l))


def change_to_pyscf(irreps: Irreps | Irrep | str) -> NDArray[np.float64]:
    """Permutation matrix from our components to the order of PySCF's real spherical functions.

    The functions are the same; only l = 1 is ordered x, y, z instead of y, z, x.

    Parameters
    ----------
    irreps : Irreps, Irrep or str

    Returns
    -------
    ndarray of shape (dim, dim)

    Examples
    --------
    >>> import numpy as np
    >>> ours = np.array([2.0, 3.0, 1.0])  # y, z, x
    >>> change_to_pyscf("1o") @ ours
    array([1., 2., 3.])
    """
    return block_diagonal(irreps, lambda irrep: np.roll(np.eye(irrep.dim), int(irrep.l == 1), axis=0))


#: Matrices from our components to those of each convention.
COMPONENT_CONVENTIONS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "eqkernels": lambda irreps: np.eye(Irreps(str(irreps)).dim),
    "e3nn": change_to_e3nn,
    "pyscf": change_to_pyscf,
    "complex": change_to_complex,
}


def to_spherical(
    tensors: ArrayLike, target: str | CartesianTensor, convention: str = "eqkernels"
) -> dict[str, NDArray[Any]]:
    r"""Spherical components of Cartesian tensors, in the order and phases of another code.

    The complex components have the Condon-Shortley phase. Those of a symmetric matrix are
    :math:`T_{2,0} = (3 T_{zz} - \operatorname{tr} T) / \sqrt 6`,
    :math:`T_{2,\pm 1} = \mp (T_{xz} \pm i T_{yz})`, :math:`T_{2,\pm 2} = (T_{xx} - T_{yy}) / 2 \pm i T_{xy}` and
    :math:`T_{0,0} = \operatorname{tr} T / \sqrt 3`; the literature of NMR gives the last the opposite sign.

    Parameters
    ----------
    tensors : array-like of shape (..., 3, ..., 3)
    target : str or CartesianTensor
        Name of a property, such as ``"polarizability"``, or formula.
    convention : {"eqkernels", "e3nn", "pyscf", "complex"}, default="eqkernels"
        ``"eqkernels"``: real, m = -l ... l; ``"e3nn"``: with y as the polar axis; ``"pyscf"``: as eqkernels, but
        vectors are x, y, z; ``"complex"``: m = -l ... l.

    Returns
    -------
    dict of str to ndarray of shape (..., multiplicity, 2 l + 1)
        For each irrep its components, which are complex for ``"complex"``.

    Raises
    ------
    ValueError
        If the shape does not fit the target, or the convention is none of those.

    See Also
    --------
    from_spherical : The inverse.
    CartesianTensor.to_irreps : The blocks of models, of shape (..., 2 l + 1, multiplicity).

    References
    ----------
    M. Mehring, Principles of High Resolution NMR in Solids, Springer 1983, appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> to_spherical([1.0, 2.0, 3.0], "dipole", "pyscf")["1o"]
    array([[1., 2., 3.]])
    >>> to_spherical(np.diag([1.0, 3.0, 0.0]), "ij=ji", "complex")["2e"].real.round(4) + 0.0
    array([[-1.   ,  0.   , -1.633,  0.   , -1.   ]])
    """
    change, tensor = _change(convention), cartesian_tensor(target)
    return {
        irrep: block.swapaxes(-1, -2) @ change(Irreps(irrep)).T for irrep, block in tensor.to_irreps(tensors).items()
    }


def from_spherical(
    components: dict[str, ArrayLike], target: str | CartesianTensor, convention: str = "eqkernels"
) -> NDArray[Any]:
    """Cartesian tensors of spherical components.

    Parameters
    ----------
    components : dict of str to array-like of shape (..., multiplicity, 2 l + 1)
    target, convention
        As for :func:`to_spherical`.

    Returns
    -------
    ndarray of shape (..., 3, ..., 3)
        Real where the components are those of real tensors.

    Raises
    ------
    ValueError
        If a shape does not fit, or the convention is none of those.

    See Also
    --------
    to_spherical : The inverse.

    Examples
    --------
    >>> from_spherical({"1o": [[1.0, 2.0, 3.0]]}, "dipole", "e3nn").round(12)
    array([1., 2., 3.])
    """
    change, tensor = _change(convention), cartesian_tensor(target)
    blocks = {
        irrep: (np.asarray(values) @ change(Irreps(irrep)).conj()).swapaxes(-1, -2)
        for irrep, values in components.items()
    }
    tensors = tensor.to_cartesian(blocks)
    imaginary = np.abs(tensors.imag).max(initial=0.0) if np.iscomplexobj(tensors) else 0.0
    return tensors.real if imaginary <= _ROUNDING * np.abs(tensors).max(initial=0.0) else tensors


def _change(convention):
    if convention not in COMPONENT_CONVENTIONS:
        raise ValueError(f"convention={convention!r} must be one of {', '.join(map(repr, COMPONENT_CONVENTIONS))}")
    return COMPONENT_CONVENTIONS[convention]
