"""Invariant tensors as crystallographers print them: independent components, and the others in terms of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_ZERO = 1e-6
# Components that are almost zero, as where an axis is slightly tilted, do not determine others.
_SMALLEST_PIVOT = 0.1
_PAIRS = {"xx": 0, "yy": 1, "zz": 2, "yz": 3, "xz": 4, "xy": 5}
_VOIGT_NOTE = "Voigt: 1 .. 6 are xx, yy, zz, yz, xz, xy; entries are components of the tensor, without factors of 2"
_LARGEST_DENOMINATOR = 12


def independent_components(basis, names):
    """Components that determine a tensor, and all others in terms of them.

    Components of a single axis come first (xx, zzz), then the order of Voigt's matrix.

    Parameters
    ----------
    basis : ndarray of shape (dimension, ...)
        Independent tensors.
    names : sequence of str
        Of all components.

    Returns
    -------
    rows : list of int
        Which components are independent; as many as the dimension.
    matrix : ndarray of shape (dimension, n_components)
        Column k has the factors of component k.
    """
    flat = basis.reshape(len(basis), len(names))
    order = np.array(sorted(range(len(names)), key=lambda k: _rank_of(names[k])))
    rows: list[int] = []
    rest = flat
    for _ in flat:
        norms = np.linalg.norm(rest, axis=0)[order]
        rows.append(int(order[np.argmax(norms > _SMALLEST_PIVOT * norms.max())]))
        column = rest[:, rows[-1]]
        rest = rest - np.outer(column, column @ rest) / (column @ column)
    rows.sort(key=order.tolist().index)
    if not rows:
        return rows, np.zeros((0, len(names)))
    matrix = np.linalg.solve(flat[:, rows], flat)
    matrix[np.abs(matrix) < _ZERO] = 0
    return rows, matrix


def _rank_of(name):
    if not set(name) <= set("xyz"):
        return (0,)
    return (len(set(name)) > 1, *_voigt_index(name))


def _voigt_index(name):
    """Translate letters to indices of a matrix: an odd first one, then pairs."""
    start = len(name) % 2
    pairs = [name[k : k + 2] for k in range(start, len(name), 2)]
    return ("xyz".index(name[0]),) * start + tuple(_PAIRS["".join(sorted(pair))] for pair in pairs)


def voigt_matrix(basis, names):
    """Lines of a matrix of components in terms of independent ones; empty where a tensor is no such matrix.

    Parameters
    ----------
    basis : ndarray of shape (dimension, 3, ..., 3)
    names : sequence of str

    Returns
    -------
    list of str
    """
    rank = basis.ndim - 1
    if basis.shape[1:] != (3,) * rank or rank not in (1, 2, 3, 4):
        return []
    if rank > 2 and not all(_symmetric_pair(basis, k) for k in range(rank - 1, 1, -2)):
        return []
    if rank == 4 and not _symmetric_pair(basis, 1):
        return []
    rows, matrix = independent_components(basis, names)
    labels = [_label(names[k], rank) for k in rows]
    order = sorted(_PAIRS, key=lambda pair: _PAIRS[pair])
    across = ["".join(one) for one in ("xyz" if rank < 3 else order)]
    down = {1: [""], 2: list("xyz"), 3: list("xyz"), 4: order}[rank]
    table = [[combination(matrix[:, names.index(a + b)], labels) for b in across] for a in down]
    width = max(len(cell) for line in table for cell in line) + 1
    lines = ["".join(cell.rjust(width) for cell in line) for line in table]
    return lines + ([_VOIGT_NOTE] if rank > 2 else [])


def _symmetric_pair(basis, k):
    return np.allclose(basis, np.swapaxes(basis, k, k + 1), atol=_ZERO)


def _label(name, rank):
    if rank < 3:
        return name
    first, *others = _voigt_index(name)
    return "".join(str(one + 1) for one in (first, *others))


def relation_lines(basis, names):
    """Lines such as ``xxz = yyz``, for each independent component those that it determines; zeros are not listed.

    Parameters
    ----------
    basis : ndarray of shape (dimension, ...)
    names : sequence of str

    Returns
    -------
    list of str
    """
    rows, matrix = independent_components(basis, names)
    labels = [names[k] for k in rows]
    equal: dict[str, list[str]] = {}
    for name, column in zip(names, matrix.T, strict=True):
        if column.any() and name not in labels:
            equal.setdefault(combination(column, labels), []).append(name)
    lines = [" = ".join([label, *equal.pop(label, [])]) for label in labels]
    lines += [" = ".join([*others, value]) for value, others in equal.items()]
    return [*lines, "all others are zero"] if np.any(~matrix.any(axis=0)) else lines


def combination(factors, labels):
    """Linear combination as text, with a common denominator where factors are simple fractions.

    Examples
    --------
    >>> combination([0.5, -0.5, 0], ["11", "12", "44"])
    '(11-12)/2'
    """
    terms = [(factor, label) for factor, label in zip(factors, labels, strict=True) if factor]
    fractions = [Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR) for factor, _ in terms]
    if any(abs(exact - factor) > _ZERO for exact, (factor, _) in zip(fractions, terms, strict=True)):
        return "".join(f"{factor:+.4f}*{label}" for factor, label in terms).removeprefix("+")
    denominator = int(np.lcm.reduce([one.denominator for one in fractions] or [1]))
    text = "".join(_term(int(one * denominator), label) for one, (_, label) in zip(fractions, terms, strict=True))
    text = text.removeprefix("+") or "0"
    if denominator == 1:
        return text
    return f"({text})/{denominator}" if len(terms) > 1 else f"{text}/{denominator}"


def _term(factor, label):
    size = "" if abs(factor) == 1 else f"{abs(factor)}*"
    return f"{'-' if factor < 0 else '+'}{size}{label}"
