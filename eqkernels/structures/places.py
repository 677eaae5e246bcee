r"""Where the centers of structures are, and what moves with charges: moments about the molecule of each center.

Charges q of the centers make a multipole :math:`\sum_i (q_i - \bar q_i)\, f(\mathbf r_i)`, from which the mean charge
:math:`\bar q` of the molecule is taken off, so that it does not depend on the origin. Molecules are what is connected,

.. math::
    \bar q = \epsilon (\epsilon + L)^{-1} q , \quad
    L_{ij} = \delta_{ij} \sum_k w_{ik} - w_{ij} , \quad w_{ij} = (1 - r_{ij}^2 / r_c^2)^3 ,

with the Laplacian matrix L of the graph of all pairs within the reach :math:`r_c` and a small :math:`\epsilon`. That is
the mean over a molecule, a smooth function of the positions where molecules come apart, and it keeps the sum of all
charges. As the matrix is symmetric, the multipole is the sum of q times the displacements
:math:`f - \epsilon (\epsilon + L)^{-1} f`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from eqkernels._types import Floats, Ints
from eqkernels.structures.batch import structure_number

# Epsilon: charge spreads over molecules much longer than 50 Angstrom, and not to those whose weights are below it.
_SPREAD = 1e-3
# Atoms of a structure up to which dense matrices are faster.
_DENSE = 400
# Initial charges that are printed with a few digits add up to the total charge so far.
_CHARGE_TOLERANCE = 0.01
_ARRAYS = ("positions", "offsets", "charges", "rows")


class Whole:
    """All centers of complete structures, of which features may hold a part.

    Parameters
    ----------
    positions : ndarray of shape (n_centers, 3)
    offsets : ndarray of int, shape (n_structures + 1,)
    charges : ndarray of shape (n_structures, 3)
        Total charge (NaN: unusable), sum of the initial charges of the atoms (NaN: there are none), and whether the
        structure is periodic.
    origin : int or ndarray of int, default=0
        Index of the structures in the input of the user.
    """

    def __init__(self, positions: Floats, offsets: Ints, charges: Floats, origin: int | Ints = 0):
        self.positions, self.offsets, self.charges, self.origin = positions, offsets, charges, origin
        self._kept: dict[tuple[float, int], Floats] = {}

    @property
    def structures(self) -> Ints:
        """Structure of each center."""
        return np.repeat(np.arange(len(self.charges)), np.diff(self.offsets))

    def means_of(self, values: Floats) -> Floats:
        """Mean over its structure of values (n_centers, n_columns), for each center."""
        return self._means(values)[self.structures]

    def _means(self, values):
        counts = np.maximum(np.diff(self.offsets), 1)[:, None]
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, self.structures, values)
        return sums / counts

    def centered(self) -> Floats:
        """Positions relative to the mean of their structure."""
        return self.positions - self.means_of(self.positions)

    def displacements(self, reach: float, degree: int) -> Floats:
        """Moments of each center about its molecule, (n_centers, 2 degree + 1); of degree 0 the trace of the second."""
        key = float(reach), degree
        if key not in self._kept:
            fields = moments(self.centered(), degree)
            self._kept[key] = fields - self.spread(fields, reach)
        return self._kept[key]

    def spread(self, fields: Floats, reach: float) -> Floats:
        """Mean over the molecule of each center of fields (n_centers, n_columns)."""
        out = np.empty(fields.shape)
        for start, stop in zip(self.offsets, self.offsets[1:], strict=False):
            out[start:stop] = _Graph(self.positions[start:stop], reach).mean(fields[start:stop])
        return out

    def displacements_vjp(self, reach: float, degree: int, cotangents: Floats) -> Floats:
        """Differentiate sum(cotangents * displacements) by the positions, (n_centers, 3)."""
        centered, out = self.centered(), np.zeros(self.positions.shape)
        fields = moments(centered, degree)
        for start, stop in zip(self.offsets, self.offsets[1:], strict=False):
            part = slice(start, stop)
            if not cotangents[part].any():
                continue
            graph = _Graph(self.positions[part], reach)
            of_cotangents = graph.mean(cotangents[part])
            by_fields = moments_vjp(centered[part], degree, cotangents[part] - of_cotangents)
            out[part] = by_fields - by_fields.mean(axis=0)
            out[part] += graph.vjp(of_cotangents, graph.mean(fields[part]))
        return out

    def multipole_slopes(self, reach: float, degree: int, charges: Floats, structure: int) -> Floats:
        """Differentiate the multipoles of several sets of charges of the centers of one structure by its positions.

        Parameters
        ----------
        reach : float
        degree : int
        charges : ndarray of shape (n_centers_of_structure, n_sets)
        structure : int

        Returns
        -------
        ndarray of shape (n_centers_of_structure, 3, 2 degree + 1, n_sets)
            Of sum_i charges[i] displacements[i].
        """
        own = slice(self.offsets[structure], self.offsets[structure + 1])
        centered = self.positions[own] - self.positions[own].mean(axis=0)
        graph, fields = _Graph(self.positions[own], reach), moments(centered, degree)
        means = graph.mean(charges)
        unit = np.eye(fields.shape[1])
        of_fields = np.stack([moments_vjp(centered, degree, np.tile(one, (len(centered), 1))) for one in unit], axis=2)
        out = of_fields[..., None] * (charges - means)[:, None, None]
        out -= out.mean(axis=0)
        graph.add_slopes(means, graph.mean(fields), out)
        return out

    def moments_vjp(self, degree: int, cotangents: Floats) -> Floats:
        """Differentiate sum(cotangents * moments), those of degree 1 about the origin, others about the mean."""
        by_fields = moments_vjp(self.centered(), degree, cotangents)
        return by_fields if degree == 1 else by_fields - self.means_of(by_fields)

    def total_charges(self) -> Floats:
        """Total charge of each structure; zero where it is unusable, which ``check`` refuses."""
        return np.nan_to_num(self.charges[:, 0])

    def check(self, structures: Ints) -> None:
        """Refuse those of some structures whose multipoles have no value, or whose charges do not add up."""
        total, initial, periodic = self.charges[structures].T
        for bad, message in (
            (
                periodic > 0,
                lambda k: (
                    "is periodic: its dipole and charges have no value of their own, only changes of the dipole have. "
                    "Set atoms.pbc = False if it is a molecule; for a crystal learn derivatives, Born effective "
                    "charges as per-atom targets, without ChargeKernel"
                ),
            ),
            (np.isnan(total), lambda k: 'has an atoms.info["charge"] that is no finite number: set the total charge'),
            (
                np.abs(np.where(np.isnan(initial), total, initial) - total) > _CHARGE_TOLERANCE,
                lambda k: (
                    f"has initial charges of its atoms that add up to {initial[k]:.3f}, but the total charge "
                    f'{total[k]:g} (atoms.info["charge"], 0 where it is not set): set atoms.info["charge"], or remove '
                    'the others with del atoms.arrays["initial_charges"]'
                ),
            ),
        ):
            found = np.flatnonzero(bad)
            if len(found):
                raise ValueError(f"structure {structure_number(self.origin, structures[found[0]])} {message(found[0])}")


class Places:
    """Positions of some centers of complete structures, in any order.

    Parameters
    ----------
    whole : Whole
    rows : ndarray of int, shape (n_centers,), default=None
        Which of the centers; None: all.
    """

    def __init__(self, whole: Whole, rows: Ints | None = None):
        self.whole = whole
        self.rows = np.arange(len(whole.positions)) if rows is None else rows

    @classmethod
    def of_batch(cls, batch: Any, atoms: Ints) -> Places:
        """Places of some atoms of a batch, which are all the centers."""
        offsets = np.searchsorted(atoms, batch.offsets)
        return cls(Whole(batch.positions[atoms], offsets, _charges(batch), batch.origin))

    @classmethod
    def of_positions(cls, positions: Floats, structures: Ints, n_structures: int) -> Places:
        """Places of all centers of neutral molecules."""
        offsets = np.searchsorted(structures, np.arange(n_structures + 1))
        return cls(Whole(positions, offsets, _neutral(n_structures)))

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, rows: Any) -> Places:
        """Places of some of these centers."""
        return Places(self.whole, self.rows[rows])

    @property
    def positions(self) -> Floats:
        """Positions of the centers, (n_centers, 3)."""
        return self.whole.positions[self.rows]

    def displacements(self, reach: float, degree: int) -> Floats:
        """Moments about the molecule of each center, see :class:`Whole`."""
        return self.whole.displacements(reach, degree)[self.rows]

    def displacements_vjp(self, reach: float, degree: int, cotangents: Floats) -> Floats:
        """Differentiate sum(cotangents * displacements) by the positions of all centers of complete structures."""
        every = np.zeros((len(self.whole.positions), cotangents.shape[1]))
        np.add.at(every, self.rows, cotangents)
        return self.whole.displacements_vjp(reach, degree, every)

    def check(self) -> None:
        """Refuse structures with these centers whose multipoles have no value, or whose charges do not add up."""
        self.whole.check(np.unique(self.whole.structures[self.rows]))

    def of_structures(self, values: Floats, structures: Ints, n_structures: int) -> Floats:
        """Values of the complete structures for those that these centers are in, zero for those without any."""
        out = np.zeros((n_structures, *values.shape[1:]))
        out[structures] = values[self.whole.structures[self.rows]]
        return out

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Arrays of the structures that these centers are in."""
        return _joined_arrays([self])

    @classmethod
    def from_dict(cls, arrays: dict[str, NDArray[Any]]) -> Places:
        """Places from what :meth:`to_dict` returned."""
        positions, offsets, charges, rows = (arrays[name] for name in _ARRAYS)
        return cls(Whole(positions, offsets, charges), rows)

    @classmethod
    def join(cls, parts: Sequence[Places | None]) -> Places | None:
        """Centers of several sets, one after the other; None where one of them has none."""
        known = [part for part in parts if part is not None]
        return cls.from_dict(_joined_arrays(known)) if len(known) == len(parts) and known else None


