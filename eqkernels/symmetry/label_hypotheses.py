"""What can have happened to a tensor on its way into a file: each hypothesis undoes one such mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

# How the six components of a symmetric tensor are listed.
_XX, _YY, _ZZ, _YZ, _XZ, _XY = (0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)
SIX_COMPONENTS = {
    "Voigt (xx yy zz yz xz xy)": (_XX, _YY, _ZZ, _YZ, _XZ, _XY),
    "xx yy zz xy yz xz": (_XX, _YY, _ZZ, _XY, _YZ, _XZ),
    "xx yy zz xy xz yz": (_XX, _YY, _ZZ, _XY, _XZ, _YZ),
    "xx xy xz yy yz zz": (_XX, _XY, _XZ, _YY, _YZ, _ZZ),
    "xx xy yy xz yz zz": (_XX, _XY, _YY, _XZ, _YZ, _ZZ),
}
_STRAIN = {"doubled, as in Voigt strain": 0.5, "halved": 2.0, "times sqrt(2), as in Mandel notation": 0.5**0.5}

_NUMBERS = {
    "e Angstrom and Debye": 1 / units.Debye,
    "e a0 and e Angstrom": units.Bohr,
    "e a0 and Debye": units.Bohr / units.Debye,
    "a0^2 and Angstrom^2": units.Bohr**2,
    "a0^3 and Angstrom^3": units.Bohr**3,
    "hartree and eV": units.Hartree,
    "hartree/a0 and eV/Angstrom": units.Hartree / units.Bohr,
    "hartree/a0^2 and eV/Angstrom^2": units.Hartree / units.Bohr**2,
    "rydberg and eV": units.Rydberg,
    "hartree and rydberg": 2.0,
    "kcal/mol and eV": units.mol / units.kcal,
    "kJ/mol and eV": units.mol / units.kJ,
    "hartree and kcal/mol": units.Hartree * units.mol / units.kcal,
    "kcal/mol and kJ/mol": units.kcal / units.kJ,
    "eV/Angstrom^3 and GPa": 1 / units.GPa,
    "GPa and kbar": 10.0,
    "eV/Angstrom^3 and kbar": 10 / units.GPa,
    "eV and meV, or GPa and MPa": 1000.0,
    "a factor of 4 pi": 4 * np.pi,
}

# From here on a factor is no error of a prediction.
_LEAST_FACTOR = 1.15
_LEAST_ANGLE = np.radians(15)
_STARTS = 3


@dataclass(frozen=True)
class Hypothesis:
    """A mistake, and the labels without it.

    Attributes
    ----------
    kind : str
        "sign", "unit", "transposed", "component order", "Voigt order", "mirrored" or "rotated".
    text : str
        What the labels look like.
    undo : callable
        Turns labels (n, 3, ..., 3) as they are into labels as they should be.
    """

    kind: str
    text: str
    undo: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def fixed_hypotheses(rank: int, symmetric: bool, n_axial: int = 0) -> Iterator[Hypothesis]:
    """Mistakes without free parameters.

    Parameters
    ----------
    rank : int
        Number of indices of the tensor.
    symmetric : bool
        Whether it is a symmetric tensor of rank 2.
    n_axial : int, default=0
        Number of axial indices.

    Yields
    ------
    Hypothesis
        The most common first.

    Examples
    --------
    >>> [one.text for one in fixed_hypotheses(1, False)][:2]
    ['the sign is reversed', 'components in the order y z x (e3nn) instead of x y z']
    """
    yield Hypothesis("sign", "the sign is reversed", np.negative)
    if rank == 0:
        return
    if not symmetric:
        for order in list(permutations(range(rank)))[1:]:
            yield Hypothesis("transposed", f"the indices are exchanged: {'ijklmn'[:rank]} as "
                             f"{''.join('ijklmn'[k] for k in order)}", _exchanged(order))  # fmt: skip
    for axes in ((1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)):
        name = " ".join("xyz"[k] for k in axes) + (" (e3nn)" if axes == (1, 2, 0) else "")
        yield Hypothesis("component order", f"components in the order {name} instead of x y z", _reordered(axes))
    if symmetric:
        yield from _voigt()
    for axis in range(3):
        text = f"mirrored: the {'xyz'[axis]} axis is reversed"
        if rank % 2 == 0:
            text += f" (or turned by 180 degrees about {'xyz'[axis]}, which is the same for this tensor)"
        mirror = np.diag([-1.0 if k == axis else 1.0 for k in range(3)])
        yield Hypothesis("mirrored", text, _mirrored(mirror, (-1.0) ** n_axial))


def scaled(values: NDArray[np.float64], predicted: NDArray[np.float64]) -> Hypothesis | None:
    """Return the factor that brings labels closest to predictions, with the units that it converts.

    Parameters
    ----------
    values, predicted : ndarray of shape (n, 3, ..., 3)

    Returns
    -------
    Hypothesis or None
        None if the factor is near 1 or -1, or there is none.
    """
    product, square = float(np.sum(values * predicted)), float(np.sum(values**2))
    if product == 0 or square == 0:
        return None
    factor = product / square
    size = abs(factor)
    if 1 / _LEAST_FACTOR < size < _LEAST_FACTOR:
        return None
    # how well the factor is known
    error = 0.01 + float(np.linalg.norm(factor * values - predicted) / np.linalg.norm(predicted))
    near = sorted((abs(np.log(size) - sign * np.log(number)), name, number**sign)
                  for name, number in _NUMBERS.items() for sign in (1, -1))  # fmt: skip
    names = [f"{name} ({number:.4g})" for distance, name, number in near[:3] if distance < min(error, 0.05)]
    sign = ", the sign is reversed" if factor < 0 else ""
    conversion = f", as between {' or '.join(names)}" if names else ""
    return Hypothesis("unit", f"too {'small' if size > 1 else 'large'} by a factor of {max(size, 1 / size):.4g}"
                      f"{conversion}{sign}", lambda y: factor * y)  # fmt: skip


def rotated(
    values: NDArray[np.float64], misfit: Callable[[NDArray[np.float64]], float], improper: bool
) -> Hypothesis | None:
    """Return the rotation that brings labels closest to predictions.

    Parameters
    ----------
    values : ndarray of shape (n, 3, ..., 3)
    misfit : callable
        Distance of labels from predictions.
    improper : bool
        Rotate and invert; only for tensors that inversion changes.

    Returns
    -------
    Hypothesis or None
        None if the angle is so small that it is an error of the prediction.
    """
    mirror = -1.0 if improper else 1.0

    def misfit_at(vector):
        return misfit(mirror * apply(Rotation.from_rotvec(vector).as_matrix(), values))

    cube = Rotation.create_group("O").as_rotvec()
    starts = np.concatenate([cube, Rotation.random(24, np.random.default_rng(0)).as_rotvec()])
    starts = starts[np.argsort([misfit_at(vector) for vector in starts])[:_STARTS]]
    best = min((minimize(misfit_at, vector, method="Nelder-Mead" if len(values) == 1 else "BFGS")
                for vector in starts), key=lambda one: one.fun)  # fmt: skip
    turn = Rotation.from_rotvec(best.x)
    if not improper and turn.magnitude() < _LEAST_ANGLE:
        return None
    axis = turn.as_rotvec() / max(turn.magnitude(), 1e-300)
    axis = ", ".join(f"{a:.2f}" for a in axis)
    text = f"in a frame turned by {np.degrees(turn.magnitude()):.0f} degrees about [{axis}]"
    kind, text = ("mirrored", f"of the other handedness, {text}") if improper else ("rotated", text)
    return Hypothesis(kind, text, lambda values: mirror * apply(turn.as_matrix(), values))


def apply(matrix: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tensors with a matrix applied to each index.

    Parameters
    ----------
    matrix : ndarray of shape (3, 3)
    values : ndarray of shape (n, 3, ..., 3)

    Returns
    -------
    ndarray of shape (n, 3, ..., 3)
    """
    for _ in range(values.ndim - 1):  # the first index becomes the last, n times in all
        values = np.tensordot(values, matrix, axes=(1, 1))
    return values


def _mirrored(matrix, sign):
    return lambda values: sign * apply(matrix, values)


def _exchanged(order):
    return lambda values: values.transpose(0, *(1 + np.argsort(order)))


def _reordered(axes):
    back = np.argsort(axes)
    return lambda values: values[np.ix_(np.arange(len(values)), *[back] * (values.ndim - 1))]


def _voigt():
    for (name, written), (other, read) in permutations(SIX_COMPONENTS.items(), 2):
        yield Hypothesis("Voigt order", f"six components in the order {name} were read as {other}",
                         _relisted(written, read))  # fmt: skip
    for name, factor in _STRAIN.items():
        yield Hypothesis("Voigt order", f"components off the diagonal are {name}", _off_diagonal(factor))


def _relisted(written, read):
    def undo(values):
        result = np.empty_like(values)
        for (a, b), (c, d) in zip(written, read, strict=True):
            result[:, a, b] = result[:, b, a] = values[:, c, d]
        return result

    return undo


def _off_diagonal(factor):
    return lambda values: values * np.where(np.eye(3, dtype=bool), 1.0, factor)
