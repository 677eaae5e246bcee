r"""Responses of what a model predicts to its inputs: dipoles and polarizabilities of energies in a field, and others.

With the energy E of a structure in an electric field F, the dipole and the polarizability are

.. math:: \mu_i = -\frac{\partial E}{\partial F_i}, \qquad
          \alpha_{ij} = -\frac{\partial^2 E}{\partial F_i\, \partial F_j} .

The first derivatives are those of the model, to rounding; the second ones are differences of the fourth order of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels._numeric import check_integer, check_positive
from eqkernels.structures import as_list

__all__ = ["input_derivatives"]

# Weights of the differences of the fourth order, at -2, -1, 1 and 2 steps.
_WEIGHTS = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
# Part of the size of an input that is a step: rounding and the next order are both small.
_STEP = 1e-2


def input_derivatives(
    model: Any, frames: Iterable[Atoms], name: str, order: int = 1, step: float | None = None
) -> NDArray[np.float64]:
    """Differentiate the scalars that a model predicts by an input of the structures.

    Parameters
    ----------
    model : estimator
        Fitted to scalars of structures, with ``vjp``, and a descriptor with this input.
    frames : sequence of ase.Atoms
    name : str
        The input, a key of ``atoms.info``.
    order : {1, 2}, default=1
        The polarizability is of order 2.
    step : float, default=None
        Of the differences of order 2, in the unit of the input; None: a hundredth of its root mean square over the
        frames, or of 1 where it is zero in all.

    Returns
    -------
    ndarray of shape (n_structures, ...) or (n_structures, ..., ...)
        In units of y over those of the input, for order 2 over their square. A dipole is minus this.

    Raises
    ------
    ValueError
        If the descriptor has no such input, or it is one of atoms and ``order`` is 2.

    Examples
    --------
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP, SparseTensorGPR
    >>> frames = [molecule("HF") for _ in range(10)]
    >>> for k, atoms in enumerate(frames):
    ...     atoms.info["electric_field"] = np.random.default_rng(k).normal(size=3)
    >>> energies = [-1.8 * atoms.info["electric_field"][2] for atoms in frames]  # a dipole along z
    >>> descriptor = LambdaSOAP(n_max=3, l_max=2, inputs={"electric_field": "1o"})
    >>> model = SparseTensorGPR(20, descriptor=descriptor, random_state=0).fit(frames, energies)
    >>> dipoles = -input_derivatives(model, frames, "electric_field")
    >>> bool(np.abs(dipoles - [0.0, 0.0, 1.8]).max() < 0.1)
    True
    """
    check_integer(order, "order", 1, 2)
    frames = as_list(frames)
    if order == 1:
        return _first(model, frames, name)
    values = [np.asarray(atoms.info.get(name, np.nan), dtype=float) for atoms in frames]
    if not all(np.isfinite(one).all() for one in values):
        raise ValueError(f"second derivatives are those by inputs of structures: {name!r} is not in all atoms.info")
    if step is None:
        size = np.sqrt(np.mean([np.sum(one**2) for one in values]))
        step = float(_STEP * (size if size > 0 else 1.0))
    check_positive(step, "step")
    shape = values[0].shape
    out = np.zeros((len(frames), *shape, *shape))
    for index in np.ndindex(*shape):
        for k, weight in _WEIGHTS.items():
            out[(slice(None), *index)] += (
                weight / step * _first(model, [_moved(a, name, index, k * step) for a in frames], name)
            )
    order_of_axes = (0, *range(1 + len(shape), 1 + 2 * len(shape)), *range(1, 1 + len(shape)))
    return 0.5 * (out + out.transpose(order_of_axes))


def _first(model, frames, name):
    derivatives = model.vjp(frames, np.ones(len(frames)))
    if name not in derivatives.inputs:
        known = ", ".join(map(repr, derivatives.inputs)) or "none"
        raise ValueError(f"the model has no input {name!r} (its inputs: {known}): set it in inputs of the descriptor")
    return derivatives.inputs[name]


def _moved(atoms, name, index, change):
    """Copy of a structure of which one number of an input is changed (and its mirror of a symmetric matrix)."""
    moved, values = atoms.copy(), np.array(atoms.info[name], dtype=float)
    if values.ndim == 2 and index[0] != index[1] and np.array_equal(values, values.T):
        values[index[::-1]] += 0.5 * change
        values[index] += 0.5 * change
    else:
        values[index] += change
    moved.info[name] = values
    return moved
