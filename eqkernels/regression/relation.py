"""Whether a kernel relates structures to tensors at all, where the kind of these was not declared.

Axial tensors that are read as polar, or tensors in another frame than their structures, cannot be learned: the model
that is fitted without a structure predicts its tensor no better than zero does. A few structures show it.
"""

from __future__ import annotations

import numpy as np

from eqkernels._warnings import warn
from eqkernels.regression.criteria import Spectrum, block_rows
from eqkernels.so3 import Irrep

# Components of the structures that are left out one by one: their kernel takes milliseconds.
_COMPONENTS = 300
# With fewer structures chance decides.
_FEWEST = 20
# Part of the squares of all labels below which those of vectors and higher tensors do not matter.
_SMALL = 0.1
# Part of the squares of the labels from which those of the errors count as those of zeros: of unrelated data, a chosen
# alpha explains up to a tenth by chance.
_NO_BETTER = 0.9


def left_out_squares(kernel, values, alpha):
    """Mean square of the errors on some structures left out, and of their labels.

    Parameters
    ----------
    kernel : ndarray of shape (n, n, d, d)
    values : ndarray of shape (n, d, multiplicity)
    alpha : float

    Returns
    -------
    float, float
    """
    n, d, _ = values.shape
    picked = np.arange(0, n, max(1, -(-n * d // _COMPONENTS)))
    values = values[picked]
    spectrum = Spectrum(kernel[np.ix_(picked, picked)], values)
    solution, total = spectrum.solve(alpha), 0.0
    for rows in block_rows(np.arange(len(picked)), d):
        total += np.sum(np.linalg.solve(spectrum.precision(rows, alpha), solution[rows]) ** 2)
    return total / values.size, float(np.mean(values**2))


def warn_if_unrelated(model, n_structures, squares):
    """Warn if nothing was learned of vectors and higher tensors, and the target is not declared.

    Parameters
    ----------
    model : TensorRegressor
    n_structures : int
        Of the training set.
    squares : dict of str to (float, float)
        Of each irrep the mean squares of left-out errors and of labels.
    """
    # what a baseline leaves may well be noise
    if model.target is not None or n_structures < _FEWEST or model.baseline_model_ is not None:
        return
    sizes = {irrep: Irrep.parse(irrep).dim * np.array(pair) for irrep, pair in squares.items()}
    tensors = [irrep for irrep in sizes if irrep[:-1] != "0"]
    errors, labels = sum((sizes[irrep] for irrep in tensors), np.zeros(2))
    if errors >= _NO_BETTER * labels and labels > _SMALL * sum(pair[1] for pair in sizes.values()):
        warn(
            f"no relation between the structures and the part {'+'.join(tensors)} of y was found: leave-one-out "
            "predictions are hardly better than zero. If y is axial, declare it (e.g. target='optical_rotation' or "
            "'magnetic_moment'); if it is not, check that it is in the frame and in the order of its structures"
        )
