r"""Products in which one density keeps its species and the other is the sum over all of them.

.. math:: p^{\lambda\mu}_{a n l, n' l'} =
          \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{anlm}\, \bar c_{n'l'm'} ,
          \qquad \bar c_{nlm} = \sum_a c_{anlm} .

Their number grows with the number of species, not with its square: the compression mu1nu1 of J. P. Darby, J. R.
Kermode, G. Csanyi, npj Comput. Mater. 8, 166 (2022). (With the sum in both places, their mu2, the species are
embedded in one channel, see :mod:`eqkernels.descriptors.density.compression`.) The two factors are different things,
so that both orders of l and l' are kept, without a weight. The channels of a density are here those of the first
factor, then those of the sum.
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors.products.channels import degree_pairs
from eqkernels.so3 import clebsch_gordan


def ordered_pairs(l_max, irrep):
    """Pairs (l1, l2), in both orders, that couple to an irrep."""
    pairs = degree_pairs(l_max, irrep.l, irrep.p)
    return sorted({*pairs, *((l2, l1) for l1, l2 in pairs)})


def add_traces(first, second, n_kept, l_max, irrep, out):
    """Add the products of the kept channels of one density with the summed ones of another.

    Parameters
    ----------
    first, second : ndarray of shape (n, (l_max + 1)^2, n_kept + n_summed)
    n_kept, l_max : int
    irrep : Irrep
    out : ndarray of shape (n, 2 lambda + 1, n_features)
    """
    start = 0
    for l1, l2 in ordered_pairs(l_max, irrep):
        left, coupled = first[:, l1 * l1 : (l1 + 1) ** 2, :n_kept], _coupled(second, n_kept, l1, l2, irrep.l)
        width = n_kept * coupled.shape[3]
        products = left.transpose(0, 2, 1)[:, None] @ coupled
        out[:, :, start : start + width] += products.reshape(*products.shape[:2], width)
        start += width


def contract_traces(density, n_kept, l_max, irrep, cotangent, out):
    """Add to ``out`` the derivative of sum(cotangent * products) by the density, arguments as in add_traces."""
    start = 0
    for l1, l2 in ordered_pairs(l_max, irrep):
        rows, others = slice(l1 * l1, (l1 + 1) ** 2), slice(l2 * l2, (l2 + 1) ** 2)
        coupled = _coupled(density, n_kept, l1, l2, irrep.l)
        width = n_kept * coupled.shape[3]
        given = cotangent[:, :, start : start + width].reshape(len(density), irrep.dim, n_kept, -1)
        out[:, rows, :n_kept] += (coupled @ given.transpose(0, 1, 3, 2)).sum(axis=1)
        by_coupled = density[:, rows, :n_kept][:, None] @ given  # (i, mu, m1, k)
        coefficients = clebsch_gordan(l1, l2, irrep.l).astype(density.dtype)
        out[:, others, n_kept:] += np.einsum("abm,imak->ibk", coefficients, by_coupled, optimize=True)
        start += width


def trace_labels(l_max, n_max, species, irrep):
    """Labels of the products, the species of the sum being -1."""
    q, k = (part.ravel() for part in np.indices((len(species) * n_max, n_max)))
    names = [(f"{what}_{one}", np.int64) for one in (1, 2) for what in ("species", "n", "l")]
    parts = [np.zeros(0, dtype=names)]
    for l1, l2 in ordered_pairs(l_max, irrep):
        labels = np.empty(len(q), dtype=names)
        labels["species_1"], labels["n_1"], labels["l_1"] = np.take(species, q // n_max), q % n_max, l1
        labels["species_2"], labels["n_2"], labels["l_2"] = -1, k, l2
        parts.append(labels)
    return np.concatenate(parts)


def _coupled(density, n_kept, l1, l2, lam):
    """Coefficients times the summed channels, shape (n, 2 lambda + 1, 2 l1 + 1, n_summed)."""
    coefficients = clebsch_gordan(l1, l2, lam).astype(density.dtype)
    return np.einsum("abm,ibk->imak", coefficients, density[:, l2 * l2 : (l2 + 1) ** 2, n_kept:], optimize=True)
