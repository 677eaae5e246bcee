r"""Representative environments, on which a sparse model is built.

M environments out of many are chosen once, by their invariant features, and serve all irreps; each central species has
its own. Farthest-point sampling takes, again and again, the environment farthest from those taken (T. F. Gonzalez,
Theor. Comput. Sci. 38, 293 (1985)); leverage sampling, as in CUR decompositions, draws them with probabilities
proportional to :math:`\mathbf p_i^T C^+ \mathbf p_i`, C the covariance of all features (M. W. Mahoney, P. Drineas, PNAS
106, 697 (2009); G. Imbalzano et al., J. Chem. Phys. 148, 241730 (2018)).

Sets that do not fit into memory come block by block: after each one only the best M remain. The farthest points of
(points kept + a block) cover all data within a constant factor of the best cover (P. Indyk et al., PODS (2014)); random
sets stay uniformly random.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral

import numpy as np
from ase.data import chemical_symbols
from sklearn.utils import check_random_state

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.base import species_number
from eqkernels.descriptors.selection import farthest_points
from eqkernels.kernels.centers import center_similarity as center_similarity_of
from eqkernels.kernels.centers import check_similarity
from eqkernels.kernels.covariant import check_normalize
from eqkernels.kernels.environments import environment_scale
from eqkernels.structures import symbols
from eqkernels.structures.places import Places

SELECTIONS = ("fps", "leverage", "random")
# Environments at a squared distance of rounding, relative to the largest norm, are the same, up to a rotation.
_SAME = 1e-14
# Columns of features that are put into another order at once.
_COLUMNS = 256
# Directions of the features below this part of the largest variance are rounding.
_RANK_TOLERANCE = 1e-12


def select_sparse_points(
    features: EquivariantFeatures | Iterable[EquivariantFeatures],
    n_points: int | Mapping[str | int, int],
    selection: str = "fps",
    *,
    normalize: str | bool = "invariant",
    random_state: int | np.random.RandomState | None = None,
    center_similarity: float = 0.0,
) -> EquivariantFeatures:
    """Choose representative environments of each central species, or of all together.

    Parameters
    ----------
    features : EquivariantFeatures, or iterable of EquivariantFeatures
        With the block ``"0e"``. An iterable is read once, block by block.
    n_points : int or dict
        How many: in all, shared equally by the species as far as they have so many, or for each species, e.g.
        ``{"O": 100, "H": 200}``. More points are more accurate; time grows with their square or third power.
    selection : {"fps", "leverage", "random"}, default="fps"
        Farthest-point sampling, which covers rare environments too; leverage scores; or uniformly at random.
    normalize : {"invariant", True, False}, default="invariant"
        Whether environments are compared by direction, or with the length of their features: as the kernel does.
    random_state : int, RandomState instance or None, default=None
        Chooses the first point of ``"fps"``, all points of the others.
    center_similarity : float, default=0.0
        That of the kernel: with more than 0, points are shared by all species, which the distances of ``"fps"`` take
        into account. ``n_points`` may still say how many each species has.

    Returns
    -------
    EquivariantFeatures
        The environments, each a structure of one atom, species by species, in the order of choice; fewer than asked for
        where there are no more (for ``"fps"``: no more that differ).

    Raises
    ------
    ValueError
        If a parameter is not usable, or n_points leaves a species without any.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels.descriptors import LambdaSOAP
    >>> frames = [molecule(name) for name in ("CH4", "CH3OH", "C2H6", "H2O")]
    >>> features = LambdaSOAP(n_max=3, l_max=2).fit_transform(frames)
    >>> select_sparse_points(features, {"C": 2, "H": 4, "O": 1}, random_state=0).species
    array([1, 1, 1, 1, 6, 6, 8])
    """
    if not isinstance(selection, str) or selection not in SELECTIONS:
        raise ValueError(f"selection={selection!r} must be one of {SELECTIONS}")
    check_normalize(normalize)
    wanted = check_n_points(n_points)
    if not isinstance(features, Iterable | EquivariantFeatures):
        raise TypeError(f"features must be EquivariantFeatures or blocks of them, got {type(features).__name__}")
    blocks = [features] if isinstance(features, EquivariantFeatures) else features
    check_similarity(center_similarity)
    random = check_random_state(random_state)
    return choose_points(blocks, wanted, selection, normalize, random, shared=float(center_similarity))


def choose_points(blocks, wanted, selection, normalize, random, room=None, shared=0.0):
    """Choose points from blocks of features, as :func:`select_sparse_points`.

    Parameters
    ----------
    blocks : iterable of EquivariantFeatures
    wanted : int or dict of int to int
    selection, normalize
        As there.
    random : RandomState
    room : dict of int to int, default=None
        Most points of each species that are kept from one block to the next; None: as many as are wanted.
    shared : float, default=0.0
        Similarity of centers of different species: if positive, those of all species are chosen together.

    Returns
    -------
    EquivariantFeatures
    """
    together = shared > 0 and isinstance(wanted, int)
    pools: dict[int, _Pool] = {}
    for block in blocks:
        if not isinstance(block, EquivariantFeatures):
            raise TypeError(f"features must be EquivariantFeatures or blocks of them, got {type(block).__name__}")
        block.check_values()
        if "0e" not in block.blocks:
            raise ValueError(
                f"features has no block 0e, by which to compare environments, only {', '.join(block.blocks)}: ask for "
                "it with LambdaSOAP(irreps='0e+...')"
            )
        if together:
            pool = pools.setdefault(0, _Pool(wanted, selection, normalize, random, shared))
            pool.add(block.split_centers(np.arange(len(block.species))))
            continue
        for species in np.unique(block.species).tolist():
            limit = wanted if isinstance(wanted, int) else _of_species(wanted, species)
            limit = limit if room is None else min(limit, room[species])
            pool = pools.setdefault(species, _Pool(limit, selection, normalize, random))
            pool.add(block.split_centers(np.flatnonzero(block.species == species)))
    if not pools:
        raise ValueError("features has no environments: there is nothing to choose from")
    counts = {species: len(pool) for species, pool in pools.items()}
    if isinstance(wanted, int):
        counts = _shares(wanted, counts)
    return _gathered(pools, counts)


class _Pool:
    """The best environments of one species so far, or of all, in the order of choice."""

    def __init__(self, limit, selection, normalize, random, shared=0.0):
        self.shared = shared
        self.limit, self.selection, self.normalize, self.random = limit, selection, normalize, random
        self.points: _Store | None = None
        self.keys = np.zeros(0)
        self.covariance = 0.0

    def __len__(self):
        return 0 if self.points is None else len(self.points.rows)

    def add(self, new):
        if self.points is None:
            self.points = _Store(new)
        parts, n_old = [self.points.scalars(), new] if len(self) else [new], len(self)
        scaled = [environment_scale(part, "0e", self.normalize)[:, None] * part.block("0e")[:, 0] for part in parts]
        x = np.concatenate(scaled)
        if self.shared > 0:
            x = self._with_species(x, np.concatenate([part.species for part in parts]))
        if self.selection == "fps":
            start = 0 if n_old else int(self.random.randint(len(x)))
            order = farthest_points(x, self.limit, start, _SAME)
        else:
            self.keys = np.concatenate([self.keys, self._draw(x[n_old:])])
            order = np.argsort(self.keys, kind="stable")[: self.limit]
            self.keys = self.keys[order]
        self.points.keep(order, new)

    def _with_species(self, x, species):
        """Features joined to vectors of the species, of unit length, whose scalar products are their similarities."""
        kinds, rows = np.unique(species, return_inverse=True)
        values, vectors = np.linalg.eigh(center_similarity_of(kinds, kinds, self.shared))
        of_species = vectors * np.sqrt(np.maximum(values, 0.0))
        # the length of the features, if they are not normalized
        size = 1.0 if self.normalize is not False else np.sqrt(np.mean(np.sum(x**2, axis=1)))
        return np.hstack([x, size * of_species[rows]])

    def _draw(self, x):
        """Exponential variates with the weights as rates: the smallest are a weighted sample without replacement."""
        times = self.random.exponential(size=len(x))
        if self.selection == "random":
            return times
        self.covariance = self.covariance + x.T @ x
        variances, directions = np.linalg.eigh(self.covariance)
        kept = variances > _RANK_TOLERANCE * variances[-1]
        leverage = np.sum((x @ directions[:, kept]) ** 2 / variances[kept], axis=1)
        return times / np.maximum(leverage, np.finfo(float).tiny)


def room_of_species(wanted, available, most):
    """Points of each species to keep while points are chosen: all that may be used, if these are not too many.

    Parameters
    ----------
    wanted : int or dict of int to int
    available : dict of int to int
        Environments of each species.
    most : float
        How many points are not too many.

    Returns
    -------
    dict of int to int, or None
        None: all. Else up to twice the share of each species, for others may have fewer that differ.
    """
    if not isinstance(wanted, int) or len(available) > wanted:
        return None
    if sum(min(wanted, count) for count in available.values()) <= most:
        return None
    shares = _shares(wanted, available)
    factor = min(2.0, max(1.0, most / sum(shares.values())))
    return {species: int(factor * share) for species, share in shares.items()}


def check_n_points(n_points):
    """Positive integer, or one for each atomic number."""

    def check(value):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"n_points={n_points!r} must be a positive integer, or one for each species")
        return int(value)

    if not isinstance(n_points, dict):
        return check(n_points)
    return {species_number(key, "n_points"): check(value) for key, value in n_points.items()}


def points_by_irrep(n_points, irreps):
    """Numbers of points of each irrep of a target, and those that serve them all.

    Parameters
    ----------
    n_points : int or dict
        As in :func:`select_sparse_points`, or such a value for each irrep, e.g. ``{"0e": 1000, "2e": 200}``.
    irreps : list of str

    Returns
    -------
    dict of str to int or dict
        For each irrep.
    int or dict
        The largest of them.
    """
    if not _has_irreps(n_points):
        return dict.fromkeys(irreps, check_n_points(n_points)), check_n_points(n_points)
    if set(n_points) != set(irreps):
        raise ValueError(f"n_points has the irreps {sorted(n_points)}, the target has {sorted(irreps)}")
    wanted = {irrep: check_n_points(n_points[irrep]) for irrep in irreps}
    if all(isinstance(n, int) for n in wanted.values()):
        return wanted, max(wanted.values())
    if any(isinstance(n, int) for n in wanted.values()) or len({frozenset(n) for n in wanted.values()}) > 1:
        raise ValueError(
            f"n_points={n_points!r} must be numbers for all irreps, or for the same species in all of them"
        )
    first = next(iter(wanted.values()))
    return wanted, {species: max(n[species] for n in wanted.values()) for species in first}


def first_points(points, n_points, shared=False):
    """Rows of the points that fewer points would have been: each species, or all if shared, is in the order of choice.

    Parameters
    ----------
    points : EquivariantFeatures
        From :func:`select_sparse_points`.
    n_points : int or dict
        By atomic numbers.
    shared : bool, default=False
        Whether points of all species were chosen together.

    Returns
    -------
    ndarray of int
    """
    if shared and isinstance(n_points, int):
        return np.arange(min(n_points, len(points)))
    rows = {int(species): np.flatnonzero(points.species == species) for species in np.unique(points.species)}
    counts = n_points
    if isinstance(n_points, int):
        counts = _shares(n_points, {species: len(own) for species, own in rows.items()})
    return np.concatenate([own[: counts[species]] for species, own in rows.items()])


def _has_irreps(n_points):
    return isinstance(n_points, dict) and any(isinstance(key, str) and key[:1].isdigit() for key in n_points)


def check_n_points_of_model(n_points):
    """Check numbers of points, which a model may have for each irrep."""
    for number in n_points.values() if _has_irreps(n_points) else [n_points]:
        check_n_points(number)


def _of_species(wanted, species):
    if species not in wanted:
        raise ValueError(
            f"n_points has no entry for the species {chemical_symbols[species]}, only for {symbols(wanted)}"
        )
    return wanted[species]


def _shares(total, available):
    """Equal numbers for all species; what one does not have goes to the others."""
    if total < len(available):
        raise ValueError(f"n_points={total} is less than the number of species, {len(available)}")
    shares: dict[int, int] = {}
    by_count = sorted(available, key=lambda species: (available[species], species))
    for k, species in enumerate(by_count):
        shares[species] = min(available[species], (total - sum(shares.values())) // (len(by_count) - k))
    return shares


class _Store:
    """Environments in the order of choice, in arrays that grow in place.

    Attributes
    ----------
    rows : ndarray of int
        Of the arrays, in the order of choice.
    places : Places or None
        Of the environments in the order of choice.
    """

    def __init__(self, like):
        self.parts, self.labels, self.rows = like.parts, like.labels, np.zeros(0, dtype=np.int64)
        self.blocks = {key: np.empty((0, *block.shape[1:]), block.dtype) for key, block in like.blocks.items()}
        self.species, self.atoms = (np.empty(0, one.dtype) for one in (like.species, like.atoms))
        self.places: Places | None = None

    def scalars(self):
        """Environments with the block 0e alone."""
        rows = self.rows
        return _single_atoms({"0e": self.blocks["0e"][rows]}, self.species[rows], self.atoms[rows])

    def keep(self, order, new):
        """Replace those that are not in the order, which counts the present environments and then the new ones."""
        n_old = len(self.rows)
        stays = order < n_old
        kept = np.empty(len(order), dtype=np.int64)
        kept[stays] = self.rows[order[stays]]
        if len(order) > len(self.species):
            for array in (self.species, self.atoms, *self.blocks.values()):
                array.resize((len(order), *array.shape[1:]), refcheck=False)  # moves no data where the system can
        free = np.setdiff1d(np.arange(len(self.species)), kept[stays])[: np.sum(~stays)]
        kept[~stays], rows = free, order[~stays] - n_old
        for key, block in self.blocks.items():
            block[free] = new.block(key)[rows]
        self.species[free], self.atoms[free] = new.species[rows], new.atoms[rows]
        self.rows = kept
        joined = Places.join([new.places] if n_old == 0 else [self.places, new.places])
        self.places = None if joined is None else joined.pick(order)

    def sorted(self, count):
        """Take the first environments, whose arrays are put into this order in place."""
        rows = self.rows[:count]
        for key, block in self.blocks.items():
            for component in range(block.shape[1]):
                for start in range(0, block.shape[2], _COLUMNS):
                    part = block[:, component, start : start + _COLUMNS]
                    part[: len(rows)] = part[rows]
            self.blocks[key] = block[: len(rows)]
        places = None if self.places is None else self.places.pick(slice(count))
        return _single_atoms(self.blocks, self.species[rows], self.atoms[rows], self.parts, self.labels, places)


def _gathered(pools, counts):
    """Take the first points of each species; pools are emptied on the way, so that nothing is in memory twice."""
    if len(pools) == 1:
        number, pool = pools.popitem()
        return pool.points.sorted(counts[number])
    first, total, start = next(iter(pools.values())).points, sum(counts.values()), 0
    blocks = {key: np.empty((total, *block.shape[1:]), block.dtype) for key, block in first.blocks.items()}
    species, atoms = np.empty(total, first.species.dtype), np.empty(total, first.atoms.dtype)
    places = []
    for number in sorted(pools):
        points, count = pools.pop(number).points, counts[number]
        rows, start = slice(start, start + count), start + count
        chosen = points.rows[:count]
        for key, block in blocks.items():
            block[rows] = points.blocks[key][chosen]
        species[rows], atoms[rows] = points.species[chosen], points.atoms[chosen]
        places.append(None if points.places is None else points.places.pick(slice(count)))
    return _single_atoms(blocks, species, atoms, first.parts, first.labels, Places.join(places))


def _single_atoms(blocks, species, atoms, parts=None, labels=None, places=None):
    """Environments, each a structure of one atom."""
    rows = np.arange(len(species))
    return EquivariantFeatures(blocks, species, rows, atoms, np.ones(len(rows), dtype=np.int64), parts, labels, places)
