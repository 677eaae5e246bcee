r"""Labels of a network that learns tensors of structures together with their derivatives by positions and strain.

Every component of the tensor is a scalar in units of its own, with derivatives :math:`\partial E / \partial \mathbf r`
(of energies minus the forces) and, of energies, :math:`\partial E / \partial \epsilon` (the stress times the volume).
The square of an error counts in units of the mean square of the labels of its kind and irrep, and every label the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqkernels.learned.derivative_loss import Samples
from eqkernels.learned.targets import Target, of_property, warn_if_unreachable
from eqkernels.regression.baseline import composition_design, fit_baseline
from eqkernels.regression.position_derivatives import check_scalar
from eqkernels.regression.sparse.partial_labels import read_all_derivatives, read_partial_labels
from eqkernels.regression.sparse.source import Source
from eqkernels.so3 import CartesianTensor, Irrep
from eqkernels.so3.inference import SYMMETRY_TOLERANCE, infer_formula
from eqkernels.structures import StructureBatch
from eqkernels.structures.derivative_labels import VOIGT, VOIGT_WEIGHTS

# Labels of an irrep that are smaller than this part of all labels of their kind are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class DerivativeTargets:
    """Checked labels, in the units of the user.

    Attributes
    ----------
    batch : StructureBatch
    tensor : CartesianTensor
    irreps : dict of str to int
        Multiplicity of each irrep.
    values : ndarray of shape (n_structures, n_components)
        Without the baseline; components of the irreps one after the other. NaN where there is no label, as below.
    slopes : ndarray of shape (n_atoms, 3, n_components)
    strains : ndarray of shape (n_structures, 3, 3)
        Of energies.
    baseline : ndarray or None
        Contributions to the scalar part, as of :class:`TensorRegressor`.
    known : ndarray of bool, shape (n_structures,)
        Which structures have a value.
    sample_weights : ndarray of shape (n_structures,)
    kind_weights : dict of str to float
        Weights of ``"values"``, ``"slopes"`` and ``"strains"``.
    """

    batch: StructureBatch
    tensor: CartesianTensor
    irreps: dict[str, int]
    values: np.ndarray
    slopes: np.ndarray
    strains: np.ndarray
    baseline: np.ndarray | None
    known: np.ndarray
    sample_weights: np.ndarray
    kind_weights: dict[str, float]

    @property
    def n_components(self):
        """Components of all irreps: so often is each structure repeated."""
        return self.values.shape[1]

    @cached_property
    def irrep_of_component(self):
        """Which irrep each component belongs to."""
        counts = [multiplicity * Irrep.parse(key).dim for key, multiplicity in self.irreps.items()]
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def squares(self):
        """Mean squares of the labels of each kind and irrep, NaN without any."""
        kinds = self.irrep_of_component
        of_irreps = range(len(self.irreps))
        found = {
            "values": [_mean_square(self.values[:, kinds == k]) for k in of_irreps],
            "slopes": [_mean_square(self.slopes[:, :, kinds == k]) for k in of_irreps],
            "strains": [_mean_square(self.strains)] * len(self.irreps),
        }
        return {name: _raised(np.array(values)) for name, values in found.items()}

    @cached_property
    def weights(self):
        """Weight of the square of an error of each kind, (n_irreps,): the same for all labels, a mean of structures."""
        kinds, labels = self.irrep_of_component, self._labels()
        counts = {name: int(np.isfinite(one).sum()) for name, one in labels.items()}
        total, n = sum(counts.values()), len(self.values)
        found = {}
        for name, one in labels.items():
            # irreps weigh the same, as components do of a tensor whose irreps have the same variance
            of_irreps = [np.isfinite(one[..., kinds == k]).sum() for k in range(len(self.irreps))]
            shares = np.bincount(kinds) / len(kinds) * counts[name] / np.maximum(of_irreps, 1)
            found[name] = self.kind_weights[name] * shares * n / total / self.squares[name]
        return {name: np.nan_to_num(one) for name, one in found.items()}

    def _labels(self):
        strains = np.repeat(self.strains[..., None], self.n_components, axis=-1)  # of tensors, there are none
        return {"values": self.values, "slopes": self.slopes, "strains": strains}

    def samples(self, picked, units):
        """Make the samples of some structures.

        Parameters
        ----------
        picked : ndarray of int
        units : ndarray of shape (n_irreps,)
            What values of each irrep are divided by.

        Returns
        -------
        Samples
        """
        c, kinds = self.n_components, self.irrep_of_component
        structures, component = np.repeat(picked, c), np.tile(np.arange(c), len(picked))
        batch = self.batch[structures]
        atoms = _atoms_of(self.batch.offsets, structures)
        of_atoms = component[batch.structure_of_atom]
        irreps, unit = kinds[component], units[kinds[component]]
        weights, of_samples = self.weights, self.sample_weights[structures] * unit**2 / len(picked)
        slopes = self.slopes[atoms, :, of_atoms] / unit[batch.structure_of_atom, None]
        strains = self.strains[structures] / unit[:, None, None]
        by_kind = {name: of_samples * weights[name][irreps] for name in weights}
        by_kind["slopes"] = by_kind["slopes"][batch.structure_of_atom]
        values = self.values[structures, component] / unit
        return Samples(batch, component, values, slopes, strains, by_kind)

    def __iter__(self):
        """Iterate over the irreps, as targets without labels."""
        return iter(self.placeholders("sum"))

    def placeholders(self, aggregate):
        """Make targets without labels, for the scales of features."""
        shapes = {key: (len(self.values), Irrep.parse(key).dim, n) for key, n in self.irreps.items()}
        return self._targets(self.batch, aggregate, {key: np.zeros(shape) for key, shape in shapes.items()})

    def of_values(self, aggregate):
        """Make targets of the values alone, of the structures that have some."""
        blocks, kinds = {}, self.irrep_of_component
        for k, (key, n) in enumerate(self.irreps.items()):
            values = self.values[self.known][:, kinds == k] / np.sqrt(self.squares["values"][k])
            blocks[key] = values.reshape(len(values), -1, n)
        return self._targets(self.batch[np.flatnonzero(self.known)], aggregate, blocks, self.known)

    def _targets(self, batch, aggregate, blocks, picked=slice(None)):
        segments, rows = batch.structure_of_atom, np.ones(batch.n_atoms)
        if aggregate == "mean":
            rows /= np.diff(batch.offsets)[segments]
        weights = np.sqrt(self.sample_weights[picked])
        return [
            Target(f"y:{key}", Irrep.parse(key), block, segments, rows, weights, False) for key, block in blocks.items()
        ]


def read_derivative_targets(y, batch, others, network, sample_weight, target, per_atom):
    """Check labels.

    Parameters
    ----------
    y : array-like or None
        Tensors of structures, NaN or None where they are not known.
    batch : StructureBatch
    others : tuple
        Forces, stress and derivatives, as for ``SparseTensorGPR.fit``.
    network : NetworkParameters
    sample_weight : ndarray of shape (n_structures,) or None
    target, per_atom
        As for :func:`read_targets`.

    Returns
    -------
    DerivativeTargets

    Raises
    ------
    TypeError, ValueError
        If they do not fit the structures; the message says which one.
    """
    if isinstance(y, dict):
        raise TypeError(
            "forces, stress and derivatives are those of one property, y is a dict of several: fit it alone, or the "
            "dict without them"
        )
    target, per_atom = of_property(target, "y"), of_property(per_atom, "y")
    source = Source(batch)
    labels, known = read_partial_labels(y, source.n_atoms, target, per_atom, others[2])
    tensor = labels.tensor
    if others[0] is not None or others[1] is not None:
        check_scalar(tensor, "fitted")

    def project(values, name):
        if tensor.asymmetry(values) > SYMMETRY_TOLERANCE:
            raise ValueError(
                f"{name} breaks the declared symmetry {tensor.formula!r}: state the symmetry that it has (inferred: "
                f"target={infer_formula(values)!r})"
            )
        return tensor.project(values)

    derivatives = read_all_derivatives(source, labels, known, others, project)
    if not derivatives:
        raise ValueError("none of the forces, stress and derivatives are known: leave them out to fit y alone")
    if not batch.inputs:  # which may leave structures less symmetry
        warn_if_unreachable(batch, labels)
    known = np.ones(batch.n_structures, dtype=bool) if known is None else known
    weights = np.ones(batch.n_structures) if sample_weight is None else sample_weight
    blocks = tensor.to_irreps(project(labels.values, "y"))
    baseline = _baseline(blocks, batch, known, network, weights)
    if baseline is not None:
        blocks["0e"] = blocks["0e"] - (composition(batch, network) @ baseline)[:, None]
    irreps = {key: block.shape[2] for key, block in blocks.items()}
    values = np.concatenate([block.reshape(len(block), -1) for block in blocks.values()], axis=1)
    slopes, strains = _arrays(derivatives, batch, source.volumes, values.shape[1])
    of_slopes = network.derivative_weight if others[0] is None else network.force_weight
    kinds = {"values": 1.0, "slopes": float(of_slopes), "strains": float(network.stress_weight)}
    values = np.where(known[:, None], values, np.nan)
    return DerivativeTargets(batch, tensor, irreps, values, slopes, strains, baseline, known, weights, kinds)


def composition(batch, network):
    """Columns of the baseline of each structure."""
    species, columns = np.unique(batch.numbers, return_inverse=True)
    counts = np.zeros((batch.n_structures, len(species)))
    np.add.at(counts, (batch.structure_of_atom, columns), 1.0)
    return composition_design(counts, network.baseline, network.aggregate)


def _baseline(blocks, batch, known, network, weights):
    if network.baseline is None or "0e" not in blocks or not known.any():
        return None
    return fit_baseline(composition(batch, network)[known], blocks["0e"][known, 0], None, weights[known])


def _arrays(derivatives, batch, volumes, n_components):
    """Make arrays of the derivatives by positions and strain, NaN where they are not known."""
    slopes = np.full((batch.n_atoms, 3, n_components), np.nan)
    strains = np.full((batch.n_structures, 3, 3), np.nan)
    if "forces" in derivatives:
        slopes[derivatives["forces"].owners] = -derivatives["forces"].values[:, :, None]
    if "derivatives" in derivatives:
        slopes[derivatives["derivatives"].owners] = derivatives["derivatives"].values
    if "stress" in derivatives:
        owners, voigt = derivatives["stress"].owners, derivatives["stress"].values / VOIGT_WEIGHTS
        for k, (i, j) in enumerate(zip(*VOIGT, strict=True)):
            strains[owners, i, j] = strains[owners, j, i] = voigt[:, k] * volumes[owners]
    return slopes, strains


def _atoms_of(offsets, structures):
    counts = np.diff(offsets)[structures]
    ends = np.cumsum(counts)
    return np.repeat(offsets[structures] - (ends - counts), counts) + np.arange(ends[-1])


def _mean_square(labels):
    known = np.isfinite(labels)
    return float(np.mean(labels[known] ** 2)) if known.any() else np.nan


def _raised(squares):
    """Mean squares of irreps; of those that vanish, that of all."""
    there = np.isfinite(squares)
    if not there.any():
        return squares
    whole = squares[there].mean()
    level = whole if whole > 0 else 1.0
    return np.where(there & (squares <= _ROUNDING**2 * whole), level, squares)
