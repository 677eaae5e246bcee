"""Parameters of networks: their defaults and their ranges. What they mean says :class:`EquivariantNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.random import RandomState
from sklearn.base import BaseEstimator

from eqkernels._parameters import ArrayName, Choice, Flag, Heads, Integer, Jobs, Number, Verbosity
from eqkernels.descriptors.input_parameters import InputKinds, ReadsInputs
from eqkernels.learned.objectives import OBJECTIVES
from eqkernels.regression.baseline import BASELINES
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch, as_list
from eqkernels.structures.groups import MOLECULES, with_groups
from eqkernels.structures.inputs import input_kinds


@dataclass(eq=False, repr=False, kw_only=True)
class NetworkParameters(ReadsInputs, BaseEstimator):
    """What the transformer and the regressor have in common; all but the first are keyword-only."""

    cutoff: float = field(default=6.0, kw_only=False)
    architecture: str = "message_passing"
    channels: int = 16
    l_max: int = 2
    n_layers: int = 2
    products: bool = True
    body_order: int = 3
    n_radial: int = 6
    n_hidden: int = 16
    attention: bool | int = False
    nonlinearity: str = "gate"
    pooling: str | None = None
    pooling_layers: int = 1
    pooling_cutoff: float | None = None
    target: str | CartesianTensor | dict | None = None
    baseline: Any = "composition"
    aggregate: str = "sum"
    objective: str = "lml"
    force_weight: float = 1.0
    stress_weight: float = 1.0
    derivative_weight: float = 1.0
    solver: str = "auto"
    max_iter: int | None = None
    time_budget: float | None = None
    learning_rate: float = 0.01
    batch_size: int | None = None
    weight_decay: float = 1e-4
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 20
    n_init: int = 1
    warm_start: bool = False
    random_state: int | RandomState | None = None
    n_jobs: int | None = None
    verbose: int = 0
    handle_unknown: str = "error"
    species_embedding: str | None = "auto"
    n_species_channels: int | None = None
    per_atom: bool | dict | None = None
    time_odd: bool = False
    input_weight: float | Mapping[str, float] = 1.0

    _constraints = {
        **ReadsInputs._input_constraints,
        "time_odd": Flag(),
        # larger cutoffs are far beyond what neighbors are for, in any unit of length that positions come in
        "cutoff": Number(above=0, high=1000.0, why=": check its unit, that of the positions"),
        "architecture": Choice("message_passing", "ace"),
        "channels": Integer(1, 1024),
        "l_max": Integer(0, 4),
        "n_layers": Integer(1, 8),
        "products": Flag(),
        "body_order": Integer(1, 4),
        "n_radial": Integer(1, 50),
        "n_hidden": Integer(1, 1024),
        "attention": Heads(),
        "nonlinearity": Choice("gate", "tensor_product"),
        "pooling": ArrayName(none=True),
        "pooling_layers": Integer(1, 8),
        "pooling_cutoff": Number(above=0, high=1000.0, none=True, why=": check its unit, that of the positions"),
        "baseline": Choice(*BASELINES),
        "aggregate": Choice("sum", "mean"),
        "objective": Choice(*OBJECTIVES),
        "force_weight": Number(above=0),
        "stress_weight": Number(above=0),
        "derivative_weight": Number(above=0),
        "solver": Choice("auto", "lbfgs", "adam"),
        "max_iter": Integer(0, 10**9, none=True),
        "time_budget": Number(above=0, none=True),
        "learning_rate": Number(above=0),
        "batch_size": Integer(1, 10**9, none=True),
        "weight_decay": Number(low=0),
        "early_stopping": Flag(),
        "validation_fraction": Number(above=0, below=1),
        "n_iter_no_change": Integer(1, 10**9),
        "n_init": Integer(1, 10**6),
        "warm_start": Flag(),
        "handle_unknown": Choice("error", "ignore", "embed"),
        "species_embedding": Choice("auto", "periodic", None),
        "n_species_channels": Integer(1, 118, none=True),
        "n_jobs": Jobs(),
        "verbose": Verbosity(),
    }

    @property
    def _reads_groups(self):
        """Whether groups are read from an array of the atoms."""
        return self.pooling not in (None, MOLECULES)

    @property
    def _takes_batches(self):
        return self.inputs is None and not self._reads_groups

    @property
    def _declared_inputs(self):
        return None if self._reads_groups else super()._declared_inputs

    def _batch(self, X, origin=0):
        """Read frames with the inputs and the groups of their atoms."""
        frames = X if isinstance(X, StructureBatch) else as_list(X, origin)
        return with_groups(frames, self.pooling, super()._batch(frames, origin))

    def _input_relations(self):
        """Problems of inputs that do not go together with other parameters."""
        yield from super()._input_relations()
        if self.inputs is None or InputKinds().problem(self.inputs):
            odd = []
        else:
            odd = [kind for kind in input_kinds(self.inputs).values() if kind.time < 0]
        if self.time_odd is True and not odd:
            yield (
                "time_odd=True needs inputs that change sign under time reversal: declare them, such as "
                "inputs={'magnetic_field': '1e time-odd'}"
            )
