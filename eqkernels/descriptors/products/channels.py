r"""Which products of density coefficients make up each equivariant block, and in which order.

The density coefficients of a center have *channels* q = (species a, radial index n), n fastest, for every l. A
lambda-SOAP block couples two of them,

.. math:: p^{\lambda\mu}_{q l, q' l'} = \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{qlm}\, c_{q'l'm'} ,

with parity :math:`(-1)^{l + l'}`. Exchanging the two factors changes at most the sign, so each unordered pair is kept
once: l < l' with all q, q', and l = l' with q <= q' for even lambda or q < q' for odd lambda, where the pair
(q, q) vanishes. Pairs of different factors get the weight :math:`\sqrt 2`, which leaves scalar products unchanged.

Two factors make no pseudoscalar. The block 0o couples three,

.. math:: t_{q l, q' l', q'' l''} = \sum_{m m' m''} \frac{\langle l m\, l' m' | l'' m'' \rangle}{\sqrt{2 l'' + 1}}\,
          c_{qlm}\, c_{q'l'm'}\, c_{q''l''m''} \quad (l \le l' \le l'',\ l + l' + l''\ \text{odd}) ,

kept once for each unordered triple with the weight :math:`\sqrt 6`; triples that vanish by antisymmetry are left out.

References
----------
A. Grisafi, D. M. Wilkins, G. Csanyi, M. Ceriotti, Phys. Rev. Lett. 120, 036002 (2018), eq. 6 to 8;
M. J. Willatt, F. Musil, M. Ceriotti, J. Chem. Phys. 150, 154110 (2019) for higher products.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from eqkernels.so3 import Irrep


def degree_pairs(l_max, lam, parity):
    """Pairs (l1, l2), l1 <= l2 <= l_max, that couple to degree lam with the parity (+1 or -1)."""
    return [
        (l1, l2)
        for l1 in range(l_max + 1)
        for l2 in range(l1, l_max + 1)
        if abs(l1 - l2) <= lam <= l1 + l2 and (-1) ** (l1 + l2) == parity and not (lam == 0 and l1 != l2)
    ]


def degree_triples(l_max):
    """Triples l1 <= l2 <= l3 <= l_max that couple to a pseudoscalar: odd sum, triangle inequality."""
    return [
        (l1, l2, l3)
        for l1, l2, l3 in itertools.combinations_with_replacement(range(l_max + 1), 3)
        if l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 1
    ]


def pair_channels(n_channels, l1, l2, lam):
    """Channel indices (q1, q2) of the features of one pair of degrees, in the order in which they are stored."""
    if l1 < l2:
        q1, q2 = np.indices((n_channels, n_channels)).reshape(2, -1)
        return q1, q2
    return np.triu_indices(n_channels, k=lam % 2)


def triple_channels(n_channels, l1, l2, l3):
    """Channel indices (q1, q2, q3) of the pseudoscalar features of one triple of degrees."""
    q1, q2, q3 = np.indices((n_channels,) * 3).reshape(3, -1)
    keep = np.ones(len(q1), dtype=bool)
    if l1 == l2:
        keep &= q1 < q2
    if l2 == l3:
        keep &= q2 < q3
    return q1[keep], q2[keep], q3[keep]


@lru_cache(maxsize=512)
def n_features(l_max, n_channels, irrep):
    """Count the features of a block."""
    if str(irrep) == "0o":
        full, half = n_channels**3, n_channels * (n_channels - 1) // 2
        third = half * (n_channels - 2) // 3
        sizes = {3: full, 2: half * n_channels, 1: third}
        return sum(sizes[len(set(degrees))] for degrees in degree_triples(l_max))
    even = irrep.l % 2 == 0
    triangle = n_channels * (n_channels + 1) // 2 if even else n_channels * (n_channels - 1) // 2
    pairs = degree_pairs(l_max, irrep.l, irrep.p)
    return sum(triangle if l1 == l2 else n_channels**2 for l1, l2 in pairs)


def most_triple_channels(l_max, n_channels, most):
    """So many channels at most that their pseudoscalar features are no more than ``most`` (None: any number)."""
    if most is None:
        return n_channels
    pseudoscalar, kept = Irrep(0, -1), n_channels
    while kept > 1 and n_features(l_max, kept, pseudoscalar) > most:
        kept -= 1
    return kept


def feature_layout(l_max, n_channels, irrep, first=0, width=None):
    """Where each pair of channels stands among the features, or among those that contain some of the channels.

    Parameters
    ----------
    l_max, n_channels : int
    irrep : Irrep
        Not 0o.
    first, width : int
        Channels ``first`` .. ``first + width - 1``; all by default.

    Returns
    -------
    bases : ndarray of int, shape (n_pairs * n_channels + 8,)
        For the pair of degrees p, the channels (q, q') stand at ``bases[p * n_channels + q] + q'``; the last 8 elements
        only may be read.
    columns : ndarray of int
        The features that contain one of the channels, ascending.
    """
    width = n_channels if width is None else width
    pairs = degree_pairs(l_max, irrep.l, irrep.p)
    bases, columns, start = np.zeros(len(pairs) * n_channels + 8, dtype=np.int64), [], 0
    kept = 0
    for p, (l1, l2) in enumerate(pairs):
        q1, q2 = pair_channels(n_channels, l1, l2, irrep.l)
        chosen = ((q1 >= first) & (q1 < first + width)) | ((q2 >= first) & (q2 < first + width))
        rows, at = np.unique(q1[chosen], return_index=True)
        # in a row, the chosen channels q' are neighbors: all of them, or those from first on
        bases[p * n_channels + rows] = kept + at - q2[chosen][at]
        columns.append(start + np.flatnonzero(chosen))
        start, kept = start + len(q1), kept + int(chosen.sum())
    return bases, np.concatenate([np.zeros(0, dtype=np.int64), *columns])


@lru_cache(maxsize=32)
def feature_labels(l_max, n_max, species, irrep, extra=()):
    """Species, radial index and degree of the factors of every feature of a block.

    Parameters
    ----------
    l_max, n_max : int
    species : tuple of int
        Atomic numbers of the channels.
    irrep : Irrep
    extra : tuple of (int, int), default=()
        Species and radial index of further channels.

    Returns
    -------
    structured ndarray of shape (n_features,), read-only
        Fields ``species_1, n_1, l_1, species_2, n_2, l_2`` and, for the block 0o, those of a third factor.
    """
    of_channel = np.array([*((one, n) for one in species for n in range(n_max)), *extra], dtype=np.int64).reshape(-1, 2)
    n_channels = len(of_channel)
    if str(irrep) == "0o":
        groups = [(degrees, triple_channels(n_channels, *degrees)) for degrees in degree_triples(l_max)]
        n_factors = 3
    else:
        groups = [
            ((l1, l2), pair_channels(n_channels, l1, l2, irrep.l)) for l1, l2 in degree_pairs(l_max, irrep.l, irrep.p)
        ]
        n_factors = 2
    names = [(f"{what}_{k + 1}", np.int64) for k in range(n_factors) for what in ("species", "n", "l")]
    labels = np.empty(sum(len(channels[0]) for _, channels in groups), dtype=names)
    start = 0
    for degrees, channels in groups:
        rows = slice(start, start + len(channels[0]))
        for k, (l, q) in enumerate(zip(degrees, channels, strict=True), start=1):
            labels[f"species_{k}"][rows] = of_channel[q, 0]
            labels[f"n_{k}"][rows] = of_channel[q, 1]
            labels[f"l_{k}"][rows] = l
        start = rows.stop
    labels.setflags(write=False)
    return labels
