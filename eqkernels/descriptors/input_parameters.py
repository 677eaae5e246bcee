"""Parameters of descriptors with inputs beyond the geometry, and what ``fit`` learns about these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels._parameters import Flag, is_number
from eqkernels.descriptors.density.input_channels import InputChannels
from eqkernels.structures.inputs import input_kinds, with_inputs


class InputKinds:
    """None, or a dict from names to irreps."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if value is None:
            return None
        if (
            not isinstance(value, dict)
            or not value
            or not all(isinstance(one, str) for pair in value.items() for one in pair)
        ):
            return "must be None or a dict from the names of inputs to their irreps, such as {'electric_field': '1o'}"
        return None


class InputWeights:
    """A positive number, or a dict of them."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        numbers = list(value.values()) if isinstance(value, dict) else [value]
        if all(is_number(one) and one > 0 for one in numbers):
            return None
        return "must be a positive, finite number, or a dict of them by the name of the input"


@dataclass(eq=False, repr=False, kw_only=True)
class ReadsInputs:
    """Parameters of what depends on more than the geometry, and how it reads this.

    Parameters
    ----------
    inputs : dict of str to str, default=None
        Tensors beside the geometry that the features depend on: for each key of ``atoms.info`` (a tensor of the
        structure: an electric or magnetic field, a strain) or of ``atoms.arrays`` (one of each atom: charges,
        velocities, spins) its irreps, e.g. ``{"electric_field": "1o", "initial_charges": "0e"}``. ``"1o"`` and
        ``"1e"`` are vectors (x, y, z), ``"0e+2e"`` symmetric matrices, see :class:`InputKind`; ``" time-odd"`` behind
        the irreps says that it changes sign under time reversal, as a magnetic field or a velocity does.
    input_weight : float or dict of str to float, default=0.1
        Size of the inputs beside the density: each is divided by the root mean square of its norm over the structures
        of the fit and multiplied by this. With 1 an input changes environments as much as a neighbor does; the default
        suits fields and charges that are a perturbation.
    """

    inputs: Mapping[str, str] | None = None
    input_weight: float | Mapping[str, float] = 0.1

    _input_constraints = {"inputs": InputKinds(), "input_weight": InputWeights()}

    @property
    def _takes_batches(self) -> bool:
        """Whether frames may be read before: a batch holds the geometry alone."""
        return self.inputs is None

    @property
    def _declared_inputs(self) -> dict[str, str] | None:
        """Inputs to be read; None where they cannot be, of which fit says what is wrong."""
        return None if InputKinds().problem(self.inputs) else dict(self.inputs or {})

    def _input_relations(self) -> Iterator[str]:
        """Problems of inputs that do not go together with other parameters."""
        if self.inputs is None or InputKinds().problem(self.inputs):
            return
        others: Any = self
        if isinstance(self.input_weight, dict) and set(self.input_weight) != set(self.inputs):
            yield f"input_weight has the names {sorted(self.input_weight)}, inputs {sorted(self.inputs)}"
        for name, kind in input_kinds(self.inputs).items():
            degree = max(irrep.l for irrep in kind.irreps)
            if isinstance(others.l_max, int) and degree > others.l_max:
                yield f"the input {name!r} has degree {degree}, more than l_max={others.l_max}: increase l_max"

    def _fit_inputs(self, batch):
        """Learn where the inputs are, and their size."""
        self.input_per_atom_: dict[str, float] = {}
        self.input_scales_: dict[str, float] = {}
        for name in self.inputs or ():
            values = batch.inputs[name]
            weight = self.input_weight[name] if isinstance(self.input_weight, Mapping) else self.input_weight
            size = np.sqrt(np.mean(np.sum(values.values**2, axis=1)))
            self.input_per_atom_[name] = float(values.per_atom)
            self.input_scales_[name] = float(weight / size if size > 0 else weight)

    def _batch_to_fit(self, X):
        """Read frames whose inputs may be elsewhere than those of an earlier fit."""
        vars(self).pop("input_per_atom_", None)
        return self._batch(X)

    def _batch(self, X, origin=0):
        """Read frames with the inputs."""
        problem = InputKinds().problem(self.inputs)
        if problem is not None:
            raise ValueError(f"{type(self).__name__}: inputs={self.inputs!r} {problem}")
        batch = with_inputs(X, input_kinds(self.inputs or {}), origin)
        for name, per_atom in getattr(self, "input_per_atom_", {}).items() if self.inputs else ():
            if batch.inputs[name].per_atom != bool(per_atom):
                places = ("atoms.arrays", "atoms.info") if per_atom else ("atoms.info", "atoms.arrays")
                raise ValueError(f"the input {name!r} is in {places[1]}, at fit it was in {places[0]}")
        return batch


@dataclass(eq=False, repr=False, kw_only=True)
class InputParameters(ReadsInputs):
    """Parameters of descriptors whose features depend on more than the geometry.

    Parameters
    ----------
    inputs, input_weight
        As of :class:`ReadsInputs`.
    neighbor_inputs : bool, default=True
        Whether inputs of atoms enter the densities of the centers that they are neighbors of, a scalar as the weight
        of a Gaussian and a tensor coupled with the direction to the neighbor. False: those of the center alone, which
        make far fewer features.
    """

    neighbor_inputs: bool = True

    _input_constraints = {**ReadsInputs._input_constraints, "neighbor_inputs": Flag()}

    def _input_channels(self, n_density, n_summed=0):
        """Channels of the inputs beside those of the density, of which the last are sums over species."""
        per_atom = {name: bool(value) for name, value in self.input_per_atom_.items()}
        others: Any = self
        rest = int(others.l_max), n_density, bool(self.neighbor_inputs), n_summed
        return InputChannels(input_kinds(self.inputs or {}), per_atom, self.input_scales_, *rest)
