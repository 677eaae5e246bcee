"""Spaces of tensors that groups act on: irreps, and the components that users name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqkernels.so3 import CartesianTensor, Irreps, cartesian_tensor
from eqkernels.so3.cartesian import PSEUDO
from eqkernels.so3.properties import find_property


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """Tensors of one kind.

    Attributes
    ----------
    name : str
    irreps : Irreps
    rows : ndarray of shape (irreps.dim, n_components)
        Orthonormal: the tensor of each irreducible component, flat.
    shape : tuple of int
        Shape of a tensor.
    names : tuple of str
        Of its components.
    per_atom : bool
    """

    name: str
    irreps: Irreps
    rows: NDArray[np.float64]
    shape: tuple[int, ...]
    names: tuple[str, ...]
    per_atom: bool

    @property
    def l_max(self) -> int:
        """Largest degree."""
        return max((irrep.l for _, irrep in self.irreps), default=0)


def target_space(target: Any, per_atom: bool | None = None) -> TargetSpace:
    """Space of a target.

    Parameters
    ----------
    target : str, CartesianTensor or Irreps
    per_atom : bool, default=None
        None: as the property has it.

    Returns
    -------
    TargetSpace
    """
    if isinstance(target, Irreps) or (isinstance(target, str) and re.match(r"\s*\d", target)):
        return _irreps_space(Irreps(target), bool(per_atom))
    tensor = cartesian_tensor(target)
    written = target.formula if isinstance(target, CartesianTensor) else target
    known = find_property(written)
    if per_atom is None:
        per_atom = known is not None and known.per_atom is True
    names = tuple("".join(letters) for letters in product("xyz", repeat=tensor.rank)) if tensor.rank else ("value",)
    return TargetSpace(_title(written, tensor), tensor.irreps, tensor.change_of_basis, tensor.shape, names, per_atom)


def _title(written, tensor):
    if not tensor.axial or written != tensor.formula:
        return written or "scalar"
    return (written or "scalar") + (
        f" ({', '.join(tensor.axial)} axial)" if tensor.axial != PSEUDO else " (pseudotensor)"
    )


def _irreps_space(irreps, per_atom):
    names = []
    for multiplicity, irrep in irreps:
        for copy in range(multiplicity):
            label = f"{irrep}" + (f" ({copy + 1})" if multiplicity > 1 else "")
            names += [f"{label},{m}" for m in range(-irrep.l, irrep.l + 1)]
    return TargetSpace(str(irreps), irreps, np.eye(irreps.dim), (irreps.dim,), tuple(names), per_atom)
