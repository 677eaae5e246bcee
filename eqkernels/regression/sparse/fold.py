"""The map of a sparse fit: structures and labels in, triangular factors out, block by block within a memory budget."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from eqkernels._ranges import structure_blocks
from eqkernels.regression.base import labelled_rows
from eqkernels.regression.baseline import composition_design
from eqkernels.regression.independence import allowed_parts, weigh_equivalents
from eqkernels.regression.sparse.derivatives import derivative_rows
from eqkernels.regression.sparse.element_charges import contrasts, element_dipoles
from eqkernels.regression.sparse.model import SparseModel
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.structures import atom_counts

# Name of the totals of an irrep among the factors that a part becomes.
TOTALS = "{} totals"


@dataclass
class FoldJob:
    """What makes a part into triangular factors of the rows of its labels.

    The columns of the rows are: kernels with the sparse points; the standard deviation of the label by the prior, whose
    sum of squares is the trace of the full kernel matrix; baseline; labels. Derivatives have factors of their own with
    the same columns, of which those of prior and composition are zero: the composition does not change, and what sparse
    environments leave out is estimated from the tensors alone.

    Attributes
    ----------
    model : SparseModel
    descriptor : transformer or None
        Fitted; None where X are features.
    """

    model: SparseModel
    descriptor: Any

    def __call__(self, part):
        """Fold a part: data of the factor and totals of each irrep, and of derivatives as far as there are any."""
        model = self.model
        factors = {irrep: TriangularFactor(model.size(irrep)) for irrep in model.multiplicities}
        totals = {TOTALS.format(irrep): np.zeros(3) for irrep in model.multiplicities}
        for block in self._blocks(part):
            features, shares = self._features(block)
            labelled = None if block.known is None else np.flatnonzero(block.known)
            for rows in model.slices(len(features) if labelled is None else len(labelled)):
                rows = rows if labelled is None else labelled[rows]
                share = None if shares is None else shares[rows]
                for irrep in model.multiplicities:
                    blocks, _, weight = block.labelled(rows, None)
                    made, sums = self.rows(features[rows], irrep, blocks[irrep], weight, share)
                    factors[irrep].fold(made)
                    totals[TOTALS.format(irrep)] += sums
            if block.derivatives:
                for key, rows in derivative_rows(self, block, features):
                    size = factors[key.split()[0]].size
                    factors[key] = factors.get(key, TriangularFactor(size)).fold(rows)
        return {irrep: factor.data for irrep, factor in factors.items()} | totals

    def merge(self, left, right):
        """Factors of two sets of structures together."""
        merged = left | right  # derivatives may be in one only
        for key in left.keys() & right.keys():
            if key.endswith(TOTALS.format("")):
                merged[key] = left[key] + right[key]
                continue
            size = self.model.size(key.split()[0])
            merged[key] = TriangularFactor(size, left[key]).copy().merge(TriangularFactor(size, right[key])).data
        return merged

    def rows(self, features, irrep, values, weight, shares):
        """Rows of one irrep, (n (2 lambda + 1), size), and their totals.

        Parameters
        ----------
        features : EquivariantFeatures
            One structure for each label.
        irrep : str
        values : ndarray of shape (n, 2 lambda + 1, multiplicity)
        weight, shares : ndarray of shape (n,), or None
            Of the user, and of equivalent atoms.

        Returns
        -------
        rows : ndarray of shape (n (2 lambda + 1), size)
        totals : ndarray of shape (3,)
            How many labels these are, components that count as a part of one; the sums of the weights, and of the
            logarithms of the weights of the user.
        """
        model = self.model
        n, d, multiplicity = values.shape
        n_kernel = model.n_kernel(irrep)
        columns = np.empty((model.size(irrep), n, d))
        used, pivots = model.points_in_use(irrep)
        kernel = model.kernel(features, used, irrep=irrep)
        point, component = np.divmod(pivots, d)
        columns[:n_kernel] = kernel[:, point, :, component]
        own = model.kernel.diag(features, irrep=irrep)
        # what symmetry makes zero, such as the variance of a dipole across the plane of a molecule, may be -1e-19
        columns[n_kernel] = np.sqrt(np.maximum(np.einsum("naa->na", own), 0.0))
        if model.n_baseline(irrep) and irrep != "0e":
            dipoles = element_dipoles(features, model.species) @ contrasts(len(model.species))
            columns[n_kernel + 1 : -multiplicity] = dipoles.transpose(2, 0, 1)
        elif model.n_baseline(irrep):
            design = composition_design(features.composition(model.species), model.baseline, model.kernel.aggregate)
            columns[n_kernel + 1 : -multiplicity, :, 0] = design.T
        offset = model.kernel.offset(features, irrep)
        values = values if offset is None else values - offset[..., None]
        counts = np.full(n, d)
        if irrep == "0e" or not model.n_baseline(irrep):  # charges of elements reach beyond the kernel
            values, counts = allowed_parts(own, self._usual_sizes(features, irrep), values)
        columns[-multiplicity:] = values.transpose(2, 0, 1)
        whole = np.ones(n) if shares is None else shares
        user = np.ones(n) if weight is None else weight
        if weight is not None or shares is not None:
            columns *= np.sqrt(user * whole)[:, None]
        positive, parts = user > 0, whole * counts / d
        totals = parts[positive].sum(), (user * whole).sum(), parts[positive] @ np.log(user[positive])
        return columns.reshape(-1, n * d).T, np.array(totals)

    @cached_property
    def _usual_size(self):
        """Mean eigenvalue of the kernel of a sparse environment with itself, by irrep."""
        own = {irrep: self.model.kernel.diag(self.model.points, irrep=irrep) for irrep in self.model.multiplicities}
        return {irrep: np.mean(np.einsum("naa->na", one)) for irrep, one in own.items()}

    def _usual_sizes(self, features, irrep):
        mean = self.model.kernel.aggregate == "mean"
        return self._usual_size[irrep] * (1.0 if mean else np.diff(features.offsets))

    def _blocks(self, part):
        n_atoms = atom_counts(part.X)
        for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(n_atoms)]), self.model.centers_per_block()):
            yield part.block(start, stop, n_atoms)

    def _features(self, block):
        """Features with one structure for each label, and the shares of equivalent atoms, None where there are none."""
        features = block.X if self.descriptor is None else self.descriptor.transform(block.X)
        if self.descriptor is None:
            features.origin = block.start
        rows = slice(None) if block.atoms is None else labelled_rows(features, block.atoms)
        unknown = np.flatnonzero(~np.isin(features.species[rows], self.model.species))
        if len(unknown):
            row = np.arange(len(features.species))[rows][unknown[0]]
            symbol, where = chemical_symbols[features.species[row]], features.where(row)
            raise ValueError(
                f"there are no sparse points for the species {symbol} (first in {where}): sparse points are chosen at "
                "the first fit, which must have all species"
            )
        if block.atoms is None:
            return features, None
        atoms = features.split_centers(rows)
        return atoms, weigh_equivalents(atoms, features.structures[rows], None)[1]
