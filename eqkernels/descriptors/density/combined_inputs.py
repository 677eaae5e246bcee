"""Coefficients of a density with inputs beyond the geometry, and of fields of all atoms, side by side.

Channels are those of :class:`~eqkernels.descriptors.density.input_expansion.InputExpansion`, then those of the fields.
All are taken to change together, so that no two ranges of channels are passed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqkernels.descriptors.density._derivative_loops import subtract_changes
from eqkernels.descriptors.density.combined import CombinedExpansion
from eqkernels.descriptors.density.input_expansion import InputExpansion


@dataclass(frozen=True)
class CombinedInputExpansion(CombinedExpansion):
    """Coefficients c[i, lm, q] of a density with inputs and of a potential density.

    Attributes are those of :class:`CombinedExpansion`, with ``inputs``.
    """

    @cached_property
    def near(self):
        """Density with a cutoff, with its inputs."""
        numbers = self.n_max, self.l_max, self.center_weight, self.species
        return InputExpansion(self.table, *numbers, self.contraction, self.inputs)

    @property
    def weights(self):
        """Components of inputs that weight the Gaussians of neighbors."""
        return self.near.weights

    def changed(self, s=None):
        """All channels."""
        return 0, self.n_channels

    def channel_changes(self, block, moves, s, a, b):
        """Make the changes of all channels by the moves of the centers a .. b - 1."""
        few, rows = self._near_rows(block, moves, s, a, b)
        n_moves, n_near = moves.offsets[b] - moves.offsets[a], self.near.n_channels
        out = np.zeros((n_moves, 3, (self.l_max + 1) ** 2, self.n_channels))
        first, width = self.near.changed(s)
        out[rows, ..., first : first + width] = self.near.channel_changes(block.near, few, s, a, b)
        first, width = self.far.changed(s)
        out[..., n_near + first : n_near + first + width] = self.far.channel_changes(block.far, moves, s, a, b)
        return out

    def strain_changes(self, block, a, b):
        """Make the changes (b - a, 9, (l_max + 1)^2, n_channels) of the centers a .. b - 1 by strain."""
        parts = self.near.strain_changes(block.near, a, b), self.far.strain_changes(block.far, a, b)
        return np.concatenate(parts, axis=3)

    def subtract(self, owners, first, changes, out):
        """Subtract changes of the channels from those of their centers."""
        subtract_changes(owners, first, changes, out)

    def contract_inputs(self, block, a, b, cotangent, own, by_pairs):
        """Write the derivatives of sum(cotangent * coefficients) by the inputs, of which the fields know nothing."""
        near = np.ascontiguousarray(cotangent[..., : self.near.n_channels])
        self.near.contract_inputs(block.near, a, b, near, own, by_pairs)

    def input_changes(self, block, a, b):
        """Make the changes of the coefficients by the inputs of the atoms that they depend on."""
        owners, atoms, changes = self.near.input_changes(block.near, a, b)
        fields = np.zeros((*changes.shape[:-1], self.far.n_channels))
        return owners, atoms, np.concatenate([changes, fields], axis=-1)