def moments(vectors: Floats, degree: int) -> Floats:
    """Make the components of a multipole of unit charges: vectors (1), their products without (2) or as a trace (0).

    In the orthonormal basis of :class:`~eqkernels.so3.CartesianTensor`, m = -l .. l.
    """
    x, y, z = vectors.T
    if degree == 0:
        return ((x * x + y * y + z * z) / np.sqrt(3))[:, None]
    if degree == 1:
        return np.stack([y, z, x], axis=1)
    root = np.sqrt(2)
    columns = [
        root * x * y,
        root * y * z,
        (2 * z * z - x * x - y * y) / np.sqrt(6),
        root * x * z,
        (x * x - y * y) / root,
    ]
    return np.stack(columns, axis=1)


def moments_vjp(vectors: Floats, degree: int, cotangents: Floats) -> Floats:
    """Differentiate sum(cotangents * moments) by the vectors."""
    x, y, z = vectors.T
    if degree == 0:
        return 2 / np.sqrt(3) * cotangents * vectors
    if degree == 1:
        return cotangents[:, [2, 0, 1]]
    xy, yz, zz, xz, xx = cotangents.T * np.array(
        [[np.sqrt(2)], [np.sqrt(2)], [np.sqrt(2 / 3)], [np.sqrt(2)], [np.sqrt(2)]]
    )
    return np.stack(
        [xy * y - zz * x + xz * z + xx * x, xy * x + yz * z - zz * y - xx * y, yz * y + 2 * zz * z + xz * x], axis=1
    )


