"""What the tensor regressors share: frames or features in, Cartesian tensors to irreps and back, baseline, score."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from ase.data import chemical_symbols
from sklearn.base import BaseEstimator, RegressorMixin, clone

from eqkernels._defaults import NestedDefaults
from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._numeric import as_floats
from eqkernels._parameters import check_parameters, is_number
from eqkernels.descriptors import EquivariantFeatures, LambdaSOAP
from eqkernels.kernels import KernelBlocks
from eqkernels.kernels.centers import similarity_of
from eqkernels.metrics import tensor_r2
from eqkernels.regression.baseline import composition_design, fit_baseline
from eqkernels.regression.cancellation import KernelSums
from eqkernels.regression.delta import Baseline, DeltaLearning, scalar_baseline
from eqkernels.regression.fitted_targets import declare_target, projected
from eqkernels.regression.position_derivatives import FeatureDerivatives
from eqkernels.regression.summary import Summarized
from eqkernels.so3 import CartesianTensor, cartesian_tensor
from eqkernels.structures import StructureBatch, atom_counts, by_structure, read_frames, read_labels, takes_batches
from eqkernels.structures.batch import structure_number
from eqkernels.structures.elements import shares
from eqkernels.structures.labels import of_atoms

# Weights beyond this, or below its inverse, over- or underflow with the squares of features and labels.
_LARGEST_WEIGHT = 1e50
# Structures predicted at once: their kernel with the training set is what takes the memory.
_STRUCTURES_PER_BLOCK = 256


class TensorRegressor(DeltaLearning, FeatureDerivatives, Summarized, NestedDefaults, RegressorMixin, BaseEstimator):
    """Base class: subclasses have ``_fit_irreps``, ``_predict_irreps`` and ``_irrep_vjp``, one irrep at a time."""

    _defaults = {"descriptor": LambdaSOAP}
    _constraints: dict = {"baseline": Baseline()}

    @whole_or_nothing
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
            Structures, or their features.
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Cartesian tensors of the structures, or one array for each structure with the tensors of its
            atoms (a row of NaN, or None in place of the array: no label). Scalars have shape (n_structures,). Where
            both are possible, as for the vectors of three atoms, ``target`` or ``per_atom`` has to say which; with a
            declared target, the indices of a tensor may be written in one axis, row by row.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights of the structures: larger ones are fitted more closely.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If frames, features or labels are unusable; the message names the structure and the remedy.
        """
        self._check_parameters()
        X, frames = self._with_frames(X)
        X = self._checked_input(X)
        labels = self._read_labels(y, self._atom_counts(X))
        self._warn_of_symmetry(X, labels)
        self._fit_baseline_model(frames, labels, sample_weight)
        labels = self._minus_baseline(frames, labels)
        features = self._features_to_fit(X, labels.given())
        self._check_blocks(features)
        weight = _check_weight(sample_weight, len(features))
        self.groups_ = np.arange(len(features))
        self.__dict__.pop("shares_", None)  # of an earlier fit to atoms
        self.n_atoms_fit_ = getattr(features, "n_atoms", np.zeros(len(features), dtype=int))
        if labels.per_atom:
            rows = labelled_rows(features, labels.atoms)
            self.groups_, features = features.structures[rows], features.split_centers(rows)
            weight = None if weight is None else weight[self.groups_]
            weight = self._weight_of_atoms(features, weight)
        self.atoms_fit_ = labels.atoms
        self.n_structures_fit_, self.n_environments_fit_ = len(self.n_atoms_fit_), len(features.species)
        blocks = self._without_offset(features, self._irreps_of(labels))
        self.species_ = np.unique(features.species)
        self._fit_irreps(features, self._subtract_baseline(features, blocks, weight), weight)
        return self

    def _weight_of_atoms(self, features, weight):
        """Weights of labelled atoms; models that count observations know which are equivalent."""
        return weight

    def predict(self, X):
        """Cartesian tensors of structures, or of all their atoms when the labels were those of atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures

        Returns
        -------
        ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
            For per-atom targets an array (n_atoms, 3, ..., 3) for each structure, with NaN rows for atoms that are not
            centers of the descriptor, or whose species had no label at fit.
        """
        check_fitted(self)
        X, frames = self._with_frames(X)
        X = self._checked_input(X)
        parts = [self._predict_features(features) for features in self._blocks_of_features(X)]
        return self._plus_baseline(frames, np.concatenate(parts))

    def score(self, X, y, sample_weight=None):
        """R2 with the squares of all components summed, see :func:`eqkernels.metrics.tensor_r2`.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like
            True tensors, as for ``fit``.
        sample_weight : array-like of shape (n_structures,), default=None

        Returns
        -------
        float
            Independent of the lab frame.
        """
        return tensor_r2(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    @cached_property
    def _sums(self):
        """Sums of kernels and coefficients, which are not stored with a model: new ones where it was loaded."""
        return KernelSums()

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_sums"}

    # -- input ------------------------------------------------------------------------------------------------------

    def _checked_input(self, X):
        """Features as they are; frames read once: a batch, or a list where the descriptor is not of this library."""
        if isinstance(X, EquivariantFeatures):
            if len(X) == 0:
                raise ValueError("X has no structures (0 samples): give at least one (a minimum of 1 is required)")
            X.check_values()
            return X
        return self._read_frames(X)

    def _read_frames(self, X, origin=0, quiet=False):
        """Batch, with the inputs of the descriptor, or list of frames."""
        return read_frames(self.descriptor, X, origin, quiet)

    @property
    def _takes_batches(self):
        return self.descriptor is None or takes_batches(self.descriptor)

    def _features_to_fit(self, X, y):
        """Features, of a descriptor that is fitted to frames and labels as they were read."""
        if not takes_a_descriptor(X):
            self.descriptor_ = None
            return X
        self.descriptor_ = self._fit_descriptor(X, y)
        return checked_features(self.descriptor_.transform(X), self.descriptor_)

    def _fit_descriptor(self, X, y):
        descriptor = clone(self._object("descriptor"))
        return declare_target(descriptor, self._tensor(), self.per_atom_).fit(X, y)

    def _own(self, features):
        """Features to keep: those that the caller made, and may write into, are copied."""
        return features.copy() if self.descriptor_ is None else features

    def _blocks_of_features(self, X):
        for start in range(0, len(X), _STRUCTURES_PER_BLOCK):
            part = X[start : start + _STRUCTURES_PER_BLOCK]
            if not takes_a_descriptor(X):
                part.origin = start
                yield part
            elif self.descriptor_ is None:
                raise TypeError("the model was fitted on features: transform the frames with the same descriptor first")
            else:
                yield self.descriptor_.transform(part)

    # -- labels -----------------------------------------------------------------------------------------------------

    def _declared_target(self):
        return self.target

    def _atom_counts(self, X):
        return atom_counts(X)

    def _read_labels(self, y, n_atoms):
        labels = read_labels(y, n_atoms, self._declared_target(), self.per_atom)
        self.target_, self.axial_, self.per_atom_ = labels.tensor.formula, labels.tensor.axial, labels.per_atom
        return labels

    def _warn_of_symmetry(self, X, labels):
        """Labels that the symmetry of their structures forbids; with inputs, structures may have less of it."""
        from eqkernels.symmetry.reach import warn_if_unreachable  # which imports models, for other checks

        if isinstance(X, StructureBatch) and not X.inputs:
            warn_if_unreachable(X, labels)

    def _check_blocks(self, features):
        needed = [str(irrep) for _, irrep in self._tensor().irreps]
        missing = [irrep for irrep in needed if irrep not in features.blocks]
        if missing:
            raise ValueError(
                f"X has no block {', '.join(missing)}, only {', '.join(features.blocks)}: the target {self.target_!r} "
                f"is made of {', '.join(needed)}; use LambdaSOAP(irreps='{'+'.join(dict.fromkeys(['0e', *needed]))}')"
            )

    def _tensor(self):
        return CartesianTensor(self.target_, axial=self.axial_)

    def _irreps_of(self, labels):
        """Irreps of the labels; those from which a baseline was subtracted have the symmetry of the target."""
        values = labels.values if self.baseline_model_ is not None else self._project(labels.values)
        return self._tensor().to_irreps(values)

    def _project(self, values, name="y"):
        return projected(self._tensor(), values, name)

    # -- baseline ---------------------------------------------------------------------------------------------------

    def _subtract_baseline(self, features, blocks, weight):
        self.baseline_ = None
        if scalar_baseline(self.baseline) is None or "0e" not in blocks:
            return blocks
        design = self._baseline_design(features)
        self.baseline_ = fit_baseline(design, blocks["0e"][:, 0], self.groups_, weight)
        return {**blocks, "0e": blocks["0e"] - (design @ self.baseline_)[:, None]}

    def _baseline_design(self, features):
        counts = features.composition(self.species_)
        unseen = np.setdiff1d(features.species, self.species_) if self._answers_unknown() else ()
        if len(unseen):  # elements that were not seen contribute what those like them do
            counts = counts + features.composition(unseen) @ shares(self.species_, unseen)
        return composition_design(counts, scalar_baseline(self.baseline), self._aggregate())

    def _offset_kernel(self):
        """Kernel that may know a part of the labels without learning; None: nothing does."""
        return None

    def _refuse_atoms(self):
        """Refuse per-atom targets for kernels that know structures only."""
        kernel = self._offset_kernel()
        if self.per_atom_ and kernel.uses_positions:
            raise ValueError(
                f"kernel={kernel!r} makes tensors of structures from charges, and y are per-atom targets: take "
                "CovariantKernel() for these"
            )

    def _without_offset(self, features, blocks, sign=1):
        """Irreps minus (or with sign=-1 plus) what the kernel knows of structures, such as their total charges."""
        kernel = self._offset_kernel()
        if kernel is None or not kernel.uses_positions:
            return blocks
        self._refuse_atoms()
        offsets = {irrep: kernel.offset(features, irrep) for irrep in blocks}
        return {
            irrep: values if offsets[irrep] is None else values - sign * offsets[irrep][..., None]
            for irrep, values in blocks.items()
        }

    # -- prediction -------------------------------------------------------------------------------------------------

    def _predict_features(self, features):
        rows, known = self._rows_to_predict(features)
        return self._by_structure(features, known, self._tensors_of(rows, self._predict_irreps(rows)))

    def _rows_to_predict(self, features):
        """Features with one row a prediction, and which centers of the original they are."""
        known = self._known_centers(features)
        return features.split_centers(np.flatnonzero(known)) if self.per_atom_ else features, known

    def _tensors_of(self, rows, blocks):
        """Cartesian tensors of predicted irreps, with the baseline."""
        if self.baseline_ is not None:
            blocks = {**blocks, "0e": blocks["0e"] + (self._baseline_design(rows) @ self.baseline_)[:, None]}
        return self._tensor().to_cartesian(self._without_offset(rows, blocks, -1))

    def _by_structure(self, features, known, values):
        """Values of the predicted rows: as they are, or for per-atom targets one array for each structure."""
        if not self.per_atom_:
            return values
        ends = np.cumsum(features.n_atoms)
        atoms = np.full((ends[-1], *values.shape[1:]), np.nan)
        atoms[((ends - features.n_atoms)[features.structures] + features.atoms)[known]] = values
        return by_structure(atoms, features.n_atoms)

    def _of_rows(self, features, known, values):
        """Values of the predicted rows, from those by structure."""
        if not self.per_atom_:
            return values
        first_atom = np.cumsum(features.n_atoms) - features.n_atoms
        return np.concatenate(values)[(first_atom[features.structures] + features.atoms)[known]]

    def _known_centers(self, features):
        """Which centers have a species that was a center at fit, or is answered for; for structures, all must."""
        if self._answers_unknown():
            return np.ones(len(features.species), dtype=bool)
        known = np.isin(features.species, self.species_)
        if not self.per_atom_ and not known.all():
            row = int(np.argmin(known))
            symbol = chemical_symbols[features.species[row]]
            raise ValueError(
                f"species {symbol} (first in {features.where(row)}) was not a center species during fit: fit on "
                "structures that contain it"
            )
        return known

    def _answers_unknown(self):
        """Whether centers of species that were not seen are compared with those that were."""
        if similarity_of(getattr(self, "kernel", None)) == 0:
            return False
        if self.descriptor_ is None:
            return True
        params = self.descriptor_.get_params()
        handled = [value for name, value in params.items() if name.split("__")[-1] == "handle_unknown"]
        return len(handled) > 0 and all(value == "embed" for value in handled)

    # -- parameters -------------------------------------------------------------------------------------------------

    def _check_parameters(self):
        check_parameters(self)
        if self.target is not None:
            cartesian_tensor(self.target)
        of_atoms(self.target, self.per_atom)

    def _alphas(self):
        """Regularization of each irrep of the target."""
        return self._by_irrep("alpha")

    def _by_irrep(self, name, zero=True):
        """Values of a parameter for each irrep of the target, positive or with ``zero`` not negative."""
        irreps = [str(irrep) for _, irrep in self._tensor().irreps]
        given = getattr(self, name)
        if isinstance(given, dict):
            if set(given) != set(irreps):
                raise ValueError(f"{name} has the irreps {sorted(given)}, the target has {irreps}")
            values = [given[key] for key in irreps]
        else:
            values = [given] * len(irreps) if np.ndim(given) == 0 else list(given)
        if len(values) != len(irreps):
            raise ValueError(f"{name} has {len(values)} values, the target has {len(irreps)} irreps: {irreps}")
        if not all(is_number(value) and (value > 0 or (zero and value == 0)) for value in values):
            kind = "a finite number, zero or positive," if zero else "a positive, finite number,"
            raise ValueError(f"{name}={given!r} must be {kind} or one for each irrep")
        return dict(zip(irreps, values, strict=True))


def takes_a_descriptor(X):
    """Whether X is frames, not features or kernels."""
    return not isinstance(X, EquivariantFeatures | KernelBlocks)


def checked_features(features, descriptor):
    """Refuse what is not made of irreps."""
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(
            f"descriptor={type(descriptor).__name__}(...) makes {type(features).__name__}, not EquivariantFeatures: "
            "use LambdaSOAP, which for scalars has the same information as SOAP"
        )
    features.check_values()
    return features


def labelled_rows(features, atoms):
    """Rows of the labelled atoms, which are counted over all structures."""
    ends = np.cumsum(features.n_atoms)
    row_of_atom = np.full(ends[-1], -1)
    row_of_atom[(ends - features.n_atoms)[features.structures] + features.atoms] = np.arange(len(features.species))
    rows = row_of_atom[atoms]
    if (rows < 0).any():
        atom = atoms[np.flatnonzero(rows < 0)[0]]
        k = int(np.searchsorted(ends, atom, side="right"))
        where = f"structure {structure_number(features.origin, k)}, atom {atom - ends[k] + features.n_atoms[k]}"
        raise ValueError(
            f"{where} has a label but is not a center of the descriptor: add its species to center_species, or set its "
            "label to NaN"
        )
    return rows


def _check_weight(sample_weight, n):
    if sample_weight is None:
        return None
    wanted = (
        f"sample_weight must be {n} finite, non-negative numbers (up to 1e50), not all zero, one for each structure"
    )
    try:
        weight = as_floats(sample_weight, "sample_weight")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{wanted}, got {sample_weight!r:.60}: {error}") from error
    if weight.ndim == 0:
        weight = np.full(n, float(weight))
    if weight.shape != (n,):
        raise ValueError(f"{wanted}, got an array of shape {weight.shape}")
    bad = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    extreme = np.flatnonzero((weight > _LARGEST_WEIGHT) | ((weight > 0) & (weight < 1 / _LARGEST_WEIGHT)))
    if not len(bad) and len(extreme):
        raise ValueError(
            f"sample_weight is {weight[extreme[0]]} for structure {extreme[0]}, beyond what can be computed with: it "
            f"must lie between {1 / _LARGEST_WEIGHT:g} and {_LARGEST_WEIGHT:g}, or be zero"
        )
    if len(bad) or not weight.any():
        raise ValueError(f"{wanted}, got {f'{weight[bad[0]]} for structure {bad[0]}' if len(bad) else 'only zeros'}")
    return weight
