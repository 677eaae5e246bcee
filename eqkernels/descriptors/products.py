"""Coupled products of density coefficients: the tables that the loops need, and their call."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eqkernels.descriptors._product_loops import fill_equivariants, fill_pseudoscalars
from eqkernels.descriptors.channels import degree_pairs, degree_triples
from eqkernels.so3 import clebsch_gordan_sparse


def fill_block(density, l_max, irrep, out):
    """Write one block of lambda-SOAP for some centers.

    Parameters
    ----------
    density : ndarray of shape (n_centers, (l_max + 1)^2, n_channels)
    l_max : int
    irrep : Irrep
    out : ndarray of shape (n_centers, 2 lambda + 1, n_features)
        Zeroed, C-contiguous.
    """
    if str(irrep) == "0o":
        fill_pseudoscalars(density, *_triple_couplings(l_max), out[:, 0])
    else:
        fill_equivariants(density, irrep.l, *_pair_couplings(l_max, irrep.l, irrep.p), out)


@lru_cache(maxsize=128)
def _pair_couplings(l_max, lam, parity):
    """Degrees, and Clebsch-Gordan entries weighted by sqrt 2 for the two orders of each pair."""
    pairs = degree_pairs(l_max, lam, parity)
    entries = [clebsch_gordan_sparse(l1, l2, lam) for l1, l2 in pairs]
    return _flat(pairs, 2, entries, [np.sqrt(2.0)] * len(pairs))


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