class _Graph:
    """Graph of the centers of a structure."""

    def __init__(self, positions, reach):
        self.n = len(positions)
        self.positions = positions
        self.reach = min(reach, 1e6)
        pairs = cKDTree(positions).query_pairs(self.reach, output_type="ndarray") if self.n else np.zeros((0, 2), int)
        self.i, self.j = pairs[:, 0], pairs[:, 1]
        self.vectors = positions[self.i] - positions[self.j]
        self.rest = 1 - np.sum(self.vectors**2, axis=1) / self.reach**2
        self._factor = None

    def mean(self, fields):
        """Solve (epsilon + L) x = epsilon f."""
        if self._factor is None:
            self._factor = self._factorize()
        return self._factor(_SPREAD * fields)

    def _factorize(self):
        weights, n = self.rest**3, self.n
        degrees = _SPREAD + np.bincount(self.i, weights, n) + np.bincount(self.j, weights, n)
        if n <= _DENSE:
            matrix = np.diag(degrees)
            matrix[self.i, self.j] = matrix[self.j, self.i] = -weights
            factor = cho_factor(matrix, check_finite=False)
            return lambda right: cho_solve(factor, right, check_finite=False)
        own = np.arange(n)
        rows, columns = (np.concatenate(one) for one in ((self.i, self.j, own), (self.j, self.i, own)))
        values = np.concatenate([-weights, -weights, degrees])
        return splu(coo_matrix((values, (rows, columns)), shape=(n, n)).tocsc()).solve

    def vjp(self, of_cotangents, of_fields):
        """Differentiate minus sum(cotangents * mean) by positions, at fixed fields, from the means of both."""
        along = np.sum(
            (of_cotangents[self.i] - of_cotangents[self.j]) * (of_fields[self.i] - of_fields[self.j]), axis=1
        )
        forces = along[:, None] * self._slopes()
        out = np.zeros((self.n, 3))
        np.add.at(out, self.i, forces)
        np.add.at(out, self.j, -forces)
        return out

    def add_slopes(self, of_charges, of_fields, out):
        """Add the derivatives of minus sum_i charges[i] mean(fields)[i], for each set of charges, to out.

        The means of charges (n, n_sets) and of fields (n, d) are those of the graph; out (n, 3, d, n_sets).
        """
        slopes, n = self._slopes(), self.n
        ends = np.concatenate([self.i, self.j])
        others = np.concatenate([self.j, self.i])
        for x in range(3):
            for mu in range(of_fields.shape[1]):
                weights = np.tile(slopes[:, x] * (of_fields[self.i, mu] - of_fields[self.j, mu]), 2)
                matrix = coo_matrix((weights, (ends, others)), shape=(n, n)).tocsr()
                out[:, x, mu] += np.bincount(ends, weights, n)[:, None] * of_charges - matrix @ of_charges

    def _slopes(self):
        """Differentiate the weights of pairs by the position of the first, over epsilon."""
        return (3 / _SPREAD * self.rest**2 * -2 / self.reach**2)[:, None] * self.vectors


def _neutral(n):
    return np.tile([0.0, np.nan, 0.0], (n, 1))


def _charges(batch):
    charges = _neutral(len(batch))
    if batch.charges is not None:
        charges[:, :2] = batch.charges
    charges[:, 2] = batch.pbc.any(axis=1)
    return charges


def _joined_arrays(parts):
    """Arrays of several places, of the structures that occur, each once in every part."""
    positions, counts, charges, rows, n = [], [np.zeros(1, dtype=np.int64)], [], [], 0
    for part in parts:
        whole = part.whole
        structures = whole.structures
        used = np.unique(structures[part.rows])
        kept = np.isin(structures, used)
        positions.append(whole.positions[kept])
        counts.append(np.diff(whole.offsets)[used])
        charges.append(whole.charges[used])
        rows.append(n + (np.cumsum(kept) - 1)[part.rows])
        n += int(kept.sum())
    joined = [np.concatenate(one) for one in (positions, counts, charges, rows)]
    return dict(zip(_ARRAYS, (joined[0], np.cumsum(joined[1]), *joined[2:]), strict=True))
