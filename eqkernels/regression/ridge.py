r"""Linear models of tensors on equivariant features.

Irrep by irrep, the prediction is linear in the features, with the same weights for every component m and a set
of weights for each central species s:

.. math:: y^{\lambda\mu}(A) = \sum_{i \in A} \mathbf w^\lambda_{s_i} \cdot \mathbf p_i^{\lambda\mu} .
"""

from __future__ import annotations

import numpy as np

from eqkernels._parameters import Choice
from eqkernels._ranges import aggregate_rows
from eqkernels.kernels.environments import block_scale, environment_scale
from eqkernels.kernels.vjp import add_norm_vjp
from eqkernels.regression.base import TensorRegressor
from eqkernels.regression.cancellation import NEGLIGIBLE, NOTHING, cancellation, warn_of_nothing
from eqkernels.regression.regularization import Alpha, linear_spectrum, start_search


class TensorRidge(TensorRegressor):
    """Ridge regression of Cartesian tensors, linear in equivariant features: fast to fit and to apply.

    It is the same model as :class:`TensorKernelRidge` with ``CovariantKernel(zeta=1)``, without the kernel:
    cost and size do not grow with the square of the training set.

    Parameters
    ----------
    alpha : "auto", float, dict of str to float or array-like of shape (n_alphas,), default="auto"
        Regularization, as in :class:`TensorKernelRidge`; ``"auto"`` ranges from rounding to a hundred times the mean
        eigenvalue of the kernel that the features stand for.
    normalize : {"invariant", True, False}, default="invariant"
        How the features of every environment are scaled, as in :class:`CovariantKernel`.
    aggregate : {"sum", "mean"}, default="sum"
        Sum over environments, for properties that grow with the structure, or mean, for those that do not.
    descriptor : transformer, default=None
        What turns frames into equivariant features when X is a list of frames; None: ``LambdaSOAP()``.
    target : str or CartesianTensor, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``, None: found from y.
    baseline : {"composition", "mean", None}, model or function of frames, default="composition"
        What is fitted to the scalar (0e) part first, or a model whose predictions are subtracted, as in
        :class:`TensorKernelRidge`.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.

    Attributes
    ----------
    alpha_, best_score_, cv_results_, loo_rmse_, spread_
        As in :class:`TensorKernelRidge`.
    coef_ : dict of str to ndarray of shape (n_species, n_features, multiplicity)
        Weights of each irrep and central species.
    species_ : ndarray of int
        The central species.
    target_, axial_, per_atom_, baseline_, descriptor_
        As in :class:`TensorKernelRidge`.

    Notes
    -----
    The leave-one-out errors of all candidates of alpha follow from one eigendecomposition of a matrix of the number of
    features times central species, or of the number of labelled components, whichever is smaller, see
    :mod:`eqkernels.regression.regularization`. All per-atom targets of a structure are left out together, and the
    baseline is fitted anew without them.

    See Also
    --------
    TensorKernelRidge : Non-linear, more accurate for the same data.
    SparseTensorGPR : Non-linear, for many structures.

    Examples
    --------
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> frames = [molecule(name) for name in ("H2O", "NH3", "HF")]
    >>> dipoles = [[0, 0, -1.85], [0, 0, -1.47], [0, 0, 1.82]]
    >>> model = TensorRidge(alpha=1e-8).fit(frames, dipoles)
    >>> bool(np.abs(model.predict(frames) - dipoles).max() < 1e-4)
    True
    """

    _constraints = {
        **TensorRegressor._constraints,
        "alpha": Alpha(),
        "normalize": Choice("invariant", True, False),
        "aggregate": Choice("sum", "mean"),
    }

    def __init__(
        self,
        alpha="auto",
        *,
        normalize="invariant",
        aggregate="sum",
        descriptor=None,
        target=None,
        baseline="composition",
        per_atom=None,
    ):
        self.alpha = alpha
        self.normalize = normalize
        self.aggregate = aggregate
        self.descriptor = descriptor
        self.target = target
        self.baseline = baseline
        self.per_atom = per_atom

    def _aggregate(self):
        return self.aggregate

    def _fit_irreps(self, features, blocks, weight):
        search, self.coef_, invariants = start_search(self, features, weight), {}, 0.0
        if search is not None and "0e" in features.blocks:
            invariants = self._size_of_terms(features, "0e") / np.sqrt(len(features))
        for irrep, values in blocks.items():
            design, n_species = self._design(features, irrep), len(self.species_)
            if np.linalg.norm(design) <= NOTHING * self._size_of_terms(features, irrep):
                warn_of_nothing(irrep)
                design[:] = 0.0
            alpha = self.alpha_[irrep] if search is None else _chosen_alpha(search, irrep, design, values, invariants)
            self.coef_[irrep] = _solve(design, values, alpha, weight).reshape(n_species, -1, values.shape[2])
        self.__dict__.update({} if search is None else search.results())

    def _predict_irreps(self, features):
        predictions = {}
        for irrep, coef in self.coef_.items():
            block, scale = features.block(irrep), self._scale(features, irrep)
            values = np.zeros((len(features), block.shape[1], coef.shape[2]))
            for species, weights in zip(self.species_, coef, strict=True):
                rows = np.flatnonzero(features.species == species)
                np.add.at(values, features.structures[rows], scale[rows, None, None] * (block[rows] @ weights))
            predictions[irrep] = values
        return predictions

    def _irrep_vjp(self, irrep, rows, cotangents):
        coef, block = self.coef_[irrep], rows.block(irrep)
        # where a block vanishes by symmetry its derivatives need not, so that its norm is that of the invariants
        scale = environment_scale(rows, irrep, self.normalize)
        weights = 1.0 / np.diff(rows.offsets)[rows.structures] if self.aggregate == "mean" else np.ones(len(scale))
        keys = dict.fromkeys([irrep] if self.normalize is False else [irrep, "0e"])
        out = {key: np.zeros(rows.block_shape(key)) for key in keys}
        for species, matrix in zip(self.species_, coef, strict=True):
            here = np.flatnonzero(rows.species == species)
            out[irrep][here] = (weights * scale)[here, None, None] * (cotangents[rows.structures[here]] @ matrix.T)
        along = np.einsum("imf,imf->i", out[irrep], block)
        own_norm = None if self.normalize is False else self.normalize is True and irrep != "0e"
        add_norm_vjp(rows, irrep, np.arange(len(scale)), along, scale, own_norm, out)
        return out

    def _design(self, features, irrep):
        """Aggregate features, one set of columns a central species: (n, 2 lambda + 1, n_species n_features)."""
        block, scale = features.blocks[irrep], self._scale(features, irrep)
        design = np.empty((len(features), block.shape[1], len(self.species_), block.shape[2]))
        for k, species in enumerate(self.species_):
            rows = np.flatnonzero(features.species == species)
            offsets = np.searchsorted(features.structures[rows], np.arange(len(features) + 1))
            design[:, :, k] = aggregate_rows(scale[rows, None, None] * block[rows], offsets, "sum")
        return design.reshape(len(features), block.shape[1], -1)

    def _scale(self, features, irrep):
        """Return what the block of every environment is multiplied by."""
        scale = block_scale(features.blocks[irrep], features.blocks.get("0e"), irrep, self.normalize)
        return scale / np.diff(features.offsets)[features.structures] if self.aggregate == "mean" else scale

    def _size_of_terms(self, features, irrep):
        """Norm that the design would have at most if no environments cancelled."""
        block = features.blocks[irrep]
        norms = self._scale(features, irrep) * np.sqrt(np.einsum("idf,idf->i", block, block))
        return np.linalg.norm(np.bincount(features.structures, norms, minlength=len(features)))


def _chosen_alpha(search, irrep, design, values, invariants):
    """Alpha of an irrep, with which rounding of features as of invariants of this size is harmless."""
    if search.weight is not None:
        design = design[search.kept]
    spectrum = linear_spectrum(design, values[search.kept], search.weight)
    size, spread = np.linalg.norm(design) / np.sqrt(len(design)), np.linalg.norm(np.std(values[search.kept], axis=0))

    def is_stable(alpha):
        return cancellation(spectrum.coefficients(alpha), max(size, invariants), spread) <= NEGLIGIBLE

    return search.choose(irrep, spectrum, values, is_stable)


def _solve(design, values, alpha, weight):
    """Coefficients (n_columns, multiplicity) of a design (n, d, n_columns)."""
    from sklearn.linear_model import Ridge  # imported where used: it costs as much as all of eqkernels

    n, d, n_columns = design.shape
    # the dual problem is the smaller one when features outnumber labels; sklearn chooses
    model = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky" if alpha > 0 else "svd")
    weight = None if weight is None else np.repeat(weight, d)
    model.fit(design.reshape(-1, n_columns), values.reshape(n * d, -1), weight)
    return model.coef_.reshape(values.shape[2], -1).T
