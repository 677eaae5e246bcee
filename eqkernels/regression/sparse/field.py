r"""Gaussian process regression of energies in a field, expanded in powers of the field.

.. math:: E(\mathbf R, \mathbf F) = E_0(\mathbf R) + \boldsymbol\mu(\mathbf R) \cdot \mathbf F
          + \tfrac12 \mathbf F \cdot \boldsymbol\alpha(\mathbf R)\, \mathbf F ,

with independent Gaussian processes of the geometry for the energy, the vector and the matrix, whose kernels are those
of tensors. The kernel of two energies is
:math:`k^{0} + w^2\, \mathbf F^T \mathbf k^{1} \mathbf F' + \tfrac14 w^4\, (\mathbf F \mathbf F)^T \mathbf k^{0, 2}
(\mathbf F' \mathbf F')`, w a scale.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, clone
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from eqkernels._defaults import NestedDefaults
from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Choice, Integer, Number, Verbosity, check_parameters
from eqkernels._progress import Meter, say
from eqkernels.descriptors import Derivatives, LambdaSOAP
from eqkernels.kernels import CovariantKernel
from eqkernels.kernels.sparse_points import SELECTIONS
from eqkernels.regression.baseline import BASELINES
from eqkernels.regression.cancellation import KernelSums
from eqkernels.regression.position_derivatives import PositionDerivatives
from eqkernels.regression.sparse.field_problem import FieldProblem
from eqkernels.regression.sparse.field_rows import FORMULAS, FieldRows, powers
from eqkernels.regression.sparse.gpr import SparseTensorGPR, _Auto
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import as_list, atom_counts, read_forces, read_labels
from eqkernels.structures.input_labels import read_input_derivatives
from eqkernels.structures.inputs import InputKind, with_inputs

# Scales that are tried, over the root mean square of the field.
_SCALES = 10.0 ** np.arange(-2.0, 0.75, 0.5)
# Columns of each block with which they are tried.
_COLUMNS = 200


class SparseFieldGPR(PositionDerivatives, NestedDefaults, RegressorMixin):
    r"""Energies in an electric field, with dipole and polarizability as their derivatives.

    One model of energies, of forces and of dipoles, which are derivatives of the same function. It can be fitted to any
    of forces and dipoles beside the energies, and predicts all of them.

    Parameters
    ----------
    n_points : int or sequence of int, default=500
        Number of sparse environments: of each order in the field, e.g. ``(2000, 400, 100)``, or of all.
    field : str, default="electric_field"
        The key of ``atoms.info`` with the field, a polar vector (3,).
    order : {1, 2}, default=2
        Highest power of the field: 1 for a dipole that the field does not change, 2 with a polarizability.
    field_scale : "auto" or float, default="auto"
        Scale w of the powers of the field beside the energy without field, in the unit of 1 / field. ``"auto"``: by the
        marginal likelihood, with a part of the sparse points.
    selection, displacement
        As for :class:`SparseTensorGPR`.
    noise, force_noise, dipole_noise : "auto" or float, default="auto"
        Variances of the noise of energies, and of components of forces and of dipoles, over the signal variance.
        ``"auto"``: by the marginal likelihood.
    kernel, descriptor
        As for :class:`SparseTensorGPR`; of the geometry alone. The descriptor has no ``inputs``.
    baseline : {"composition", "mean", None}, default="composition"
        Of the energies.
    memory, random_state, verbose
        As for :class:`SparseTensorGPR`.

    Attributes
    ----------
    responses_ : list of SparseTensorGPR
        Models of the derivatives of the energy by the field, where it is zero: the energy, the dipole and the
        polarizability (with the sign that the data give to the field). Their predictions have no error bars.
    field_scale_ : float
    noise_ : dict of str to float
        Of ``"energies"``, ``"forces"``, ``"dipoles"``, over the signal variance.
    signal_variance_ : dict of str to float
        Of ``"energies"``, in units of y squared.
    log_marginal_likelihood_value_ : float

    Notes
    -----
    A term of first order in the field has three components for each sparse environment, one of second order six, and
    each of them coefficients of its own. A polynomial kernel of features with the field among them
    (``LambdaSOAP(inputs={"electric_field": "1o"})``) has a single one for all, so that it needs more environments.

    See Also
    --------
    SparseTensorGPR : Models of any inputs, and of more than their second power.
    eqkernels.response.input_derivatives : Derivatives by inputs.

    References
    ----------
    A. S. Christensen, F. A. Faber, O. A. von Lilienfeld, J. Chem. Phys. 150, 064105 (2019): kernels of energies whose
    derivatives by fields are fitted as well.

    Examples
    --------
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP
    >>> from eqkernels.regression import SparseFieldGPR
    >>> frames, random = [molecule("H2O") for _ in range(30)], np.random.default_rng(0)
    >>> for atoms in frames:
    ...     atoms.rattle(0.05, rng=random)
    ...     atoms.info["electric_field"] = random.normal(size=3)
    >>> dipoles = np.array([-0.8 * a.positions[0] + 0.4 * a.positions[1:].sum(axis=0) for a in frames])
    >>> energies = [-d @ a.info["electric_field"] for a, d in zip(frames, dipoles)]
    >>> model = SparseFieldGPR(40, descriptor=LambdaSOAP(n_max=3, l_max=2), random_state=0)
    >>> model = model.fit(frames[:20], energies[:20], dipoles=-dipoles[:20])
    >>> bool(np.abs(model.predict_dipoles(frames[20:]) + dipoles[20:]).max() < 0.02)
    True
    """

    _defaults = {"kernel": CovariantKernel, "descriptor": LambdaSOAP}
    _constraints = {
        "order": Integer(1, 2),
        "field_scale": _Auto(above=0),
        "selection": Choice(*SELECTIONS),
        "displacement": Number(above=0, none=True),
        "noise": _Auto(above=0),
        "force_noise": _Auto(above=0),
        "dipole_noise": _Auto(above=0),
        "baseline": Choice(*BASELINES),
        "memory": Number(above=0),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        n_points=500,
        *,
        field="electric_field",
        order=2,
        field_scale="auto",
        selection="fps",
        displacement=None,
        noise="auto",
        force_noise="auto",
        dipole_noise="auto",
        kernel=None,
        descriptor=None,
        baseline="composition",
        memory=1.0,
        random_state=None,
        verbose=0,
    ):
        self.n_points = n_points
        self.field = field
        self.order = order
        self.field_scale = field_scale
        self.selection = selection
        self.displacement = displacement
        self.noise = noise
        self.force_noise = force_noise
        self.dipole_noise = dipole_noise
        self.kernel = kernel
        self.descriptor = descriptor
        self.baseline = baseline
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    # -- fit --------------------------------------------------------------------------------------------------------

    @whole_or_nothing
    def fit(self, X, y, *, forces=None, dipoles=None):
        """Fit energies, and forces and dipoles as their derivatives.

        Parameters
        ----------
        X : sequence of ase.Atoms
            With the field in ``atoms.info``.
        y : array-like of shape (n_structures,)
            Energies.
        forces : sequence of array-like of shape (n_atoms, 3), default=None
            Minus the derivatives of y by the positions; None, or rows of NaN, where they are not known.
        dipoles : array-like of shape (n_structures, 3), default=None
            Derivatives of y by the field: minus the dipoles where the energy is that of a dipole in the field; None or
            NaN where they are not known.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If structures, labels or parameters are unusable; the message says where and what to do.
        """
        self._check_parameters()
        frames, fields = self._read(X)
        n_atoms = atom_counts(frames)
        energies = read_labels(y, n_atoms, "", False).values
        labels: dict[str, Any] = {"energies": energies}
        if forces is not None:
            labels["forces"] = read_forces(forces, n_atoms)
        if dipoles is not None:
            labels["dipoles"] = _read_dipoles(dipoles, self.field, n_atoms)
        self.responses_ = self._begin(frames, energies)
        rows = FieldRows([one._model() for one in self.responses_], [one.descriptor_ for one in self.responses_])
        meter = Meter(type(self).__name__, len(frames), f"{len(frames)} structures", self.verbose)
        factors = rows.factors(frames, fields, labels, meter.reach)
        with threadpool_limits(1):
            self._solve(rows, factors, labels, np.sqrt(np.mean(fields**2) * 3) or 1.0)
        return self

    def _begin(self, frames, energies):
        """Models of each order, whose sparse points are chosen."""
        models, random = [], check_random_state(self.random_state)
        for order in range(self.order + 1):
            n_points = self.n_points if isinstance(self.n_points, int | np.integer) else self.n_points[order]
            one = SparseTensorGPR(
                n_points, selection=self.selection, displacement=self.displacement, noise=1.0, target=FORMULAS[order],
                kernel=clone(self._object("kernel")), descriptor=clone(self._object("descriptor")),
                baseline=None if order else self.baseline, memory=self.memory, random_state=random.randint(2**31 - 1),
            )  # fmt: skip
            one._check_parameters()
            source = one._source(frames, False)
            y = np.zeros((len(frames), *[3] * order)) if order else energies
            one._begin(one._read_data(source, y, None, (None,) * 4, False, None))
            models.append(one)
        return models

    def _solve(self, rows, factors, labels, size):
        lower = [
            TriangularFactor(rows.models[order].n_kernel(irrep), self.responses_[order].cholesky_[irrep]).dense().T
            for order, irrep, _ in rows.blocks()
        ]
        orders = [order for order, _, _ in rows.blocks()]
        problem = FieldProblem(lower, orders, factors, self._counts(labels), self._noises(), self.responses_[0])
        if isinstance(self.field_scale, str):
            scales = _SCALES / size
            small = problem.reduced(_COLUMNS)
            values = [small.solve(scale)[0].log_likelihood for scale in scales]
            self._say(
                "log likelihoods of the scales "
                + ", ".join(f"{s:.2g}: {v:.6g}" for s, v in zip(scales, values, strict=True))
            )
            self.field_scale_ = float(scales[int(np.argmax(values))])
        else:
            self.field_scale_ = float(self.field_scale)
        solved, coef = problem.solve(self.field_scale_)
        for (order, irrep, _), part in zip(rows.blocks(), coef, strict=True):
            self._set(self.responses_[order], irrep, rows.models[order], part, solved)
        self.noise_ = {"energies": solved.noise, **solved.other_noises}
        self.signal_variance_ = {"energies": float(solved.signal_variance)}
        self.log_marginal_likelihood_value_ = float(solved.log_likelihood)
        noises = ", ".join(f"{kind} {np.sqrt(one * solved.signal_variance):.3g}" for kind, one in self.noise_.items())
        self._say(f"field scale {self.field_scale_:.2g}; noise of {noises}")

    def _set(self, one, irrep, model, coef, solved):
        """Coefficients of an irrep of the model of one order."""
        one.coef_ = {**vars(one).get("coef_", {}), irrep: model.coefficients(irrep, coef)}
        one.cancellation_ = {**vars(one).get("cancellation_", {}), irrep: solved.cancellation}
        one.baseline_ = solved.baseline if model.n_baseline("0e") else None
        one._reset_recalibration()
        one._sums = KernelSums()

    def _counts(self, labels):
        return {kind: one.size if kind == "energies" else one.values.size for kind, one in labels.items()}

    def _noises(self):
        return {"energies": self.noise, "forces": self.force_noise, "dipoles": self.dipole_noise}

    # -- predictions ------------------------------------------------------------------------------------------------

    def predict(self, X):
        """Predict energies in the fields of the structures.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures,)
        """
        frames, fields = self._fitted_frames(X)
        return sum(
            np.sum((one.predict(frames) * powers(fields, order)).reshape(len(frames), -1), axis=1)
            for order, one in enumerate(self.responses_)
        )

    def predict_dipoles(self, X):
        """Predict derivatives of the energies by the field.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures, 3)
            In units of y over those of the field; minus the dipole where the energy is that of a dipole in the field.
        """
        frames, fields = self._fitted_frames(X)
        return sum(
            _contracted(one.predict(frames), powers(fields, order - 1))
            for order, one in enumerate(self.responses_)
            if order
        )

    def predict_polarizabilities(self, X):
        """Predict second derivatives of the energies by the field.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_structures, 3, 3)
            Minus the polarizability where ``predict_dipoles`` is minus the dipole; zero with ``order=1``.
        """
        frames, _ = self._fitted_frames(X)
        return self.responses_[2].predict(frames) if self.order > 1 else np.zeros((len(frames), 3, 3))

    def vjp(self, X, cotangents):
        """Differentiate the sum of cotangents times energies by positions, strain and field.

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : array-like of shape (n_structures,)

        Returns
        -------
        Derivatives
            The field does not change with the strain.
        """
        frames, fields = self._fitted_frames(X)
        weights = np.asarray(cotangents, dtype=float)
        if weights.shape != (len(frames),):
            raise ValueError(f"cotangents has shape {weights.shape}, expected {(len(frames),)}")
        parts = []
        for order, one in enumerate(self.responses_):
            tensors = powers(fields, order)
            parts.append(one.vjp(frames, weights.reshape(-1, *[1] * order) * tensors))
        whole = Derivatives.summed(parts)
        return Derivatives(whole.positions, whole.strain, {self.field: weights[:, None] * self.predict_dipoles(X)})

    def __sklearn_is_fitted__(self):
        return hasattr(self, "signal_variance_")

    def _differentiated(self):
        return CartesianTensor("")

    def _frames(self, X):
        return self._fitted_frames(X)[0]

    def _fitted_frames(self, X):
        check_fitted(self)
        return self._read(X)

    def _read(self, X):
        """Frames and their fields."""
        frames = as_list(X)
        values = with_inputs(frames, {self.field: InputKind("1o")}).inputs[self.field]
        if values.per_atom:
            raise ValueError(
                f"the field {self.field!r} is in atoms.arrays: it must be one of the structure, in atoms.info"
            )
        first = np.cumsum([0, *atom_counts(frames)[:-1]])
        return frames, values.values[first] @ InputKind("1o").matrix

    def _check_parameters(self):
        check_parameters(self)
        if not isinstance(self.n_points, int | np.integer) and len(self.n_points) != self.order + 1:
            raise ValueError(
                f"n_points={self.n_points!r} must be an integer or {self.order + 1} of them, one for each order"
            )
        if getattr(self._object("descriptor"), "inputs", None):
            raise ValueError("the descriptor has inputs: its features must be those of the geometry alone")

    def _say(self, text):
        say(f"{type(self).__name__}: {text}", self.verbose, logging.INFO if self.verbose else logging.DEBUG)


def _contracted(tensors, others):
    """Contract all indices of symmetric tensors (n, 3, ...) but the first with those of others (n, ...)."""
    n = len(tensors)
    return np.einsum("nif,nf->ni", tensors.reshape(n, 3, -1), others.reshape(n, -1))


def _read_dipoles(dipoles, name, n_atoms):
    """Check derivatives by the field, and keep them in x, y, z."""
    kind = InputKind("1o")
    labels = read_input_derivatives(dipoles, name, kind, False, n_atoms)
    return type(labels)(labels.values @ kind.matrix, labels.owners, True)
