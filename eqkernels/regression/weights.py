r"""Weights of charges in a kernel, chosen by what is predicted of structures that are left out.

A kernel that is linear in a weight w is :math:`K(w) = K_0 + w K_1`. With the covariance
:math:`C = s (K + \alpha)` of the labels y a structure B that is left out has the error
:math:`r_B = [C^{-1}]_{BB}^{-1} [C^{-1} y]_B` of covariance :math:`[C^{-1}]_{BB}^{-1}` (C. E. Rasmussen, C. K. I.
Williams, Gaussian Processes for Machine Learning, eq. 5.10 to 5.13). Their density is made largest over the signal
variance s, decades of :math:`\alpha`, and w in units of the ratio of the traces of :math:`K_0` and :math:`K_1`. The
mean square error would do the same, but for few structures that are unlike the others, which decide it. A hundred
structures are enough.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.kernels.bounds import is_open
from eqkernels.kernels.environments import evenly
from eqkernels.regression.criteria import Spectrum

#: structures by which weights are chosen
MOST_STRUCTURES = 120
#: weights that are tried, in units of the ratio of the traces; the first stands for no charges
WEIGHTS = 10.0 ** np.array([-6, -2, -1.5, -1, -0.5, 0])
#: regularizations, in units of the mean eigenvalue
NOISES = 10.0 ** np.arange(-10.0, 1.0)


def open_weights(kernel: TensorKernel) -> list[str]:
    """Names of the weights of a kernel that are still to be chosen."""
    params = kernel.get_params()
    return [name for name, value in params.items() if name.split("__")[-1] == "weight" and is_open(value)]


def choose_weights(kernel: TensorKernel, features: EquivariantFeatures, irrep: str, values: Floats) -> TensorKernel:
    """Copy of a kernel with its open weights chosen by leave-one-out, and fixed.

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
    size = np.trace(np.einsum("nnab->ab", rest))
    weights = {name: 1.0 for name in names}
    if size > 0:  # else there are charges alone, whose weight does not matter
        traces = {name: np.trace(np.einsum("nnab->ab", part)) for name, part in parts.items()}
        units = {name: size / max(trace, np.finfo(float).tiny) for name, trace in traces.items()}
        weights = {name: WEIGHTS[0] * unit for name, unit in units.items()}

        def density(name, weight):
            matrix = rest + sum({**weights, name: weight}[one] * part for one, part in parts.items())
            return left_out_density(matrix, values[some])

        for name, unit in units.items():
            densities = {weight: density(name, weight) for weight in WEIGHTS * unit}
            weights[name] = max(densities, key=densities.__getitem__)
    chosen = {name: float(weight) for name, weight in weights.items()}
    return clone(kernel).set_params(**chosen, **{f"{name}_bounds": "fixed" for name in chosen})


def left_out_density(matrix: Floats, values: Floats) -> float:
    """Logarithm of the density of structures left out, at the best noise and signal variance, up to a constant.

    Parameters
    ----------
    matrix : ndarray of shape (n, n, d, d)
    values : ndarray of shape (n, d, multiplicity)

    Returns
    -------
    float
    """
    n, d, copies = values.shape
    spectrum, best = Spectrum(matrix, values), -np.inf
    vectors = spectrum.vectors.reshape(n, d, -1)
    for alpha in NOISES * np.sum(spectrum.eigenvalues) / len(spectrum.eigenvalues):
        precision = (vectors * spectrum.inverse(alpha)) @ vectors.transpose(0, 2, 1)
        solution = spectrum.solve(alpha).reshape(n, d, copies)
        misfit = max(np.sum(solution * np.linalg.solve(precision, solution)) / (n * d * copies), np.finfo(float).tiny)
        best = max(best, 0.5 * copies * (np.sum(np.linalg.slogdet(precision)[1]) - n * d * np.log(misfit)))
    return float(best)


def _terms(kernel, names, features, irrep):
    """Matrix without the open weights, and the matrices that these multiply."""
    free = clone(kernel).set_params(
        **{name: 1.0 for name in names}, **{f"{name}_bounds": (1e-8, 1e8) for name in names}
    )
    matrix, slopes = free.theta_gradient(features, irrep)
    parts = {name: slopes[name] for name in names}
    return matrix - sum(parts.values()), parts
