r"""What carries a prediction: the error that a model makes when a part of its features is exchanged between atoms.

For the features in which a species of neighbors occurs, a radial function or an angular momentum,

.. math:: I = \mathrm{RMSE}(\text{exchanged}) - \mathrm{RMSE}

(L. Breiman, Mach. Learn. 45, 5 (2001)). Values of a column are exchanged between environments of the same center
species, all columns of the part at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols
from sklearn.utils import Bunch, check_random_state

from eqkernels._parameters import is_integer
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.metrics import frobenius_rmse

_FIELDS = {"species": "species", "radial": "n", "angular": "l"}


def permutation_importance(
    model: Any, X: Any, y: Any, *, by: str = "species", n_repeats: int = 5, random_state: Any = 0
) -> Bunch:
    """Measure how much the neighbors of each species matter, each radial function, or each angular momentum.

    Parameters
    ----------
    model : estimator
        Fitted to frames: a regressor with ``descriptor_``, or a pipeline of a descriptor and a regressor.
    X : sequence of ase.Atoms
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        Labels of X, best of structures that were not fitted.
    by : {"species", "radial", "angular"}, default="species"
        What the features are grouped by. A feature of two factors belongs to the group of each.
    n_repeats : int, default=5
    random_state : int, RandomState or None, default=0

    Returns
    -------
    Bunch
        ``names``; ``importances`` of shape (n_groups, n_repeats), the increase of the RMSE (Frobenius norm, in the
        units of y); their ``importances_mean`` and ``importances_std``; ``rmse``, that without exchange.

    Raises
    ------
    TypeError, ValueError
        If the features of the model are not labelled by species and radial functions, or by is something else.

    See Also
    --------
    sklearn.inspection.permutation_importance : The same for plain arrays.

    Examples
    --------
    >>> from eqkernels import LambdaSOAP, TensorKernelRidge
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> model = TensorKernelRidge(descriptor=LambdaSOAP(cutoff=4.0)).fit(data.frames[:60], data.dipole[:60])
    >>> result = permutation_importance(model, data.frames[60:90], data.dipole[60:90])
    >>> result.names, bool((result.importances_mean > 0).all())
    (['H', 'O'], True)
    """
    if by not in _FIELDS:
        raise ValueError(f"by={by!r} must be one of {', '.join(map(repr, _FIELDS))}")
    if not (is_integer(n_repeats) and n_repeats > 0):
        raise ValueError(f"n_repeats={n_repeats!r} must be a positive integer")
    descriptor, regressor = _parts(model)
    features = descriptor.transform(X)
    groups = _groups(features, _FIELDS[by])
    random, rmse = check_random_state(random_state), frobenius_rmse(y, regressor.predict(features))
    importances = np.array([
        [frobenius_rmse(y, regressor.predict(_exchanged(features, columns, random))) - rmse for _ in range(n_repeats)]
        for columns in groups.values()
    ])  # fmt: skip
    names = [chemical_symbols[value] if by == "species" else f"{_FIELDS[by]}={value}" for value in groups]
    return Bunch(
        names=names, importances=importances, importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1), rmse=rmse,
    )  # fmt: skip


def _parts(model):
    """Descriptor, and a regressor of its features."""
    if hasattr(model, "steps"):
        return model[:-1], model[-1]
    descriptor = getattr(model, "descriptor_", None)
    if descriptor is None:
        raise TypeError("the model must be fitted to frames, with a descriptor such as LambdaSOAP")
    return descriptor, model


def _groups(features, field):
    """Columns of each block by the value of a field of their labels."""
    groups: dict[int, dict[str, np.ndarray]] = {}
    for key, block in features.blocks.items():
        labels = features.labels.get(key)
        names = [] if labels is None else [name for name in labels.dtype.names if name.rpartition("_")[0] == field]
        if not names or len(labels) != block.shape[2]:
            raise TypeError(f"the features of {key} do not say of which {field} they are made: use LambdaSOAP")
        for value in np.unique(np.concatenate([labels[name] for name in names])):
            occurs = np.any([labels[name] == value for name in names], axis=0)
            groups.setdefault(int(value), {})[key] = occurs
    return dict(sorted(groups.items()))


def _exchanged(features: EquivariantFeatures, columns, random):
    """Features of which some columns are those of other environments of the same center species."""
    rows = np.arange(len(features.species))
    for species in np.unique(features.species):
        own = np.flatnonzero(features.species == species)
        rows[own] = random.permutation(own)
    other = features.copy()
    for key, occurs in columns.items():
        block = np.array(other.blocks[key])
        block[:, :, occurs] = block[rows][:, :, occurs]
        other.blocks[key] = block
    return other
