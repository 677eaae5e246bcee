r"""Weights of charges in a kernel, chosen by the errors of structures that are left out.

A kernel that is linear in a weight w is :math:`K(w) = K_0 + w K_1`. With the regularization :math:`\alpha` a structure
B that is left out has the residual

.. math:: r_B = \bigl[(K + \alpha)^{-1}\bigr]_{BB}^{-1} \bigl[(K + \alpha)^{-1} y\bigr]_B ,

whose sum of squares is made smallest over decades of :math:`\alpha` and of w, of w in units of the ratio of the traces
of :math:`K_0` and :math:`K_1`. A hundred structures are enough for that.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.kernels.environments import evenly
from eqkernels.regression.criteria import Spectrum
from eqkernels.regression.leave_one_out import LeftOutLabels, left_out_errors

#: structures by which weights are chosen
MOST_STRUCTURES = 120
# Weights that are tried, in units of the ratio of the traces; the first stands for no charges.
_WEIGHTS = 10.0 ** np.array([-6, -3, -2, -1, 0, 1, 2])
_FINER = 10.0 ** np.array([-0.5, 0.5])
# Regularizations, in units of the mean eigenvalue.
_ALPHAS = 10.0 ** np.arange(-10.0, 1.0)


def open_weights(kernel: TensorKernel) -> list[str]:
    """Names of the weights of a kernel that are still to be chosen."""
    params = kernel.get_params()
    return [
        name
        for name, value in params.items()
        if name.split("__")[-1] == "weight" and isinstance(value, str) and value == "auto"
    ]


def choose_weights(kernel: TensorKernel, features: EquivariantFeatures, irrep: str, values: Floats) -> TensorKernel:
    """Copy of a kernel with its open weights chosen by leave-one-out.

    Parameters
    ----------
    kernel : TensorKernel
    features : EquivariantFeatures
        Of structures, all or some of which serve the choice.
    irrep : str
    values : ndarray of shape (n_structures, 2 lambda + 1, multiplicity)

    Returns
    -------
    TensorKernel
        The kernel itself where no weight is open.
    """
    names = open_weights(kernel)
    if not names:
        return kernel
    some = evenly(len(features), MOST_STRUCTURES)
    rest, parts = _terms(kernel, names, features[some], irrep)
    labels, size = LeftOutLabels(values[some], np.arange(len(some))), np.trace(np.einsum("nnab->ab", rest))
    weights = {name: 1.0 for name in names}
    if size > 0:  # else there are charges alone, whose weight does not matter
        units = {
            name: size / max(np.trace(np.einsum("nnab->ab", part)), np.finfo(float).tiny)
            for name, part in parts.items()
        }
        weights = {name: _WEIGHTS[0] * unit for name, unit in units.items()}

        def error(name, weight):
            matrix = rest + sum({**weights, name: weight}[one] * part for one, part in parts.items())
            spectrum = Spectrum(matrix, labels.values)
            alphas = _ALPHAS * np.sum(spectrum.eigenvalues) / len(spectrum.eigenvalues)
            return np.min(left_out_errors(spectrum, labels, alphas))

        for name, unit in units.items():
            errors = {weight: error(name, weight) for weight in _WEIGHTS * unit}
            best = min(errors, key=errors.__getitem__)
            errors |= {weight: error(name, weight) for weight in _FINER * best}
            weights[name] = min(errors, key=errors.__getitem__)
    return clone(kernel).set_params(**{name: float(weight) for name, weight in weights.items()})


def _terms(kernel, names, features, irrep):
    """Matrix without the open weights, and the matrices that these multiply."""
    free = clone(kernel).set_params(
        **{name: 1.0 for name in names}, **{f"{name}_bounds": (1e-8, 1e8) for name in names}
    )
    matrix, slopes = free.theta_gradient(features, irrep)
    parts = {name: slopes[name] for name in names}
    return matrix - sum(parts.values()), parts
