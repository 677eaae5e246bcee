"""Network and closed-form readout in one estimator."""

from __future__ import annotations

import copy
import inspect
import time

import numpy as np

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.parameters import NETWORK_PARAMETERS
from eqkernels.learned.readout import Readout, feature_cotangents, predict_tensors
from eqkernels.learned.targets import of_property
from eqkernels.metrics import tensor_r2


class EquivariantNetworkRegressor(Readout):  # noqa: D101
    __doc__ = f"""Regression of Cartesian tensors on learned equivariant features.

    An :class:`EquivariantNetwork` is trained, then its readout, a ridge of each irrep with the noise found in training,
    is solved on all structures. Predictions are exactly equivariant. Several properties may share a network: labels are
    then a dict, and so are predictions.

    Parameters
    ----------
    {NETWORK_PARAMETERS}

    Attributes
    ----------
    descriptor_ : EquivariantNetwork
        The trained network.
    coef_ : dict of str to ndarray of shape (n_species, n_features, multiplicity)
        Weights of the readout.
    history_, n_iter_ : dict of str to ndarray, int
        Those of the network.
    species_, target_, axial_, per_atom_, baseline_
        As in :class:`TensorRidge`.
    readouts_ : dict of str to TensorRidge
        For labels of several properties, the fitted readout of each, in place of the attributes above.

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

    >>> y = {{"dipole": dipoles, "energy": [-76.4, -56.5, -100.4, -115.7]}}
    >>> model = EquivariantNetworkRegressor(channels=4, max_iter=30, random_state=0).fit(frames, y)
    >>> {{name: values.shape for name, values in model.predict(frames).items()}}
    {{'dipole': (4, 3), 'energy': (4,)}}
    """

    # the readout is that of training: features as they are, from the network
    normalize = False
    descriptor = None

    def __init__(
        self,
        cutoff=6.0,
        *,
        architecture="message_passing",
        channels=16,
        l_max=2,
        n_layers=2,
        products=True,
        body_order=3,
        n_radial=6,
        n_hidden=16,
        target=None,
        baseline="composition",
        aggregate="sum",
        objective="lml",
        solver="auto",
        max_iter=None,
        time_budget=None,
        learning_rate=0.01,
        batch_size=32,
        weight_decay=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=20,
        n_init=1,
        warm_start=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
        handle_unknown="error",
        per_atom=None,
    ):
        self.cutoff = cutoff
        self.architecture = architecture
        self.channels = channels
        self.l_max = l_max
        self.n_layers = n_layers
        self.products = products
        self.body_order = body_order
        self.n_radial = n_radial
        self.n_hidden = n_hidden
        self.target = target
        self.baseline = baseline
        self.aggregate = aggregate
        self.objective = objective
        self.solver = solver
        self.max_iter = max_iter
        self.time_budget = time_budget
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.n_init = n_init
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.handle_unknown = handle_unknown
        self.per_atom = per_atom

    @whole_or_nothing
    def fit(self, X, y, sample_weight=None):
        """Train the network and solve the readout.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Tensors of the structures, or of their atoms (a row of NaN: no label); or a dict of several such
            properties, of which scikit-learn's cross-validation cannot take parts.
        sample_weight : array-like of shape (n_structures,), default=None

        Returns
        -------
        self
        """
        begin = time.process_time()
        X = self._checked_input(X)
        self._train(X, y, sample_weight, "fit", begin)
        return self._solve(X, y, sample_weight)

    @whole_or_nothing
    def partial_fit(self, X, y, sample_weight=None):
        """Go on training with these structures alone, and solve the readout on them.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        self
        """
        begin = time.process_time()
        X = self._checked_input(X)
        self._train(X, y, sample_weight, "partial_fit", begin)
        return self._solve(X, y, sample_weight)

    def predict(self, X):
        """Tensors of structures or of their atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,), or dict of them
            For labels of atoms an array (n_atoms, 3, ..., 3) for each structure.
        """
        check_fitted(self)
        X = self._checked_input(X)
        if isinstance(X, EquivariantFeatures):
            return self._predict_learned(X)
        predicted = predict_tensors(self.descriptor_, self.readouts_ or {"y": self}, self.descriptor_._read(X))
        return predicted if self.readouts_ else predicted["y"]

    def _predict_learned(self, features):
        if not self.readouts_:
            return self._predict_features(features)
        return {name: readout.predict(features) for name, readout in self.readouts_.items()}

    def score(self, X, y, sample_weight=None):
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
        predicted = self.predict(X)
        if not self.readouts_:
            return tensor_r2(y, predicted, sample_weight)
        self._check_names("y", y)
        return float(np.mean([tensor_r2(y[name], predicted[name], sample_weight) for name in predicted]))

    def vjp(self, X, cotangents):
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
        X = self._checked_input(X)
        read = self.descriptor_._read(X)
        if not self.readouts_:
            return self.descriptor_.vjp(X, feature_cotangents(self, read, cotangents))
        self._check_names("cotangents", cotangents)
        total: dict = {}
        for name, readout in self.readouts_.items():
            for irrep, block in feature_cotangents(readout, read, cotangents[name]).items():
                total[irrep] = total[irrep] + block if irrep in total else block
        return self.descriptor_.vjp(X, total)

    @property
    def history_(self):
        """History of the training."""
        return self.descriptor_.history_

    @property
    def n_iter_(self):
        """Iterations of the training."""
        return self.descriptor_.n_iter_

    def _train(self, X, y, sample_weight, method, begin):
        names = inspect.signature(EquivariantNetwork).parameters
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name in names}
        keep = hasattr(self, "descriptor_") and (self.warm_start or method == "partial_fit")
        # a copy, whose arrays training replaces: should it fail, the old network is whole
        network = copy.copy(self.descriptor_).set_params(**parameters) if keep else EquivariantNetwork(**parameters)
        train = network._fit if method == "fit" else network._partial_fit
        self.descriptor_ = train(X, y, sample_weight, begin, readout=True)

    def _solve(self, X, y, sample_weight):
        self.readouts_ = {}
        if not isinstance(y, dict):
            return super().fit(X, y, sample_weight)
        features = self.descriptor_.transform(X)
        for name, labels in y.items():
            target = self._declared_target(name)
            noise = {key.split(":")[-1]: value for key, value in self.descriptor_.noise_.items()
                     if key.rpartition(":")[0] == name}  # fmt: skip
            per_atom = self.descriptor_.of_atoms_[name]
            readout = Readout(noise, False, self.aggregate, target=target, baseline=self.baseline, per_atom=per_atom)
            self.readouts_[name] = readout.fit(features, labels, sample_weight)
        return self

    def _declared_target(self, name="y"):
        """Symmetry that the network found, for a part of the labels may have more of it by chance."""
        declared = of_property(self.target, name)
        return self.descriptor_.formulas_.get(name) if declared is None else declared

    def _check_names(self, what, given):
        if not isinstance(given, dict) or set(given) != set(self.readouts_):
            found = sorted(given) if isinstance(given, dict) else type(given).__name__
            raise ValueError(f"{what} must be a dict of the properties {sorted(self.readouts_)}, got {found}")

    def _check_parameters(self):
        return None  # the network has checked them

    def _features_to_fit(self, X, y):
        return self.descriptor_.transform(X)

    def _alphas(self):
        return {str(irrep): self.descriptor_.noise_[f"y:{irrep}"] for _, irrep in self._tensor().irreps}
