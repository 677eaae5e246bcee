"""Blocks by irrep: which ones a descriptor makes, stated or learned from the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels._parameters import Flag
from eqkernels.so3 import Irrep, Irreps
from eqkernels.structures import irreps_of_labels, read_labels

# Without targets: what dipoles and polarizabilities need.
_DEFAULT_IRREPS = "0e+1o+2e"
_LAMBDA_LIMIT = 6


@dataclass(eq=False, repr=False, kw_only=True)
class IrrepParameters:
    """Parameters of descriptors that make blocks of chosen irreps.

    Parameters
    ----------
    irreps : "auto", str or Irreps, default="auto"
        Blocks to compute, e.g. ``"0e+2e"``. ``"auto"`` takes those that the targets y passed to ``fit`` are made of
        (a dipole: 1o; a symmetric matrix: 0e+2e), or 0e+1o+2e without y, and always 0e, which kernels with zeta > 1
        need. Where y can be read in several ways (vectors of three atoms or a matrix of the structure), those of each.
    per_atom : bool, default=None
        Whether y belongs to atoms, for ``irreps="auto"``; None: either.
    time_odd : bool, default=False
        Whether the target changes sign under time reversal, as a magnetization or a velocity does: all blocks but
        ``0e`` are then made of an odd number of time-odd inputs. False: of an even number.
    """

    irreps: Any = "auto"
    per_atom: bool | None = None
    time_odd: bool = False

    _irrep_constraints = {"time_odd": Flag()}

    def _choose_irreps(self, batch, y):
        """Learn ``irreps_``, the irreps of the blocks, ascending."""
        if isinstance(self.irreps, str) and self.irreps == "auto":
            irreps = (
                Irreps(_DEFAULT_IRREPS) if y is None else irreps_of_labels(y, np.diff(batch.offsets), self.per_atom)
            )
            irreps = irreps + Irreps("0e")
            if y is not None:
                self._warn_of_symmetry(batch, y)
        else:
            irreps = Irreps(self.irreps)
        if not len(irreps):
            raise ValueError(f"irreps={self.irreps!r} names no irrep: write e.g. irreps='0e+2e', or 'auto'")
        chosen = sorted({irrep for _, irrep in irreps}, key=lambda irrep: (irrep.l, -irrep.p))
        for irrep in chosen:
            if irrep.l > _LAMBDA_LIMIT:
                raise ValueError(f"irrep {irrep}: lambda must not exceed {_LAMBDA_LIMIT}")
        self.irreps_ = "+".join(map(str, chosen))

    def _warn_of_symmetry(self, batch, y):
        """Labels that the symmetry of their structures forbids, where there is one way to read them."""
        from eqkernels.symmetry.reach import warn_if_unreachable  # which imports models, for other checks

        try:
            labels = read_labels(y, np.diff(batch.offsets), None, self.per_atom)
        except ValueError:
            return
        if not batch.inputs:  # of this descriptor, or of others in a union
            warn_if_unreachable(batch, labels)

    def _irreps(self):
        return [irrep for _, irrep in Irreps(self.irreps_)]

    def _parsed_block(self, irrep):
        """Irrep of one of the blocks, by its key."""
        check_fitted(self)
        if not isinstance(irrep, str) or irrep not in self.irreps_.split("+"):
            raise ValueError(f"irrep={irrep!r} must be one of the blocks {self.irreps_.replace('+', ', ')}")
        return Irrep.parse(irrep)
