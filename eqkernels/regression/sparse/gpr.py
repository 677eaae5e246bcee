r"""Gaussian process regression of tensors on representative environments: error bars for data of any size.

A tensor is modelled by its kernels with M sparse environments, :math:`y^\lambda(A) = \sum_m k^\lambda(A, m)\, c_m`,
instead of those with all N training structures. Structures are read block by block, folded into one triangular factor
of M (2 lambda + 1) columns for each irrep (:mod:`eqkernels.regression.sparse.triangular`) and dropped; what is left to
do does not depend on N (:mod:`eqkernels.regression.sparse.solve`).
"""

from __future__ import annotations

import sys
from numbers import Real

import numpy as np
from ase.data import chemical_symbols
from sklearn.base import clone
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from eqkernels._fitted import check_unchanged, whole_or_nothing
from eqkernels._memory import check_memory
from eqkernels._warnings import warn
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.scalar_gradients import check_differentiable
from eqkernels.kernels import TensorKernel
from eqkernels.kernels.sparse_points import (
    METHODS,
    check_n_points_of_model,
    choose_points,
    first_points,
    points_by_irrep,
    room_of_species,
)
from eqkernels.regression.base import _check_weight, declare_target
from eqkernels.regression.sparse.derivatives import factor_key, read_derivatives
from eqkernels.regression.sparse.fold import Parts, ridge_of_source
from eqkernels.regression.sparse.map_reduce import map_reduce, map_reduce_on_cluster
from eqkernels.regression.sparse.memory import centers_of_block, check_fit, environment_sizes, n_values
from eqkernels.regression.sparse.prediction import SparsePredictor
from eqkernels.regression.sparse.solve import OtherRows, pivoted_cholesky, solve_irrep
from eqkernels.regression.sparse.source import Source, candidate_features, choose_candidates
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.structures import read_labels

