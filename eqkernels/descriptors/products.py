"""Coupled products of density coefficients: the tables that the loops need, and their call."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eqkernels.descriptors._product_loops import fill_equivariants, fill_invariants
from eqkernels.descriptors._triple_loops import fill_pseudoscalars
from eqkernels.descriptors.channels import degree_pairs, degree_triples
from eqkernels.so3 import clebsch_gordan_sparse


def fill_block(density, l_max, group, irrep, out):
    """Write one block of lambda-SOAP for some centers.

    Parameters
    ----------
    density : ndarray of shape (n_centers, (l_max + 1)^2, n_channels)
        C-contiguous.
    l_max : int
    group : int
        Number of neighboring channels that vanish together where a species does not occur.
    irrep : Irrep
    out : ndarray of shape (n_centers, 2 lambda + 1, n_features)
        Zeroed, C-contiguous, of the type of the density.
    """
    if str(irrep) == "0e":
        fill_invariants(density, group, out[:, 0])
    elif str(irrep) == "0o":
        fill_pseudoscalars(density, *_triple_couplings(l_max), out[:, 0])
    else:
        fill_equivariants(density, group, irrep.l, *pair_couplings(l_max, irrep.l, irrep.p, density.dtype.char), out)


@lru_cache(maxsize=128)
def pair_couplings(l_max, lam, parity, dtype="d"):
    """Tables of the Clebsch-Gordan coefficients that couple two density coefficients to one irrep.

    Returns
    -------
    degrees : ndarray of int, shape (n_pairs, 2)
        The coupled (l1, l2).
    rows : ndarray of int, shape (n_pairs,)
        Where the rows (mu, m1) of each pair begin.
    sources : ndarray of int, shape (n_rows, 2)
        The components m2 that contribute to a row. There are at most two: abs(m2) is the sum or the difference of
        abs(m1) and abs(mu), and its sign is fixed by theirs.
    values : ndarray of shape (n_rows, 2)
        Their coefficients, times sqrt 2 for the two orders of the factors; 0 where a row has fewer.
    """
    pairs = degree_pairs(l_max, lam, parity)
    sizes = [(2 * lam + 1) * (2 * l1 + 1) for l1, _ in pairs]
    rows = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    sources, values = np.zeros((rows[-1], 2), dtype=np.int64), np.zeros((rows[-1], 2), dtype=dtype)
    for (l1, l2), first in zip(pairs, rows[:-1], strict=True):
        m1, m2, mu, coefficients = clebsch_gordan_sparse(l1, l2, lam)
        row = first + mu * (2 * l1 + 1) + m1
        # entries of a row are neighbors, since they are sorted
        second = np.concatenate([[0], row[1:] == row[:-1]]).astype(int)
        sources[row, second] = m2
        values[row, second] = np.sqrt(2.0) * coefficients
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), rows[:-1].copy(), sources, values


@lru_cache(maxsize=32)
def _triple_couplings(l_max):
    """Degrees, and 3j entries weighted by sqrt 6 for the six orders of each triple."""
    triples = degree_triples(l_max)
    entries = [clebsch_gordan_sparse(*degrees) for degrees in triples]
    return _flat(triples, 3, entries, [np.sqrt(6.0 / (2 * l3 + 1)) for _, _, l3 in triples])


def _flat(degrees, width, entries, weights):
    starts = np.concatenate([[0], np.cumsum([len(entry[0]) for entry in entries])]).astype(np.int64)
    if not entries:
        entries, weights = [(np.zeros(0, np.int64),) * 3 + (np.zeros(0),)], [1.0]
    m1, m2, m3 = (np.concatenate([entry[k] for entry in entries]) for k in range(3))
    values = np.concatenate([weight * entry[3] for weight, entry in zip(weights, entries, strict=True)])
    return np.array(degrees, dtype=np.int64).reshape(-1, width), starts, m1, m2, m3, values
