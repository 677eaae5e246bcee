r"""Fewer features after they are made: some of them, or their principal components, irrep by irrep.

A feature of an irrep has 2 lambda + 1 components that belong together, so that a block (n_centers, 2 lambda + 1,
n_features) counts as n_centers (2 lambda + 1) samples of n_features: whole features are selected or mixed, never
single components, nothing is centered, and what comes out rotates as before.

*Farthest-point sampling* takes the feature farthest from those taken before, as columns of samples; *leverage sampling*
that with the largest weight in the leading right singular vector, and projects it out of the others (the choice of
columns of a CUR decomposition, Imbalzano et al., J. Chem. Phys. 148, 241730 (2018)). *Principal components* are the
leading eigenvectors of the covariance summed over centers and components.

scikit-matter has the same selections for a matrix of samples; it neither takes nor returns blocks, so that each would
have to be reshaped for it, and its part would be smaller than the code around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Choice, check_parameters, is_integer, is_number
from eqkernels._types import Floats, Ints
from eqkernels.descriptors.features import EquivariantFeatures

# A feature whose samples are this small, relative to the largest, after projection is one that adds nothing.
_EXHAUSTED = 1e-12
# Bounds of the power iteration for a singular vector.
_POWER_STEPS, _CONVERGED = 2000, 1e-10


class _BlockTransformer(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class: subclasses implement ``_fit_block``, ``_transform_block``, ``_block_vjp`` and ``_labels``."""

    _constraints: Mapping[str, Any] = {}

    @whole_or_nothing
    def fit(self, X: EquivariantFeatures, y: Any = None) -> _BlockTransformer:
        """Learn from features.

        Parameters
        ----------
        X : EquivariantFeatures
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If X is not EquivariantFeatures.
        ValueError
            If a parameter is out of range, or X has too few features or centers for it.
        """
        check_parameters(self)
        self._check(X)
        if len(X.species) == 0 or not X.blocks:
            raise ValueError("X has no centers, or no blocks: make the features of at least one structure")
        self.learned_ = {key: self._fit_block(key, _samples(block)) for key, block in X.blocks.items()}
        self.n_features_in_ = {key: block.shape[2] for key, block in X.blocks.items()}
        return self

    def transform(self, X: EquivariantFeatures) -> EquivariantFeatures:
        """Reduce the features of every block.

        Parameters
        ----------
        X : EquivariantFeatures
            With the blocks that were there at fit.

        Returns
        -------
        EquivariantFeatures

        Raises
        ------
        ValueError
            If the blocks of X are not those of the fit.
        """
        check_fitted(self)
        self._check(X)
        widths = {key: block.shape[2] for key, block in X.blocks.items()}
        if widths != self.n_features_in_:
            raise ValueError(f"X has blocks with {widths} features, at fit there were {self.n_features_in_}")
        blocks = {key: self._transform_block(block, self.learned_[key]) for key, block in X.blocks.items()}
        labels = {key: self._labels(labels, self.learned_[key]) for key, labels in X.labels.items()}
        rows = X.species, X.structures, X.atoms, X.n_atoms
        return EquivariantFeatures.of_checked(blocks, *rows, labels=labels, positions=X.places)

    def vjp(self, cotangents: Mapping[str, Floats]) -> dict[str, Floats]:
        """Vector-Jacobian product: derivatives of sum(cotangents * transform(X)) by the features X, whatever X is.

        Parameters
        ----------
        cotangents : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_kept)
            For some or all blocks.

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        check_fitted(self)
        return {key: self._block_vjp(key, array, self.learned_[key]) for key, array in cotangents.items()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _check(self, X):
        if not isinstance(X, EquivariantFeatures):
            name = type(X).__name__
            raise TypeError(f"X must be EquivariantFeatures, got {name}: put it behind LambdaSOAP in a pipeline")
        X.check_values()

    def _count(self, name, key, n_features):
        """Find how many features to keep of a block, from a number, a fraction, or a dict of them."""
        count = getattr(self, name)
        if isinstance(count, dict):
            if key not in count:
                raise ValueError(f"{name} has the irreps {sorted(count)}, the features have a block {key}")
            count = count[key]
        if is_integer(count) and count >= 1:
            if count > n_features:
                raise ValueError(f"{name}={count} is more than the {n_features} features of block {key}")
            return int(count)
        if is_number(count) and 0 < count <= 1:
            return max(1, round(count * n_features))
        raise ValueError(f"{name}={count!r} must be a positive integer, a fraction between 0 and 1, or a dict by irrep")


@dataclass(eq=False, repr=False, kw_only=True)
class FeatureSelection(_BlockTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Keep some features of every block.

    Parameters
    ----------
    n_features : int, float or dict of str to them, default=0.1
        How many features, or which fraction of them, to keep of every block, or of each irrep.
    selection : {"fps", "leverage", "random"}, default="fps"
        Farthest-point sampling, leverage sampling, or at random.
    random_state : int, RandomState or None, default=0
        For ``"random"``.

    Attributes
    ----------
    learned_ : dict of str to ndarray of int
        The features kept of each block, in the order in which they were chosen.

    See Also
    --------
    EquivariantPCA : Combinations of all features instead of some of them.

    References
    ----------
    G. Imbalzano, A. Anelli, D. Giofre, S. Klees, J. Behler, M. Ceriotti, J. Chem. Phys. 148, 241730 (2018).

    Examples
    --------
    >>> from ase.build import molecule
    >>> from sklearn.pipeline import make_pipeline
    >>> from eqkernels import LambdaSOAP
    >>> frames = [molecule("H2O"), molecule("CH3OH")]
    >>> make_pipeline(LambdaSOAP(irreps="0e+1o"), FeatureSelection(50)).fit_transform(frames)
    EquivariantFeatures(2 structures, 9 centers, blocks: 0e (9, 1, 50), 1o (9, 3, 50))
    """

    n_features: Any = field(default=0.1, kw_only=False)
    selection: str = "fps"
    random_state: Any = 0

    _constraints = {"selection": Choice("fps", "leverage", "random")}

    def _fit_block(self, key, samples):
        n = self._count("n_features", key, samples.shape[1])
        if self.selection == "random":
            return check_random_state(self.random_state).permutation(samples.shape[1])[:n]
        if self.selection == "leverage":
            return _leverage(samples, n)
        longest = int(np.argmax(np.einsum("sf,sf->f", samples, samples)))
        chosen = farthest_points(samples.T, n, longest, _EXHAUSTED)
        if len(chosen) < n:
            raise ValueError(_exhausted(n, len(chosen), "differ"))
        return chosen

    def _transform_block(self, block, chosen):
        return np.ascontiguousarray(block[:, :, chosen])

    def _block_vjp(self, key, cotangents, chosen):
        out = np.zeros((*cotangents.shape[:2], self.n_features_in_[key]))
        out[:, :, chosen] = cotangents
        return out

    def _labels(self, labels, chosen):
        return labels[chosen]


