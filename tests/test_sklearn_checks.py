"""scikit-learn's own estimator checks, which speak in 2-D arrays, on our estimators, which take structures.

An adapter turns each row of their random matrices into a small molecule: one atom for every three numbers, moved from a
chain by up to half an Angstrom, so that different rows are quite different molecules. None of the checks is expected to
fail (check_regressors_train sets alpha to 0.01, a strong regularization here, and wants a good fit all the same; models
that choose their regularization rightly find more noise than signal in its labels, and say poor_score).
"""

import numpy as np
from ase import Atoms
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from eqkernels import (
    SOAP,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)


def molecules_of_rows(X):
    n_features = X.shape[1]
    n_atoms = -(-n_features // 3)
    moves = np.zeros((len(X), 3 * n_atoms))
    moves[:, :n_features] = 0.5 * np.tanh(X)
    chain = 1.6 * np.arange(n_atoms + 1)[:, None] * np.array([1.0, 0.2, 0.4])
    species = ([8] + [1, 6, 7, 9] * n_atoms)[: n_atoms + 1]
    frames = []
    for move in moves.reshape(len(X), n_atoms, 3):
        frames.append(Atoms(numbers=species, positions=chain + np.vstack([np.zeros(3), move])))
    return frames


class Rows:
    """The adapter: rows in, everything else as it is."""

    def fit(self, X, y=None, **arguments):
        return super().fit(molecules_of_rows(validate_data(self, X, dtype=float)), y, **arguments)

    def _rows(self, X):
        check_is_fitted(self)
        return molecules_of_rows(validate_data(self, X, dtype=float, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class TransformerOfRows(Rows):
    def transform(self, X):
        return super().transform(self._rows(X))

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


class RegressorOfRows(Rows):
    def predict(self, X, **options):
        return super().predict(self._rows(X), **options)


class SOAPOfRows(TransformerOfRows, SOAP):
    pass


class ChoosingRegressorOfRows(RegressorOfRows):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class TensorKernelRidgeOfRows(ChoosingRegressorOfRows, TensorKernelRidge):
    pass


class TensorGPROfRows(ChoosingRegressorOfRows, TensorGPR):
    pass


class TensorCommitteeOfRows(ChoosingRegressorOfRows, TensorCommittee):
    pass


class TensorRidgeOfRows(ChoosingRegressorOfRows, TensorRidge):
    pass


class SparseTensorGPROfRows(RegressorOfRows, SparseTensorGPR):
    def partial_fit(self, X, y, *arguments, **named):
        X = validate_data(self, X, dtype=float, reset=not hasattr(self, "n_features_in_"))
        return super().partial_fit(molecules_of_rows(X), y, *arguments, **named)


SMALL = {"cutoff": 3.5, "n_max": 4, "l_max": 2, "center_weight": 0.0}
ESTIMATORS = [
    SOAPOfRows(**SMALL, aggregate="mean"),
    TensorKernelRidgeOfRows(descriptor=LambdaSOAP(**SMALL)),
    TensorKernelRidgeOfRows(1e-6, descriptor=LambdaSOAP(**SMALL)),
    TensorGPROfRows(descriptor=LambdaSOAP(**SMALL)),
    TensorCommitteeOfRows(TensorKernelRidge(descriptor=LambdaSOAP(**SMALL)), n_estimators=6),
    TensorRidgeOfRows(descriptor=LambdaSOAP(**SMALL)),
    TensorKernelRidgeOfRows(descriptor=NBodyFeatures(**{**SMALL, "n_max": 2}, n_components=40, n_products=200)),
    SparseTensorGPROfRows(noise=1e-4, descriptor=LambdaSOAP(**SMALL)),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)
