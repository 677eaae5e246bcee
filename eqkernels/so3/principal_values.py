r"""Parameters by which spectroscopists state shielding tensors and electric field gradients.

Of the symmetric part, with the principal values :math:`|\sigma_{zz} - \sigma_\text{iso}| \ge |\sigma_{xx} -
\sigma_\text{iso}| \ge |\sigma_{yy} - \sigma_\text{iso}|` (Haeberlen),

.. math::

    \delta = \sigma_{zz} - \sigma_\text{iso} , \quad \Delta\sigma = \tfrac 3 2 \delta , \quad
    \eta = \frac{\sigma_{yy} - \sigma_{xx}}{\delta} ;

with :math:`\sigma_{11} \le \sigma_{22} \le \sigma_{33}` (Herzfeld and Berger) span and skew are

.. math::

    \Omega = \sigma_{33} - \sigma_{11} , \quad \kappa = 3\, (\sigma_\text{iso} - \sigma_{22}) / \Omega ,

and an electric field gradient with :math:`|V_{zz}| \ge |V_{yy}| \ge |V_{xx}|` has the quadrupolar coupling constant and
asymmetry

.. math:: C_Q = e Q V_{zz} / h , \quad \eta_Q = (V_{xx} - V_{yy}) / V_{zz} .
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import constants

from eqkernels._numeric import real_array

# Differences of principal values below this part of the tensor are rounding.
_ROUNDING = 1e-12
# Units of electric field gradients, in V / m^2.
_GRADIENT_UNITS = {
    "a.u.": constants.physical_constants["atomic unit of electric field gradient"][0],
    "V/A^2": 1e20,
    "V/m^2": 1.0,
}
_BARN, _MEGAHERTZ = 1e-28, 1e6


class Haeberlen(NamedTuple):
    """Shielding or shift tensors in Haeberlen's convention; arrays of one shape.

    Attributes
    ----------
    iso : ndarray
        A third of the trace.
    anisotropy : ndarray
        zz - (xx + yy) / 2, positive or negative: 3/2 of ``reduced_anisotropy``.
    reduced_anisotropy : ndarray
        zz - iso.
    asymmetry : ndarray
        (yy - xx) / (zz - iso), between 0 and 1.
    """

    iso: NDArray[np.float64]
    anisotropy: NDArray[np.float64]
    reduced_anisotropy: NDArray[np.float64]
    asymmetry: NDArray[np.float64]


class SpanSkew(NamedTuple):
    """Shielding or shift tensors in the convention of Herzfeld and Berger; arrays of one shape.

    Attributes
    ----------
    iso : ndarray
        A third of the trace.
    span : ndarray
        Largest minus smallest principal value.
    skew : ndarray
        Between -1 and 1.
    """

    iso: NDArray[np.float64]
    span: NDArray[np.float64]
    skew: NDArray[np.float64]


class QuadrupolarCoupling(NamedTuple):
    """Coupling of nuclear quadrupole moments with electric field gradients; arrays of one shape.

    Attributes
    ----------
    coupling : ndarray
        e Q V_zz / h in MHz, with its sign.
    asymmetry : ndarray
        (V_xx - V_yy) / V_zz, between 0 and 1.
    """

    coupling: NDArray[np.float64]
    asymmetry: NDArray[np.float64]


def haeberlen(tensors: ArrayLike) -> Haeberlen:
    """Isotropic value, anisotropy and asymmetry in Haeberlen's convention.

    It is the same for shieldings and shifts, but that iso, and the signs of the anisotropies, are those of the
    tensors that come in. An antisymmetric part, which spectra do not show to first order, is left out.

    Parameters
    ----------
    tensors : array-like of shape (..., 3, 3)
        Of any unit. Per-atom predictions are arrays one a structure: give them one by one, or ``np.concatenate`` them.

    Returns
    -------
    Haeberlen
        Named tuple of arrays: iso, anisotropy and reduced anisotropy in the unit of the tensors, asymmetry (0 where
        there is no anisotropy).

    See Also
    --------
    span_skew : The convention of Herzfeld and Berger.

    References
    ----------
    U. Haeberlen, High Resolution NMR in Solids, Academic Press 1976; R. K. Harris et al., Pure Appl. Chem. 80, 59
    (2008), doi:10.1351/pac200880010059.

    Examples
    --------
    >>> import numpy as np
    >>> parameters = haeberlen(np.diag([40.0, 20.0, 120.0]))
    >>> {name: round(float(value), 4) for name, value in parameters._asdict().items()}
    {'iso': 60.0, 'anisotropy': 90.0, 'reduced_anisotropy': 60.0, 'asymmetry': 0.3333}
    """
    values, iso, size = _principal_values(tensors)
    order = np.argsort(np.abs(values - iso[..., None]), axis=-1)
    yy, xx, zz = np.moveaxis(np.take_along_axis(values, order, -1), -1, 0)
    reduced = zz - iso
    return Haeberlen(iso, 1.5 * reduced, reduced, _ratio(yy - xx, reduced, size))


def span_skew(tensors: ArrayLike, quantity: str = "shielding") -> SpanSkew:
    """Isotropic value, span and skew in the convention of Herzfeld and Berger.

    Parameters
    ----------
    tensors : array-like of shape (..., 3, 3)
    quantity : {"shielding", "shift"}, default="shielding"
        What the tensors are. A shift is a reference minus the shielding, so that the order of the principal values
        is reversed; the skew of both is the same.

    Returns
    -------
    SpanSkew
        Named tuple of arrays: iso and span in the unit of the tensors, skew (0 where the span is).

    Raises
    ------
    ValueError
        If quantity is neither.

    See Also
    --------
    haeberlen : Anisotropy and asymmetry.

    References
    ----------
    J. Herzfeld, A. E. Berger, J. Chem. Phys. 73, 6021 (1980), doi:10.1063/1.440136; J. Mason, Solid State Nucl. Magn.
    Reson. 2, 285 (1993), doi:10.1016/0926-2040(93)90010-K.

    Examples
    --------
    >>> import numpy as np
    >>> span_skew([np.diag([0.0, 0.0, 90.0]), np.diag([0.0, 90.0, 90.0])]).skew
    array([ 1., -1.])
    """
    if quantity not in ("shielding", "shift"):
        raise ValueError(f"quantity={quantity!r} must be 'shielding' or 'shift'")
    values, iso, size = _principal_values(tensors)
    span = values[..., 2] - values[..., 0]
    skew = _ratio(3 * (iso - values[..., 1]), span, size)
    return SpanSkew(iso, span, skew if quantity == "shielding" else 0.0 - skew)


def quadrupolar_coupling(gradients: ArrayLike, moment: ArrayLike, unit: str = "a.u.") -> QuadrupolarCoupling:
    """Quadrupolar coupling constant and asymmetry of electric field gradients.

    Parameters
    ----------
    gradients : array-like of shape (..., 3, 3)
        Second derivatives of the potential at the nuclei, as most programs print them (the gradient of the field has
        the opposite sign). A trace is removed.
    moment : float or array-like of shape (...)
        Nuclear quadrupole moment in barn (1e-28 m^2), one for all or one for each nucleus: P. Pyykko, Mol. Phys. 116,
        1328 (2018), doi:10.1080/00268976.2018.1426131, lists them.
    unit : {"a.u.", "V/A^2", "V/m^2"}, default="a.u."
        Unit of the gradients; an atomic unit, hartree / (e a0^2), is 9.717362e21 V/m^2.

    Returns
    -------
    QuadrupolarCoupling
        Named tuple of arrays: coupling in MHz, asymmetry (0 where there is no gradient).

    Raises
    ------
    ValueError
        If the unit is none of those.

    Examples
    --------
    A deuteron (2.860 millibarn) at 2 bohr from a unit charge:

    >>> import numpy as np
    >>> coupling, asymmetry = quadrupolar_coupling(np.diag([-1.0, -1.0, 2.0]) / 2**3, 0.00286)
    >>> float(coupling.round(5)), float(asymmetry)
    (0.168, 0.0)
    """
    if unit not in _GRADIENT_UNITS:
        raise ValueError(f"unit={unit!r} must be one of {', '.join(map(repr, _GRADIENT_UNITS))}")
    moments = real_array(moment, "moment")
    values, iso, size = _principal_values(gradients, "gradients")
    values = values - iso[..., None]
    xx, yy, zz = np.moveaxis(np.take_along_axis(values, np.argsort(np.abs(values), axis=-1), -1), -1, 0)
    factor = constants.e * _BARN * _GRADIENT_UNITS[unit] / (constants.h * _MEGAHERTZ)
    return QuadrupolarCoupling(factor * moments * zz, _ratio(xx - yy, zz, size))


def _principal_values(tensors, name="tensors"):
    """Eigenvalues of the symmetric part, ascending, their mean, and the norm of the tensor."""
    array = real_array(tensors, name, finite=True)
    if array.shape[-2:] != (3, 3):
        raise ValueError(f"{name} have shape {array.shape}, expected (..., 3, 3)")
    values = np.linalg.eigvalsh(0.5 * (array + array.swapaxes(-1, -2)))
    return values, values.mean(-1), np.linalg.norm(values, axis=-1)


def _ratio(numerator, denominator, size):
    """Ratio, and zero where the denominator is rounding."""
    real = np.abs(denominator) > _ROUNDING * size
    return np.divide(numerator, denominator, where=real, out=np.zeros_like(size)) + 0.0