@dataclass(eq=False, repr=False)
class EquivariantPCA(_BlockTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Principal components of the features of every block, without centering.

    Parameters
    ----------
    n_components : int, float or dict of str to them, default=0.1
        How many components, or which fraction of the number of features, to keep of every block, or of each irrep.

    Attributes
    ----------
    learned_ : dict of str to ndarray of shape (n_features, n_components)
        The components of each block, orthonormal columns.

    See Also
    --------
    FeatureSelection : Some of the features as they are.
    NBodyFeatures : Principal components of features of each body order, as they are made.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from sklearn.pipeline import make_pipeline
    >>> from eqkernels import LambdaSOAP
    >>> frames = [molecule("H2O"), molecule("CH3OH")]
    >>> make_pipeline(LambdaSOAP(irreps="0e+1o"), EquivariantPCA(5)).fit_transform(frames)
    EquivariantFeatures(2 structures, 9 centers, blocks: 0e (9, 1, 5), 1o (9, 3, 5))
    """

    n_components: Any = 0.1

    def _fit_block(self, key, samples):
        n = self._count("n_components", key, samples.shape[1])
        if n > len(samples):
            raise ValueError(
                f"n_components={n} is more than the {len(samples)} samples (centers times components) of block {key}: "
                "fit on more structures, or keep fewer"
            )
        if len(samples) < samples.shape[1]:
            components = np.linalg.svd(samples, full_matrices=False)[2][:n].T
        else:
            components = np.linalg.eigh(samples.T @ samples)[1][:, ::-1][:, :n]
        return components * np.sign(components[np.abs(components).argmax(axis=0), np.arange(n)])

    def _labels(self, labels, components):
        return np.arange(components.shape[1]).astype([("component", np.int64)])

    def _transform_block(self, block, components):
        return block @ components.astype(block.dtype, copy=False)

    def _block_vjp(self, key, cotangents, components):
        return cotangents @ components.T


def _samples(block):
    return block.reshape(-1, block.shape[2]).astype(float, copy=False)


def farthest_points(x: Floats, n: int, start: int, tolerance: float) -> Ints:
    """Rows by farthest-point sampling, each the farthest from those before it.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_columns)
    n : int
    start : int
        The first of them.
    tolerance : float
        Squared distance, relative to the largest squared norm, up to which rows are the same.

    Returns
    -------
    ndarray of int
        Fewer than n if all others are the same as some of them.

    Examples
    --------
    >>> farthest_points(np.array([[0.0], [1.0], [5.0], [5.0]]), 4, 0, 1e-12)
    array([0, 2, 1])
    """
    squares = np.einsum("if,if->i", x, x)
    same = tolerance * squares.max()
    order, distances = [start], squares + squares[start] - 2 * (x @ x[start])
    while len(order) < min(n, len(x)):
        farthest = int(np.argmax(distances))
        if distances[farthest] <= same:
            break
        order.append(farthest)
        np.minimum(distances, squares + squares[farthest] - 2 * (x @ x[farthest]), out=distances)
    return np.array(order[:n], dtype=int)


def _exhausted(n, n_usable, what):
    return f"only {n_usable} features {what} on these structures, {n} were asked for: fit on more, or keep fewer"


def _leverage(samples, n):
    """Columns by their weight in the leading right singular vector, each projected out when it is taken."""
    rest = samples.copy()
    chosen: list[int] = []
    largest = np.einsum("sf,sf->f", rest, rest).max()
    start = np.ones(rest.shape[1])
    while len(chosen) < n:
        vector = start
        for _ in range(_POWER_STEPS):  # power iteration from the last vector, for which few steps often suffice
            before, vector = vector, rest.T @ (rest @ vector)
            norm = np.linalg.norm(vector)
            if norm <= _EXHAUSTED * largest:
                raise ValueError(_exhausted(n, len(chosen), "are independent"))
            vector = vector / norm
            if np.abs(vector - before).max() < _CONVERGED:
                break
        weights = np.abs(vector)
        weights[chosen] = -1.0
        pick = int(np.argmax(weights))
        chosen.append(pick)
        column = rest[:, pick].copy()
        square = column @ column
        if square > _EXHAUSTED**2 * largest:
            rest -= np.outer(column, column @ rest) / square
        start = np.where(weights < 0, 0.0, vector) + 1e-3
    return np.array(chosen)
