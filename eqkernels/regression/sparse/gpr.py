r"""Gaussian process regression of tensors on representative environments: error bars for data of any size.

A tensor is modelled by its kernels with M sparse environments, :math:`y^\lambda(A) = \sum_m k^\lambda(A, m)\, c_m`,
instead of those with all N training structures. Structures are read block by block, folded into one triangular factor
of M (2 lambda + 1) columns for each irrep (:mod:`eqkernels.regression.sparse.triangular`) and dropped; what is left to
do does not depend on N (:mod:`eqkernels.regression.sparse.solve`).
"""

from __future__ import annotations

import logging

import numpy as np
from ase.data import chemical_symbols
from sklearn.base import clone
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from eqkernels._fitted import check_unchanged, whole_or_nothing
from eqkernels._parameters import Choice, Jobs, Number, Verbosity, check_parameters
from eqkernels._progress import Meter, say
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.streamed_gradients import check_differentiable
from eqkernels.kernels import CovariantKernel, TensorKernel
from eqkernels.kernels.environments import evenly
from eqkernels.kernels.sparse_points import SELECTIONS, check_n_points_of_model
from eqkernels.kernels.wigner_kernel import couples_densities
from eqkernels.regression.base import _check_weight, checked_features
from eqkernels.regression.cancellation import KernelSums
from eqkernels.regression.delta import Baseline, is_model
from eqkernels.regression.fitted_targets import declare_target
from eqkernels.regression.position_derivatives import check_scalar
from eqkernels.regression.sparse.choice import SparseChoice
from eqkernels.regression.sparse.derivative_weights import FEWEST_TENSORS, choose_by_derivatives
from eqkernels.regression.sparse.derivatives import check_derivatives_possible
from eqkernels.regression.sparse.element_charges import IRREP, contrasts, has_element_charges
from eqkernels.regression.sparse.fold import TOTALS, FoldJob
from eqkernels.regression.sparse.input_rows import is_by_input, read_all_input_derivatives
from eqkernels.regression.sparse.map_reduce import map_reduce, map_reduce_on_cluster
from eqkernels.regression.sparse.partial_labels import (
    minus_baseline_derivatives,
    read_all_derivatives,
    read_partial_labels,
)
from eqkernels.regression.sparse.parts import Parts, TrainingData, baseline_ridge
from eqkernels.regression.sparse.prediction import SparsePredictor
from eqkernels.regression.sparse.solutions import solve_irreps
from eqkernels.regression.sparse.source import Source
from eqkernels.regression.weights import MOST_STRUCTURES, choose_weights, open_weights
from eqkernels.structures import read_labels

# Parameters that are used anew whenever the coefficients are solved.
_FREE_BETWEEN_PARTS = ("noise", "force_noise", "stress_noise", "derivative_noise", "input_noise")


class _Auto(Number):
    """A positive number, or the word for finding it."""

    def problem(self, value):
        if isinstance(value, str):
            return None if value == "auto" else "must be 'auto' or a positive number"
        return super().problem(value)


