"""Network and closed-form readout in one estimator."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, clone
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Flag, check_parameters
from eqkernels.descriptors import Derivatives, EquivariantFeatures
from eqkernels.learned.derivative_readout import adopt, known_values
from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.parameters import NetworkParameters
from eqkernels.learned.readout import Readout, predict_tensors
from eqkernels.learned.targets import of_property
from eqkernels.learned.trained import TrainedNetwork
from eqkernels.metrics import tensor_r2
from eqkernels.regression.baseline_values import baseline_vjp
from eqkernels.regression.covariance import scale_of_irreps
from eqkernels.regression.delta import Baseline, DeltaLearning, is_model, scalar_baseline
from eqkernels.regression.fitted_targets import target_of
from eqkernels.regression.position_derivatives import PositionDerivatives
from eqkernels.regression.summary import Summarized
from eqkernels.regression.uncertainty import held_out
from eqkernels.structures import StructureBatch, atom_counts, is_by_structure, read_labels

# Part of the structures that error bars are scaled by, and how many there are at least and at most.
_HELD_BACK, _FEWEST_HELD, _MOST_HELD = 0.15, 10, 1000
# Part of the errors that are to lie within one error bar: a few structures that are unlike all others do not decide.
_WITHIN = 0.6827


@dataclass(eq=False, repr=False, kw_only=True)
class EquivariantNetworkRegressor(DeltaLearning, PositionDerivatives, Summarized, RegressorMixin, NetworkParameters):
    """Regression of Cartesian tensors on learned equivariant features.

    An :class:`EquivariantNetwork` is trained, then its readout, a ridge of each irrep with the noise found in training,
    is solved on all structures. Predictions are exactly equivariant. Several properties may share a network: labels are
    then a dict, and so are predictions.

    Parameters
    ----------
    cutoff, architecture, ..., per_atom
        As in :class:`EquivariantNetwork`, which has ``irreps`` besides: here they are those of the target. ``baseline``
        may also be a model or a function of frames, for y of one property, as in :class:`TensorKernelRidge`.
    error_bars : bool, default=False
        Whether predictions have error bars, those of the readout as a Gaussian process. Features are then learned from
        85 % of the structures, and the error bars of each irrep are scaled by the errors on the others, which are at
        most 1000; the readout is solved on all in the end.

    Attributes
    ----------
    descriptor_ : EquivariantNetwork
        The trained network.
    readouts_ : dict of str to Readout
        The fitted readout of each property by its name, ``"y"`` if y is no dict, with the attributes ``coef_``,
        ``species_``, ``target_``, ``axial_``, ``per_atom_`` and ``baseline_`` of :class:`TensorRidge`.
    several_ : bool
        Whether y was a dict of properties, and predictions are.
    history_, n_iter_ : dict of str to ndarray, int
        Those of the network.

    See Also
    --------
    EquivariantNetwork : The transformer alone.

    Examples
    --------
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> frames = [molecule(name) for name in ("H2O", "NH3", "HF", "CH3OH")]
    >>> dipoles = np.array([[0, 0, -1.85], [0, 0, -1.47], [0, 0, 1.82], [-1.4, 0.9, 0]])
    >>> model = EquivariantNetworkRegressor(channels=4, max_iter=30, random_state=0).fit(frames, dipoles)
    >>> bool(np.abs(model.predict(frames) - dipoles).max() < 0.05)
    True

    Dipole and energy from one network:

    >>> y = {"dipole": dipoles, "energy": [-76.4, -56.5, -100.4, -115.7]}
    >>> model = EquivariantNetworkRegressor(channels=4, max_iter=30, random_state=0).fit(frames, y)
    >>> {name: values.shape for name, values in model.predict(frames).items()}
    {'dipole': (4, 3), 'energy': (4,)}
    """

    error_bars: bool = False

    _constraints = {**NetworkParameters._constraints, "error_bars": Flag(), "baseline": Baseline()}

    @whole_or_nothing
    def fit(
        self,
        X: Iterable[Atoms] | StructureBatch,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        forces: Any = None,
        stress: Any = None,
        derivatives: Any = None,
    ) -> EquivariantNetworkRegressor:
        """Train the network and solve the readout, or with labels of derivatives train both.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Tensors of the structures, or of their atoms (a row of NaN: no label); or a dict of several such
            properties, of which scikit-learn's cross-validation cannot take parts. With forces, stress or derivatives,
            those of one property of structures; some may be without, NaN or None, and if all are, y is None.
        sample_weight : array-like of shape (n_structures,), default=None
        forces : sequence of array-like of shape (n_atoms, 3), default=None
            Minus the derivatives of a scalar y by the positions, for each structure; None, or rows of NaN, where
            they are not known.
        stress : array-like of shape (n_structures, 3, 3) or (n_structures, 6), default=None
            Derivatives of y by the strain over the volume, as ``Atoms.get_stress()`` gives them; NaN where not known.
        derivatives : sequence of array-like of shape (n_atoms, 3, ..., 3), default=None
            Derivatives of y by the positions, ``[a, i, ..., j]`` that of component i ... by coordinate j of atom a; as
            for :meth:`SparseTensorGPR.fit`. They take as long as forces times the number of components of y.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If parameters, frames or labels are unusable; the message says which structure it is.
        """
        return self._fit(X, y, sample_weight, False, (forces, stress, derivatives))

    @whole_or_nothing
    def partial_fit(
        self, X: Iterable[Atoms] | StructureBatch, y: Any, sample_weight: ArrayLike | None = None
    ) -> EquivariantNetworkRegressor:
        """Go on training with these structures alone, and solve the readout on them.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, resumes=True)

    def predict(self, X: Iterable[Atoms] | StructureBatch | EquivariantFeatures, return_std: bool = False) -> Any:
        """Tensors of structures or of their atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms
        return_std : bool, default=False
            Return the standard deviation of every component too, of a model that was fitted with ``error_bars=True``.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,), or dict of them
            For per-atom targets an array (n_atoms, 3, ..., 3) for each structure.
        std : as y
            With ``return_std``.
        """
        check_fitted(self)
        X, frames = self._with_frames(X)
        if return_std:
            mean, std = self._predict_with_std(X)
            return self._plus_baseline(frames, mean), std
        if isinstance(X, EquivariantFeatures):
            predicted = {name: readout.predict(X) for name, readout in self.readouts_.items()}
        else:
            network = TrainedNetwork.of(self.descriptor_)
            predicted = predict_tensors(network, self.readouts_, network.read(X))
        return predicted if self.several_ else self._plus_baseline(frames, predicted["y"])

    def score(
        self, X: Iterable[Atoms] | StructureBatch | EquivariantFeatures, y: Any, sample_weight: ArrayLike | None = None
    ) -> float:
        """R2 as of :class:`TensorRidge`; of several properties, its mean.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like, or dict of them
        sample_weight : array-like of shape (n_structures,), default=None

        Returns
        -------
        float
        """
        of_properties, predictions = self._by_name("y", y), self.predict(X)
        predicted = predictions if isinstance(predictions, dict) else {"y": predictions}
        scores = [tensor_r2(of_properties[name], predicted[name], sample_weight) for name in predicted]
        return float(np.mean(scores))

    def vjp(self, X: Iterable[Atoms] | StructureBatch, cotangents: Any) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * predict(X)) by positions and strain.

        Forces of a model of energies are minus the derivatives for cotangents of one.

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : array-like, or list of array-like, or dict of them
            Of the shape of ``predict(X)``.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.

        Examples
        --------
        >>> from ase.build import molecule
        >>> frames = [molecule("H2O"), molecule("H2O"), molecule("NH3")]
        >>> frames[1].positions[1] += 0.1
        >>> model = EquivariantNetworkRegressor(channels=4, max_iter=10, random_state=0)
        >>> model = model.fit(frames, [-14.2, -14.1, -19.5])
        >>> forces = -model.vjp(frames[:1], [1.0]).positions
        >>> forces.shape
        (3, 3)
        """
        check_fitted(self)
        X, frames = self._with_frames(X)
        network = TrainedNetwork.of(self.descriptor_)
        read = network.read(X)
        total: dict[str, np.ndarray] = {}
        for name, vectors in self._by_name("cotangents", cotangents).items():
            for irrep, block in self.readouts_[name].vjp(read, vectors).items():
                total[irrep] = total[irrep] + block if irrep in total else block
        own = network.vjp(read, total)
        return own if frames is None else Derivatives.summed([own, self._baseline_vjp(frames, cotangents)])

    def _vjps(self, frames, cotangents):
        """Without the baseline."""
        network = TrainedNetwork.of(self.descriptor_)
        read = network.read(frames)
        for one in cotangents:
            yield network.vjp(read, self.readouts_["y"].vjp(read, one))

    def _baseline_vjp(self, frames, cotangents):
        tensor, per_atom = target_of(self), self.readouts_["y"].per_atom_
        return baseline_vjp(self.baseline_model_, frames, cotangents, tensor.shape, per_atom)

    def _frames(self, X):
        check_fitted(self)
        if isinstance(X, EquivariantFeatures):
            raise TypeError("derivatives by positions need frames, not features")
        return self.descriptor_._batch(X)

    def _differentiated(self):
        if self.several_:
            raise ValueError(
                f"the model has several properties, {', '.join(self.readouts_)}: take vjp, with cotangents of each"
            )
        return self.readouts_["y"]._differentiated()

    @property
    def history_(self) -> dict[str, NDArray[np.float64]]:
        """History of the training."""
        return self.descriptor_.history_

    @property
    def n_iter_(self) -> int:
        """Iterations of the training."""
        return self.descriptor_.n_iter_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _fit(self, X, y, sample_weight, resumes, others=(None, None, None)):
        differentiated = any(one is not None for one in others)
        if y is None and not differentiated:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        begin = time.process_time()
        check_parameters(self, self._input_relations())
        if differentiated and is_model(self.baseline):
            raise ValueError(
                "a network learns forces, stress and derivatives with a baseline of the composition alone: subtract "
                "those of the model, and its predictions, from the labels, and fit with baseline='composition'"
            )
        X, frames = self._with_frames(X)
        batch = self._batch(X)
        y, tensor = self._delta(batch, frames, y, sample_weight, resumes)
        network = self._network(resumes, tensor)
        train: Any = network._partial_fit if resumes else partial(network._fit, others=others)
        to_learn: tuple = (batch, y, sample_weight)
        if self.error_bars:
            parts = held_back(batch, self.random_state)
            weight = None if sample_weight is None else np.asarray(sample_weight)[parts[0]]
            several = {name: _some(one, parts[0]) for name, one in y.items()} if isinstance(y, dict) else None
            to_learn = batch[parts[0]], _some(y, parts[0]) if several is None else several, weight
            if differentiated:
                some = [None if one is None else [one[k] for k in parts[0]] for one in others]
                train = partial(network._fit, others=some)
        self.descriptor_ = train(*to_learn, begin, readout=True)
        features, self.several_ = self.descriptor_.transform(batch), isinstance(y, dict)
        properties = y if self.several_ else {"y": y}
        if differentiated:
            self.readouts_ = {"y": adopt(self._readout("y"), self.descriptor_, features, y, sample_weight)}
        else:
            self.readouts_ = {
                name: self._readout(name).fit(features, labels, sample_weight) for name, labels in properties.items()
            }
        if self.error_bars:
            for name, labels in properties.items():
                self._scale_error_bars(self.readouts_[name], features, labels, sample_weight, *parts)
        self.n_structures_fit_ = batch.n_structures
        return self

    def _delta(self, batch, frames, y, sample_weight, resumes):
        """Labels minus those of a baseline that is a model, and their tensor; None where there is no such baseline."""
        if not is_model(self.baseline):
            self.__dict__.pop("baseline_model_", None)
            return y, None
        if isinstance(y, dict):
            raise TypeError("y is a dict: a baseline that is a model is that of one property, fit a network for each")
        declared: Any = self.target, self.per_atom
        labels = read_labels(y, atom_counts(batch), *declared)
        if not resumes or self.baseline_model_ is None:
            self._fit_baseline_model(frames, labels, sample_weight)
        return self._minus_baseline(frames, labels).given(), labels.tensor

    def _scale_error_bars(self, readout, features, labels, sample_weight, learned, held):
        """Scale by errors on structures that neither features nor readout have learned from."""
        weight = None if sample_weight is None else np.asarray(sample_weight)[learned]
        part = clone(readout).set_params(target=readout._tensor(), per_atom=readout.per_atom_)
        if hasattr(self.descriptor_, "readout_"):
            adopt(part, self.descriptor_, features[learned], _some(labels, learned), weight)
            held = np.intersect1d(held, known_values(labels))
        else:
            part.fit(features[learned], _some(labels, learned), weight)
        mean, cov = part.predict(features[held], return_cov=True)
        tensor = readout._tensor()
        errors = held_out(_some(labels, held), mean, cov, tensor.rank)
        readout.recalibration_ = scale_of_irreps(tensor, errors[0], errors[1], _WITHIN)
        # that of all labels has the larger residuals of those that were held back in it, which the factor makes up for
        readout.variance_ = part.variance_

    def _predict_with_std(self, X):
        if not self.error_bars:
            raise ValueError("the network has no error bars: fit it with error_bars=True")
        features = X if isinstance(X, EquivariantFeatures) else self.descriptor_.transform(X)
        pairs = {name: readout.predict(features, return_std=True) for name, readout in self.readouts_.items()}
        if not self.several_:
            return pairs["y"]
        return tuple({name: pair[k] for name, pair in pairs.items()} for k in range(2))

    def _network(self, resumes, tensor=None):
        """Make the network to train: new, or a copy whose arrays training replaces, which leaves the old one whole."""
        parameters = {name: getattr(self, name) for name in NetworkParameters._get_param_names()}
        parameters["baseline"] = scalar_baseline(self.baseline)
        parameters["target"] = self.target if tensor is None else tensor
        if hasattr(self, "descriptor_") and (self.warm_start or resumes):
            return copy.copy(self.descriptor_).set_params(**parameters)
        return EquivariantNetwork(**parameters)

    def _readout(self, name):
        """Readout of a property with the noise that training found."""
        network = self.descriptor_
        target = of_property(self.target, name)
        if target is None:  # all labels of training have this symmetry, some of them may have more by chance
            target = network.formulas_[name]
        noise = {key.rpartition(":")[2]: value for key, value in network.noise_.items()
                 if key.rpartition(":")[0] == name}  # fmt: skip
        kind = {
            "target": target,
            "per_atom": network.of_atoms_[name],
            "n_channels": getattr(network, "species_channels_", 0),
        }
        kind["answers_unknown"], kind["error_bars"] = self.handle_unknown == "embed", self.error_bars
        return Readout(noise, aggregate=self.aggregate, baseline=scalar_baseline(self.baseline), **kind)

    def _by_name(self, what, values):
        """Values of each property by its name."""
        if not self.several_:
            return {"y": values}
        if not isinstance(values, dict) or set(values) != set(self.readouts_):
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"{what} must be a dict of the properties {sorted(self.readouts_)}, got {found}")
        return {name: values[name] for name in self.readouts_}


def held_back(batch, random_state):
    """Structures to learn from and those that are held back, all of whose species are among the others'.

    Parameters
    ----------
    batch : StructureBatch
    random_state : int, RandomState or None

    Returns
    -------
    learned, held : ndarray of int
    """
    n = batch.n_structures
    wanted = int(np.clip(_HELD_BACK * n, _FEWEST_HELD, _MOST_HELD))
    if n < 2 * _FEWEST_HELD:
        raise ValueError(f"error_bars=True needs {2 * _FEWEST_HELD} structures at least, there are {n}")
    species = [np.unique(batch.numbers[a:b]) for a, b in pairwise(batch.offsets)]
    left = np.bincount(np.concatenate(species))
    held: list[int] = []
    for k in check_random_state(random_state).permutation(n):
        if len(held) < wanted and (left[species[k]] > 1).all():
            held.append(k)
            left[species[k]] -= 1
    if len(held) < 2:
        raise ValueError("error_bars=True: every structure has a species of its own, none can be held back")
    return np.setdiff1d(np.arange(n), held), np.sort(held)


def _some(values, rows):
    """Labels of some structures."""
    if values is None:
        return None
    if isinstance(values, list | tuple) or is_by_structure(values):
        return [values[k] for k in rows]
    return np.asarray(values)[rows]
