"""Components in the order and phases of other codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eqkernels.so3.clebsch_gordan import real_to_complex
from eqkernels.so3.irreps import Irrep, Irreps
from eqkernels.so3.wigner import block_diagonal, wigner_d


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