class SparseTensorGPR(SparsePredictor):
    r"""Sparse Gaussian process for Cartesian tensors, exactly equivariant, with error bars.

    Its mean is that of the subset of regressors; its error bars see how unlike the sparse environments a structure is,
    see :mod:`eqkernels.regression.sparse.covariance`. With all environments as sparse points it is the exact Gaussian
    process.

    Parameters
    ----------
    n_points : int or dict, default=500
        Number of sparse environments, in all or by species, see :func:`select_sparse_points`, for all irreps or for
        each, e.g. ``{"0e": 1000, "2e": 200}``; irreps share them, those with fewer have the first ones. More are more
        accurate; a fit takes a time proportional to the number of labels times their square, and memory for two to
        four triangular matrices of n_points (2 lambda + 1) rows, and two more each for forces and for stress.
    selection : {"fps", "leverage", "random"}, default="fps"
        How they are chosen: by farthest-point sampling, with probabilities proportional to their leverage, or all with
        the same.
    displacement : float, default=None
        If stated, sparse environments are chosen among those of the structures and of two copies of each, whose atoms
        are displaced by Gaussian random vectors of this standard deviation in each direction (and inputs of the
        descriptor by such of their root mean square). A fit to forces has three labels for each environment, and more
        basis functions than environments make better use of them: where most environments are sparse points already,
        try 0.05 Angstrom and more points. None: of the structures alone.
    noise : "auto", float, array-like of shape (n_irreps,) or dict of str to float, default="auto"
        Variance of the noise of the labels in units of the signal variance, as ``noise`` of :class:`TensorGPR` and
        ``alpha`` of :class:`TensorKernelRidge`: what is added to the diagonal of the kernel matrix, 1e-12 at least.
        In units of y squared, a component has noise of the variance ``noise_`` times ``signal_variance_``. ``"auto"``
        takes the largest marginal likelihood of each irrep.
    force_noise, stress_noise : "auto" or float, default="auto"
        The same of components of forces and of stress: squares of their errors over the signal variance, so that the
        units are those of positions to the power -2 and -6. ``"auto"``: by the marginal likelihood, with ``noise``.
    derivative_noise : "auto", float, array-like of shape (n_irreps,) or dict of str to float, default="auto"
        The same of derivatives of tensors, for each irrep of the tensor.
    input_noise : "auto" or float, default="auto"
        The same of components of derivatives of a scalar by inputs.
    kernel : TensorKernel, default=None
        Covariant kernel; None: ``CovariantKernel()``. Its ``aggregate`` makes the target extensive or intensive.
    aggregate : {"sum", "mean"}, default=None
        Sum over environments, for properties that grow with the structure, or mean, for those that do not; None: what
        the kernel says, which is the sum if it does not say otherwise.
    descriptor : transformer, default=None
        What makes equivariant features when X are frames; None: ``LambdaSOAP()``.
    target : str or CartesianTensor, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``, see :class:`CartesianTensor` for
        the names; None: found from y.
    baseline : {"composition", "mean", None}, model or function of frames, default="composition"
        What is fitted to the scalar (0e) part first, or a model whose predictions (forces, stress and derivatives too)
        are subtracted, as in :class:`TensorKernelRidge`. ``"composition"`` of dipoles with derivatives is a charge of
        each element, see :doc:`derivatives </derivatives>`.
    memory : float, default=1.0
        GiB that the sparse points and the features and kernels of one block may take in each of the ``n_jobs``, on top
        of the program itself and the triangular matrices of n_points rows. More points, or a larger structure, are
        refused before the work begins. It bounds from how many environments at once the points are chosen, too, so
        that with another memory they may be others.
    random_state : int, RandomState instance or None, default=None
        Chooses the sparse environments. The same integer gives the same bits, whatever ``n_jobs``.
    n_jobs : int, default=None
        Parts of the data that are worked on at once, with joblib's meaning, and its ``parallel_config``, e.g. for Dask.
    verbose : int, default=0
        If positive, sizes and progress are reported on standard error.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.

    Attributes
    ----------
    kernel_ : dict of str to TensorKernel
        Kernel of each irrep (the same one), if it had weights left open (``ChargeKernel(weight="auto")``), with those
        chosen at the first fit.
    points_ : dict
        Sparse environments (arguments of :class:`EquivariantFeatures`).
    coef_ : dict of str to ndarray of shape (n_points (2 lambda + 1), multiplicity)
        Coefficient of each component of each sparse environment.
    cancellation_ : dict of str to float
        Rounding that kernels in working precision would leave in a prediction, as a part of the spread of the labels;
        above 5e-10, predictions are made in higher precision, as by :class:`TensorKernelRidge`.
    pivots_, cholesky_, damped_, unexplained_ : dict of str to ndarray or float
        What covariances are made of, see :mod:`eqkernels.regression.sparse.covariance`.
    noise_, signal_variance_ : dict of str to float
        Noise in units of the signal variance, and the signal variance in units of y squared, of each irrep; noise also
        of ``"0e forces"``, ``"0e stress"`` and, for an input, ``"0e by electric_field"`` where these are fitted.
    log_marginal_likelihood_value_ : float
        Of the labels minus the baseline, summed over irreps.
    environment_size_ : int
        Features of one environment, in all irreps and components that the descriptor makes.
    label_totals_ : dict of str to ndarray of shape (3,)
        Of each irrep, the number of independent labels so far, in which symmetry-equivalent atoms count as one and
        components that symmetry forbids as none, the sum of their weights and that of the logarithms of the weights.
    derivative_totals_ : dict of str to ndarray of shape (3,)
        The same for all components of ``"forces"``, ``"stress"`` and derivatives by inputs, ``"by electric_field"``.
    recalibration_ : dict of str to float
        Factors of the standard deviations, 1 until ``recalibrate``.
    element_charges_ : ndarray of shape (n_species,), or None
        Charges of the elements ``species_`` of a fit to derivatives of dipoles, with the sum 0: what all have in common
        makes no dipole.
    baseline_ridge_ : float
        Ridge of the contributions of the elements, chosen at the first fit.
    factors_ : dict of str to ndarray
        Triangular factor of each irrep, of ``"0e forces"`` and ``"0e stress"``, which ``partial_fit`` goes on with.
    species_, target_, axial_, per_atom_, baseline_, descriptor_
        As in :class:`TensorKernelRidge`.

    Notes
    -----
    Signal variances are those of the largest marginal likelihood, in closed form.

    Forces and stress of a scalar, the energy, are labels of the same coefficients,
    :math:`\mathbf f_j = -\sum_m \partial k(A, m) / \partial \mathbf r_j\, c_m` and
    :math:`\sigma = V^{-1} \sum_m \partial k(A, m) / \partial \epsilon\, c_m`, which minimize

    .. math:: \frac{|y - K c|^2}{\gamma} + \frac{|f - K_f c|^2}{\gamma_f}
              + \frac{|\sigma - K_\sigma c|^2}{\gamma_\sigma} + c^T K_{MM}\, c

    with their variances of noise (Bartok 2015). They need a descriptor with derivatives, e.g. :class:`LambdaSOAP`.
    Derivatives of the energy by inputs are further rows of this kind (:mod:`eqkernels.regression.sparse.input_rows`).
    The baseline is then that of the largest likelihood of all labels. With forces, the energy noise of ``noise="auto"``
    is bounded by a tenth of the energies' spread, or maximum likelihood explains the few energies as noise.

    See Also
    --------
    TensorGPR : The exact Gaussian process, for a few thousand labels.
    TensorKernelRidge : Predictions without error bars.
    SparseFieldGPR : Energies in a field, expanded in its powers.
    select_sparse_points : The choice of sparse environments alone.
    TensorCalculator : A model of energies as an ASE calculator.

    References
    ----------
    A. P. Bartok, G. Csanyi, Int. J. Quantum Chem. 115, 1051 (2015).
    L. Foster et al., J. Mach. Learn. Res. 10, 857 (2009).
    J. Quinonero-Candela, C. E. Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005).

    Examples
    --------
    >>> from eqkernels import LambdaSOAP
    >>> from eqkernels.datasets import load_water_clusters
    >>> frames, dipoles = load_water_clusters(return_X_y=True, target="dipole")
    >>> model = SparseTensorGPR(n_points=60, descriptor=LambdaSOAP(n_max=4, l_max=2), random_state=0)
    >>> mean, std = model.fit(frames[:200], dipoles[:200]).predict(frames[200:], return_std=True)
    >>> mean.shape, std.shape
    ((300, 3), (300, 3))

    Energies with forces:

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> frames = [bulk("Cu", cubic=True) for _ in range(6)]
    >>> for k, atoms in enumerate(frames):
    ...     atoms.calc = EMT()
    ...     atoms.rattle(0.1, seed=k)
    >>> energies, forces = [a.get_potential_energy() for a in frames], [a.get_forces() for a in frames]
    >>> model = SparseTensorGPR(n_points=20, descriptor=LambdaSOAP(n_max=4, l_max=2), random_state=0)
    >>> model.fit(frames, energies, forces=forces).predict_forces(frames)[0].shape
    (4, 3)
    """

    _defaults = {**SparsePredictor._defaults, "kernel": CovariantKernel}
    _constraints = {
        "selection": Choice(*SELECTIONS),
        "displacement": Number(above=0, none=True),
        "aggregate": Choice(None, "sum", "mean"),
        "force_noise": _Auto(above=0),
        "stress_noise": _Auto(above=0),
        "input_noise": _Auto(above=0),
        "baseline": Baseline(),
        "memory": Number(above=0),
        "n_jobs": Jobs(),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        n_points=500,
        *,
        selection="fps",
        displacement=None,
        noise="auto",
        force_noise="auto",
        stress_noise="auto",
        derivative_noise="auto",
        input_noise="auto",
        kernel=None,
        aggregate=None,
        descriptor=None,
        target=None,
        baseline="composition",
        memory=1.0,
        random_state=None,
        n_jobs=None,
        verbose=0,
        per_atom=None,
    ):
        self.n_points = n_points
        self.selection = selection
        self.displacement = displacement
        self.noise = noise
        self.force_noise = force_noise
        self.stress_noise = stress_noise
        self.derivative_noise = derivative_noise
        self.input_noise = input_noise
        self.kernel = kernel
        self.aggregate = aggregate
        self.descriptor = descriptor
        self.target = target
        self.baseline = baseline
        self.memory = memory
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.per_atom = per_atom

    # -- fit --------------------------------------------------------------------------------------------------------

    @whole_or_nothing
    def fit(
        self, X, y=None, sample_weight=None, *, forces=None, stress=None, derivatives=None, input_derivatives=None,
        client=None,
    ):  # fmt: skip
        """Choose the sparse environments and fit.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
            Structures, or their features. Of a sequence that makes its structures when asked for them (an ase
            Trajectory, a class with ``__len__`` and ``__getitem__``), only a few parts are in memory at a time.
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Cartesian tensors of the structures or of their atoms, as for :class:`TensorKernelRidge`. With forces,
            stress or derivatives, structures may be without: NaN or None; and if all are, y is None.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights of the structures: the noise of a label is divided by it.
        forces : sequence of array-like of shape (n_atoms, 3), default=None
            Minus the derivatives of a scalar y by the positions, for each structure; None, or rows of NaN, where
            they are not known.
        stress : array-like of shape (n_structures, 3, 3) or (n_structures, 6), default=None
            Derivatives of y by the strain over the volume, as ``Atoms.get_stress()`` gives them; NaN where not known.
        derivatives : sequence of array-like of shape (n_atoms, 3, ..., 3), default=None
            Derivatives of y by the positions, for each structure: ``derivatives[k][a, i, j]`` is that of component i of
            a dipole by coordinate j of atom a, ``[a, i, l, j]`` that of component il of a polarizability. None, or NaN
            for a direction, an atom or a structure where they are not known. See :doc:`derivatives </derivatives>`.
        input_derivatives : dict of str to array-like of shape (n_structures, ...), default=None
            Derivatives of a scalar y by inputs of the descriptor, by their name: with an energy in an electric field
            ``{"electric_field": -dipoles}``, plus the dipoles where the data set gives its field the other sign. For
            an input of atoms, a list with one array (n_atoms, ...) for each structure. None or NaN where they are not
            known. See :doc:`inputs </inputs>`.
        client : distributed.Client, default=None
            Cluster that does the work, part by part; lost workers are made up for.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If structures, labels or parameters are unusable; the message says where and what to do.
        MemoryError
            If sparse points or one structure take more than ``memory``, or the matrices more than the machine has.
        """
        self.__dict__.pop("factors_", None)
        return self._add(X, y, sample_weight, (forces, stress, derivatives, input_derivatives), client, True)

    @whole_or_nothing
    def partial_fit(
        self, X, y=None, sample_weight=None, *, forces=None, stress=None, derivatives=None, input_derivatives=None,
        client=None, solve=True,
    ):  # fmt: skip
        """Add structures; the first call chooses the sparse environments from them.

        Parameters
        ----------
        X, y, sample_weight, forces, stress, derivatives, input_derivatives, client
            As for :meth:`fit`. Later calls may have no other species than the first, and no other parameters but those
            of the noise.
        solve : bool, default=True
            Whether to update the coefficients now; a call with True, at last, is needed to predict.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError, MemoryError
            As for :meth:`fit`; also if parameters were changed since the first call.
        """
        return self._add(X, y, sample_weight, (forces, stress, derivatives, input_derivatives), client, solve)

    def _add(self, X, y, sample_weight, others, client, solve):
        begun = hasattr(self, "factors_")
        if begun:
            check_unchanged(self, _FREE_BETWEEN_PARTS)
        self._check_parameters()
        X, frames = self._with_frames(X)
        source = self._source(X, begun)
        data = self._read_data(source, y, sample_weight, others, begun, frames)
        self._noises()  # refused before the work
        if not begun:
            self._begin(data)
        self._fold(data, client)
        self.n_structures_fit_ = len(source.n_atoms) + (self.n_structures_fit_ if begun else 0)
        if solve:
            # thin matrix products, which threads of BLAS slow down; and always the same bits
            with threadpool_limits(1):
                self._solve()
        return self

    def _read_data(self, source, y, sample_weight, others, begun, frames):
        known, some = None, any(one is not None for one in others)
        if not some:
            labels = self._read_more_labels(y, source.n_atoms) if begun else self._read_labels(y, source.n_atoms)
        else:
            target, per_atom = (self._tensor(), self.per_atom_) if begun else (self.target, self.per_atom)
            labels, known = read_partial_labels(y, source.n_atoms, target, per_atom, others[2])
        if some and not begun:
            self.target_, self.axial_, self.per_atom_ = labels.tensor.formula, labels.tensor.axial, labels.per_atom
        if any(others[k] is not None for k in (0, 1, 3)):
            check_scalar(self._tensor(), "fitted")
        self._warn_of_symmetry(source.X, labels)
        weight = _check_weight(sample_weight, len(source))
        charges = source.charges if self._kernel().uses_positions else None
        derivatives = read_all_derivatives(source, labels, known, others[:3], self._project, charges) if some else {}
        if others[3] is not None:
            check_derivatives_possible(source, labels.per_atom)
            if is_model(self.baseline):
                raise ValueError(
                    "input_derivatives cannot be fitted to what a baseline leaves, whose own derivatives by inputs "
                    "are not known: subtract these, and its predictions, from the labels, and fit without baseline="
                )
            descriptor = self.descriptor_ if begun else self._object("descriptor")
            derivatives |= read_all_input_derivatives(source, others[3], descriptor)
        if not begun:
            self._fit_baseline_model(frames, labels, weight, known)
        labels = self._minus_baseline(frames, labels, known)
        if self.baseline_model_ is not None:
            derivatives = minus_baseline_derivatives(self.baseline_model_, frames, source.n_atoms, derivatives,
                                                     self._tensor(), self._project)  # fmt: skip
        return TrainingData(source, labels, self._irreps_of(labels), weight, derivatives, known)

    def _source(self, X, begun):
        X = self._checked_input(X)
        if begun and isinstance(X, EquivariantFeatures) != (self.descriptor_ is None):
            kind = "descriptor" if self.descriptor_ is None else "frames"
            raise TypeError(f"the model was fitted on {kind}: add {kind}, not the other")
        return Source(X, self._read_frames)

    def _read_more_labels(self, y, n_atoms):
        try:
            return read_labels(y, n_atoms, self._tensor(), self.per_atom_)
        except ValueError as error:
            kind = "atoms" if self.per_atom_ else "structures"
            shape = self._tensor().shape
            raise ValueError(f"the labels so far were tensors {shape} of {kind}: {error}") from error

    def _begin(self, data):
        """Fit the descriptor and choose the sparse environments."""
        self._refuse_atoms()
        irreps = [str(irrep) for _, irrep in self._tensor().irreps]
        if self.displacement is not None and data.source.volumes is None:
            raise TypeError("displacement needs X to be frames, whose atoms are displaced, not features")
        random = check_random_state(self.random_state)
        choice = SparseChoice(data, irreps, self.n_points, random, self.displacement)
        self.descriptor_ = self._fitted_descriptor(data, choice.candidates)
        if data.derivatives:
            check_differentiable(self.descriptor_, forward=True)
        self.__dict__.pop("kernel_", None)
        self.__dict__.update(self._chosen_kernel(data, choice.candidates))
        points, self.environment_size_ = choice.points(self.descriptor_, self._kernel(), self.selection, self._bytes())
        self.species_ = choice.species
        charged = has_element_charges(self.baseline, self._tensor(), data)
        self.element_charges_ = np.zeros(len(choice.species)) if charged else None
        if open_weights(self._kernel()):  # tensors are too few to tell
            rest = self.descriptor_, data, points, 0.2 * self._bytes(), self.species_ if charged else None
            self.kernel_ = dict.fromkeys(data.blocks, choose_by_derivatives(self._kernel(), *rest))
        self._check_blocks(points)
        self.points_ = points.to_dict(self._kernel().uses_positions)
        self.pivots_, self.cholesky_ = choice.factors(points, self._kernel())
        self.factors_, self.label_totals_, self.derivative_totals_ = {}, {}, {}
        self.baseline_ridge_ = baseline_ridge(data, self._model())
        counts = ", ".join(f"{chemical_symbols[z]} {np.sum(points.species == z)}" for z in self.species_)
        self._say(f"{len(points)} sparse environments ({counts}); {self._model().summary()}")

    def _fitted_descriptor(self, data, candidates):
        if isinstance(data.source.X, EquivariantFeatures):
            return None
        descriptor = declare_target(clone(self._object("descriptor")), self._tensor(), self.per_atom_)
        return descriptor.fit(data.source[candidates], data.labels.given()[candidates])

    def _chosen_kernel(self, data, candidates):
        """Attribute with the kernel whose weights were left open, chosen for the irrep of the largest labels."""
        if not open_weights(self._kernel()):
            return {}
        labelled = candidates if data.known is None else candidates[data.known[candidates]]
        if len(labelled) < FEWEST_TENSORS and "derivatives" in data.derivatives:
            return {}
        candidates = labelled if len(labelled) else candidates
        some = candidates[evenly(len(candidates), MOST_STRUCTURES)]
        features = data.source[some]
        if self.descriptor_ is not None:
            features = checked_features(self.descriptor_.transform(features), self.descriptor_)
        sizes = {irrep: np.sum(np.var(values, axis=0)) for irrep, values in data.blocks.items()}
        irrep = max(sizes, key=sizes.__getitem__)
        offset = self._kernel().offset(features, irrep)
        values = data.blocks[irrep][some]
        values = values if offset is None else values - offset[..., None]
        return {"kernel_": dict.fromkeys(data.blocks, choose_weights(self._kernel(), features, irrep, values))}

    def _fold(self, data, client):
        """Add the data to the factors."""
        if data.derivatives:
            check_differentiable(self.descriptor_, forward=True)
        model = self._model()
        job, parts = FoldJob(model, self.descriptor_), Parts(data, model)
        n_structures = len(data.source.n_atoms)
        meter = Meter(type(self).__name__, len(parts), f"{n_structures} structures", self.verbose)
        if client is None:
            factors = map_reduce(job, parts.__getitem__, len(parts), self.n_jobs, meter.reach)
        else:
            factors = map_reduce_on_cluster(client, job, parts.__getitem__, len(parts), meter.reach)
        totals = {irrep: factors.pop(TOTALS.format(irrep)) for irrep in model.multiplicities}
        self.factors_ = job.merge(self.factors_, factors)
        self.label_totals_ = {irrep: sums + self._totals_of(irrep) for irrep, sums in totals.items()}
        self.derivative_totals_ = self.derivative_totals_ | {
            kind: totals + self.derivative_totals_.get(kind, 0.0) for kind, totals in parts.derivative_totals.items()
        }
        self.__dict__.pop("coef_", None)  # it does not know of the new labels

    def _solve(self):
        """Coefficients, noise and covariances from the factors."""
        self._reset_recalibration()
        model = self._model()
        noise, of_derivatives = self._noises()
        solutions = solve_irreps(
            model, self.cholesky_, self.factors_, self.label_totals_, self.derivative_totals_, noise, of_derivatives,
            self.baseline_ridge_, self._say,
        )  # fmt: skip
        self.coef_ = {irrep: model.coefficients(irrep, solved.coef) for irrep, solved in solutions.items()}
        self._sums = KernelSums()
        for name in ("noise", "signal_variance", "damped", "unexplained", "cancellation"):
            setattr(self, f"{name}_", {irrep: getattr(solved, name) for irrep, solved in solutions.items()})
        for solved in solutions.values():
            self.noise_ |= solved.other_noises
        self.baseline_ = solutions["0e"].baseline if "0e" in solutions else None
        if self.element_charges_ is not None:
            baseline = solutions[IRREP].baseline
            charges = np.zeros(0) if baseline is None else baseline[:, 0]
            self.element_charges_ = contrasts(len(self.species_)) @ charges
        self.log_marginal_likelihood_value_ = sum(solved.log_likelihood for solved in solutions.values())

    # -- parameters -------------------------------------------------------------------------------------------------

    def _noises(self):
        """Noises of the labels by irrep, and of each kind of derivatives."""
        irreps = [str(irrep) for _, irrep in self._tensor().irreps]
        own, of_derivatives = (
            dict.fromkeys(irreps, getattr(self, name))
            if isinstance(getattr(self, name), str)
            else self._by_irrep(name, zero=False)
            for name in ("noise", "derivative_noise")
        )
        of_scalars = {"forces": {"0e": self.force_noise}, "stress": {"0e": self.stress_noise}}
        by_inputs = {
            kind: {"0e": self.input_noise} for kind in vars(self).get("derivative_totals_", ()) if is_by_input(kind)
        }
        return own, {**of_scalars, **by_inputs, "derivatives": of_derivatives}

    def _check_parameters(self):
        super()._check_parameters()
        check_parameters(self)
        if not isinstance(self._kernel(), TensorKernel):
            raise TypeError(f"kernel={self.kernel!r} must be a kernel such as CovariantKernel(zeta=2)")
        if couples_densities(self._kernel()):
            raise TypeError(
                f"kernel={self.kernel!r} needs densities, which are not kept of sparse environments: take "
                "TensorKernelRidge or TensorGPR"
            )
        for name in ("noise", "derivative_noise"):
            value = getattr(self, name)
            if isinstance(value, str) and value != "auto":
                raise ValueError(f"{name}={value!r} must be 'auto' or positive numbers")
        check_n_points_of_model(self.n_points)

    def _say(self, text):
        say(f"{type(self).__name__}: {text}", self.verbose, logging.INFO if self.verbose else logging.DEBUG)
