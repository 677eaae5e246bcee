"""Features of the layers of MACE, read from the outputs of its calculator.

A layer has its scalars first, then the components of its vectors, channel by channel, and so on: the irreps of its last
linear map. Layers stand one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eqkernels._parameters import is_integer
from eqkernels.descriptors.external import ExternalFeatures
from eqkernels.descriptors.interop import arrays_of
from eqkernels.so3 import Irreps


class MACEFeatures(ExternalFeatures, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Invariant and equivariant features of the layers of a MACE network.

    Parameters
    ----------
    calculator : mace.calculators.MACECalculator
        With a single network, such as ``mace_off("small", default_dtype="float64")``. In single precision, predictions
        depend on the orientation by some 1e-4.
    layers : list of int, default=None
        Which layers, from 0; None: all. The last has scalars only.
    layout : {"mul_ir", "ir_mul"}, default="mul_ir"
        Order of the numbers: the first but for networks that were converted to others (``check`` tells).
    check : bool, default=True
        Whether ``fit`` rotates and inverts a structure, and refuses features that do not rotate with it.

    Attributes
    ----------
    irreps_ : str
        The irreps of the blocks.
    widths_ : dict of str to int
        Features of each block.

    See Also
    --------
    FunctionFeatures : Those of any other network.

    Notes
    -----
    The irreps of the layers are those of ``calculator.models[0].products[k].linear.irreps_out``, the numbers those of
    ``calculator.get_descriptors(atoms, invariants_only=False)``. Targets are made of irreps that the layers have: with
    hidden irreps up to 1o, dipoles but no polarizabilities. Clones share the calculator, which
    :func:`~eqkernels.save_model` does not store: save the model that was fitted to the features, not the pipeline.

    References
    ----------
    I. Batatia, D. P. Kovacs, G. N. C. Simm, C. Ortner, G. Csanyi, Advances in Neural Information Processing Systems 35
    (2022), https://arxiv.org/abs/2206.07697.

    Examples
    --------
    >>> from mace.calculators import mace_off  # doctest: +SKIP
    >>> from eqkernels import TensorKernelRidge  # doctest: +SKIP
    >>> model = TensorKernelRidge(descriptor=MACEFeatures(mace_off("small", default_dtype="float64")))  # doctest: +SKIP
    """

    _field = "layer"
    convention = "e3nn"

    def __init__(
        self, calculator: Any, *, layers: Sequence[int] | None = None, layout: str = "mul_ir", check: bool = True
    ):
        self.calculator = calculator
        self.layers = layers
        self.layout = layout
        self.check = check

    @property
    def _maker(self):
        return "calculator.get_descriptors"

    def _irreps_of_layers(self):
        if not hasattr(self.calculator, "get_descriptors") or not hasattr(self.calculator, "models"):
            raise TypeError(
                f"calculator={type(self.calculator).__name__} must be a MACECalculator, with get_descriptors and models"
            )
        if len(self.calculator.models) != 1:
            raise ValueError(
                f"calculator has {len(self.calculator.models)} networks, whose features are not the same: make it of "
                "a single one"
            )
        return [Irreps(str(one.linear.irreps_out)) for one in self.calculator.models[0].products]

    def _terms(self):
        found = self._irreps_of_layers()
        layers = range(len(found)) if self.layers is None else self.layers
        whole = isinstance(layers, Sequence) and all(is_integer(one) and 0 <= one < len(found) for one in layers)
        if not whole or not len(layers) or len(set(layers)) < len(layers):
            raise ValueError(f"layers={self.layers!r} must be None or different numbers from 0 to {len(found) - 1}")
        return [(int(one), found[one]) for one in layers]

    def _rows(self, frames):
        irreps = self._irreps_of_layers()
        ends = np.cumsum([0, *(one.dim for one in irreps)])
        columns = np.concatenate([np.arange(ends[layer], ends[layer + 1]) for layer, _ in self._terms()])
        rows = []
        for atoms in frames:
            array = arrays_of(self.calculator.get_descriptors(atoms.copy(), invariants_only=False))
            if array.ndim != 2 or array.shape[1] != ends[-1]:
                raise ValueError(
                    f"calculator.get_descriptors returned an array of shape {array.shape}, but its layers have the "
                    f"irreps {' and '.join(map(str, irreps))}, {ends[-1]} numbers: take FunctionFeatures, and state "
                    "what they are"
                )
            rows.append(array[:, columns])
        return rows