# Environments, for each sparse point, among which the points are chosen.
_CANDIDATES_PER_POINT = 20
# Labels of an irrep below this part of those of the others are their rounding.
_ROUNDING = 1e-10
# Parameters that are used anew whenever the coefficients are solved.
_FREE_BETWEEN_PARTS = ("noise", "force_noise", "stress_noise")
_LEARNED = ("coef", "noise", "signal_variance", "damped", "unexplained", "cancellation")


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
    selection : {"fps", "cur", "random"}, default="fps"
        How they are chosen.
    noise : "auto", float, array-like of shape (n_irreps,) or dict of str to float, default="auto"
        Variance of the noise of the labels in units of the signal variance, as ``alpha`` of
        :class:`TensorKernelRidge`; down to 1e-12. ``"auto"`` takes the largest marginal likelihood of each irrep.
    force_noise, stress_noise : "auto" or float, default="auto"
        The same of components of forces and of stress: squares of their errors over the signal variance, so that the
        units are those of positions to the power -2 and -6. ``"auto"``: by the marginal likelihood, with ``noise``.
    kernel : TensorKernel, default=None
        Covariant kernel; None: ``CovariantKernel()``. Its ``aggregate`` makes the target extensive or intensive.
    descriptor : transformer, default=None
        What turns frames into equivariant features when X are frames; None: ``LambdaSOAP()``.
    target : str or CartesianTensor, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``, see :class:`CartesianTensor` for
        the names; None: found from y.
    baseline : {"composition", "mean", None}, default="composition"
        What is fitted to the scalar (0e) part first, as in :class:`TensorKernelRidge`.
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
        of ``"0e forces"`` and ``"0e stress"`` where these are fitted.
    log_marginal_likelihood_value_ : float
        Of the labels minus the baseline, summed over irreps.
    environment_size_ : int
        Features of one environment, in all irreps and components that the descriptor makes.
    label_totals_ : ndarray of shape (3,)
        Number of labels so far, the sum of their weights and that of the logarithms of the weights.
    derivative_totals_ : dict of str to ndarray of shape (3,)
        The same for all components of ``"forces"`` and ``"stress"``.
    recalibration_ : dict of str to float
        Factors of the standard deviations, 1 until ``recalibrate``.
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
    The baseline is then that of the largest likelihood of all labels, and ``noise="auto"`` is sought where energies are
    described: up to a tenth of their spread, for they are few, and cheaper to declare noise where points are too few.

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

    def __init__(
        self,
        n_points=500,
        selection="fps",
        noise="auto",
        force_noise="auto",
        stress_noise="auto",
        kernel=None,
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
        self.noise = noise
        self.force_noise = force_noise
        self.stress_noise = stress_noise
        self.kernel = kernel
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
    def fit(self, X, y, sample_weight=None, *, forces=None, stress=None, client=None):
        """Choose the sparse environments and fit.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
            Structures, or their features. Of a sequence that makes its structures when asked for them (an ase
            Trajectory, a class with ``__len__`` and ``__getitem__``), only a few parts are in memory at a time.
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Cartesian tensors of the structures or of their atoms, as for :class:`TensorKernelRidge`.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights of the structures: the noise of a label is divided by it.
        forces : sequence of array-like of shape (n_atoms, 3), default=None
            Minus the derivatives of a scalar y by the positions, for each structure; None, or rows of NaN, where
            they are not known.
        stress : array-like of shape (n_structures, 3, 3) or (n_structures, 6), default=None
            Derivatives of y by the strain over the volume, as ``Atoms.get_stress()`` gives them; NaN where not known.
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
        return self._fit(X, y, sample_weight, forces, stress, client, solve=True, first=True)

    @whole_or_nothing
    def partial_fit(self, X, y, sample_weight=None, *, forces=None, stress=None, client=None, solve=True):
        """Add structures; the first call chooses the sparse environments from them.

        Parameters
        ----------
        X, y, sample_weight, forces, stress, client
            As for :meth:`fit`. Later calls may have no other species than the first, and no other parameters but those
            of the noise.
        solve : bool, default=True
            Whether to update the coefficients now; a call with True, at last, is needed to predict.

        Returns
        -------
        self
        """
        first = not hasattr(self, "factors_")
        if not first:
            check_unchanged(self, _FREE_BETWEEN_PARTS)
        return self._fit(X, y, sample_weight, forces, stress, client, solve, first)

    def _fit(self, X, y, sample_weight, forces, stress, client, solve, first):
        self._check_parameters()
        X = self._checked_input(X)
        if not first and isinstance(X, EquivariantFeatures) != (self.descriptor_ is None):
            kind = "descriptor" if self.descriptor_ is None else "frames"
            raise TypeError(f"the model was fitted on {kind}: add {kind}, not the other")
        source = Source(X, self._takes_batches)
        if first:
            for name in ("factors_", "coef_"):
                vars(self).pop(name, None)
            labels = self._read_labels(y, source.n_atoms)
        else:
            labels = self._read_more_labels(y, source.n_atoms)
        weight = _check_weight(sample_weight, len(source))
        blocks = self._tensor().to_irreps(self._project(labels.values))
        noise = self._noise()
        derivatives = {}
        if forces is not None or stress is not None:
            self._check_scalar("fitted")
            derivatives = read_derivatives(source, forces, stress, self.per_atom_)
        if first:
            self._start(source, labels)
        if derivatives:
            check_differentiable(self.descriptor_, forward=True)
        job = self._job()
        if first:
            self.baseline_ridge_ = ridge_of_source(source, labels, blocks, weight, job)
        parts = Parts(source, labels, blocks, weight, job, derivatives)
        factors = self._map_reduce(job, parts, client)
        if not first:
            factors = job.merge(self.factors_, factors)
        self.factors_ = factors
        self.label_totals_ = parts.totals + (0.0 if first else self.label_totals_)
        before = {} if first else self.derivative_totals_
        self.derivative_totals_ = before | {
            kind: totals + before.get(kind, 0.0) for kind, totals in parts.derivative_totals.items()
        }
        vars(self).pop("coef_", None)  # it does not know of the new labels
        if solve:
            # thin matrix products, which threads of BLAS slow down; and always the same bits
            with threadpool_limits(1):
                self._solve(job, noise)
        return self

    def _read_more_labels(self, y, n_atoms):
        try:
            return read_labels(y, n_atoms, self._tensor(), self.per_atom_)
        except ValueError as error:
            kind = "atoms" if self.per_atom_ else "structures"
            shape = self._tensor().shape
            raise ValueError(f"the labels so far were tensors {shape} of {kind}: {error}") from error

    def _start(self, source, labels):
        """Fit the descriptor and choose the sparse environments."""
        labelled = np.ones(len(source.numbers), dtype=bool)
        if self.per_atom_:
            labelled[:] = False
            labelled[labels.atoms] = True
        random = check_random_state(self.random_state)
        wanted, largest = points_by_irrep(self.n_points, [str(irrep) for _, irrep in self._tensor().irreps])
        total = sum(largest.values()) if isinstance(largest, dict) else largest
        candidates = choose_candidates(source, labelled, _CANDIDATES_PER_POINT * total, random)
        self.descriptor_ = self._fitted_descriptor(source, candidates, labels)
        shapes = environment_sizes(source, self.descriptor_)
        needed = {"0e", *(str(irrep) for _, irrep in self._tensor().irreps)}
        of_points = {irrep: shape for irrep, shape in shapes.items() if irrep in needed}
        self.environment_size_, memory = n_values(shapes), self._bytes()
        check_fit(shapes, of_points, min(total, labelled.sum()), source.n_atoms.max(), memory)
        limit = centers_of_block(self.environment_size_, memory)
        blocks = candidate_features(source, candidates, labelled, self.descriptor_, needed, limit)
        room = self._room(source, candidates, labelled, largest, 0.2 * memory / (8 * n_values(of_points)))
        normalize = getattr(self._kernel(), "normalize", "invariant")
        points = choose_points(blocks, largest, self.selection, normalize, random, room)
        self._check_blocks(points)
        self.points_ = points.to_dict()
        self.species_ = np.unique(points.species)
        self._factor_points(points, {irrep: first_points(points, one) for irrep, one in wanted.items()})
        if self.verbose:
            counts = ", ".join(f"{chemical_symbols[z]} {np.sum(points.species == z)}" for z in self.species_)
            self._say(f"{len(points)} sparse environments ({counts}); {self._job().summary()}")

    def _room(self, source, candidates, labelled, n_points, most):
        """Most points of a species to be kept while they are chosen."""
        structures = np.repeat(np.arange(len(source)), source.n_atoms)
        numbers = source.numbers[labelled & np.isin(structures, candidates)]
        species, counts = np.unique(numbers, return_counts=True)
        return room_of_species(n_points, dict(zip(species.tolist(), counts.tolist(), strict=True)), most)

    def _factor_points(self, points, chosen):
        """Cholesky factors of the kernels among the sparse environments; components that depend on others drop out."""
        widths = {irrep: len(rows) * (2 * int(irrep[:-1]) + 1) for irrep, rows in chosen.items()}
        needed = 3 * 8 * max(widths.values()) ** 2 + 2 * 8 * sum(width**2 for width in widths.values())
        check_memory(needed, f"A sparse model of {len(points)} points", "choose fewer with n_points")
        self.pivots_, self.cholesky_ = {}, {}
        with threadpool_limits(1):  # the same bits whatever the number of threads
            for irrep, rows in chosen.items():
                n, d = widths[irrep], 2 * int(irrep[:-1]) + 1
                kernel = self._kernel()(points[rows], irrep=irrep).transpose(0, 2, 1, 3).reshape(n, n)
                pivots, lower = pivoted_cholesky(kernel)
                self.pivots_[irrep] = (d * rows[:, None] + np.arange(d)).ravel()[pivots]
                self.cholesky_[irrep] = TriangularFactor.of_upper(lower.T).data

    def _fitted_descriptor(self, source, candidates, labels):
        if isinstance(source.X, EquivariantFeatures):
            return None
        descriptor = clone(self._object("descriptor"))
        descriptor = declare_target(descriptor, self._tensor(), self.per_atom_)
        return descriptor.fit(source[candidates], labels.given()[candidates])

    def _map_reduce(self, job, parts, client):
        progress = (lambda done: self._say(f"{done} of {len(parts)} parts")) if self.verbose else None
        if client is None:
            return map_reduce(job, parts.__getitem__, len(parts), self.n_jobs, progress)
        return map_reduce_on_cluster(client, job, parts.__getitem__, len(parts), progress)

    def _solve(self, job, noise):
        for name in _LEARNED:
            setattr(self, f"{name}_", {})
        self.log_marginal_likelihood_value_, self.baseline_ = 0.0, None
        self._reset_recalibration()
        n_labels, total_weight, log_weight = self.label_totals_
        sizes, only_noise = {}, []
        for irrep, given in noise.items():
            rank, d, multiplicity = job.n_kernel(irrep), 2 * int(irrep[:-1]) + 1, job.multiplicities[irrep]
            lower = TriangularFactor(rank, self.cholesky_[irrep]).dense().T
            factor = TriangularFactor(job.size(irrep), self.factors_[irrep])
            others = self._other_rows(job) if irrep == "0e" else None
            ridge = self.baseline_ridge_
            solution = solve_irrep(lower, factor, n_labels * d, total_weight * d, multiplicity, given, others, ridge)
            for name in _LEARNED:
                getattr(self, f"{name}_")[irrep] = getattr(solution, name)
            self.noise_ |= solution.other_noises
            self.baseline_ = self.baseline_ if solution.baseline is None else solution.baseline
            self.log_marginal_likelihood_value_ += solution.log_likelihood + 0.5 * d * multiplicity * log_weight
            coef = np.zeros((len(self.points_["species"]) * d, multiplicity))
            coef[self.pivots_[irrep]] = solution.coef
            self.coef_[irrep] = coef
            sizes[irrep] = solution.label_norm
            if solution.only_noise:
                only_noise.append(irrep)
            if self.verbose:
                noises = "".join(f", {key} noise {self.noise_[key]:.2g}" for key in solution.other_noises)
                self._say(f"{irrep}: noise {solution.noise:.2g}, signal variance {solution.signal_variance:.3g}, "
                          f"{rank} of {len(coef)} directions{noises}")  # fmt: skip
        for irrep in only_noise:
            if sizes[irrep] > _ROUNDING * max(sizes.values()):
                warn(
                    f"the likelihood takes the labels of {irrep} for noise, so that little or nothing is learned: give "
                    "more structures or another kernel, or state the noise"
                )

    def _other_rows(self, job):
        """Rows of forces and stress, by the names of their factors."""
        noises, rows = {"forces": self.force_noise, "stress": self.stress_noise}, {}
        for kind, totals in self.derivative_totals_.items():
            factor = TriangularFactor(job.size("0e"), self.factors_[factor_key(kind)])
            rows[factor_key(kind)] = OtherRows(factor, *totals, noises[kind])
        return rows

    # -- parameters -------------------------------------------------------------------------------------------------

    def _noise(self):
        if isinstance(self.noise, str):
            return {str(irrep): self.noise for _, irrep in self._tensor().irreps}
        return self._by_irrep("noise", zero=False)

    def _check_parameters(self):
        super()._check_parameters()
        if self.selection not in METHODS:
            raise ValueError(f"selection={self.selection!r} must be one of {METHODS}")
        if not isinstance(self._kernel(), TensorKernel):
            raise TypeError(f"kernel={self.kernel!r} must be a kernel such as CovariantKernel(zeta=2)")
        if not isinstance(self.memory, Real) or not 0 < self.memory < np.inf:
            raise ValueError(f"memory={self.memory!r} must be a positive number of GiB")
        if isinstance(self.noise, str) and self.noise != "auto":
            raise ValueError(f"noise={self.noise!r} must be 'auto' or positive numbers")
        for name in ("force_noise", "stress_noise"):
            value = getattr(self, name)
            if not (value == "auto" if isinstance(value, str) else isinstance(value, Real) and 0 < value < np.inf):
                raise ValueError(f"{name}={value!r} must be 'auto' or a positive number")
        check_n_points_of_model(self.n_points)

    def _say(self, text):
        print(f"{type(self).__name__}: {text}", file=sys.stderr)
