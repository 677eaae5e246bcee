r"""Inputs beyond the geometry in networks: fields, charges, velocities and spins as the first features of atoms.

With the components x of the inputs of an atom, of irreps L (one or several copies k of each, scaled), these are

.. math:: h^{(0)}_{iLc} = \delta_{L0}\, e_c + \sum_k W_{Lkc}\, x_{ikL} ,

the embedding e of the species beside mixtures of the inputs, W that of the species of the atom. The first messages
couple them with the harmonics of edges, so that a scalar of a neighbor is a weight and a tensor is coupled with its
direction; products couple those of the center with messages and with each other. In the cluster expansion they make
further densities beside that of the positions (R. Drautz, Phys. Rev. B 102, 024104 (2020)),

.. math:: \rho_{ioc} = h^{(0)}_{ioc} + \sum_j R_{Llo,c}(r_{ij})\, [Y_l(\hat{\mathbf r}_{ij}) \otimes h^{(0)}_{jLc}]_o .

Features have, beside degree and parity, a sign under time reversal, and products multiply the signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from eqkernels.descriptors.products.coupled_products import signed_irrep, time_sign
from eqkernels.learned import operations as op
from eqkernels.learned.coupling import position, sort_irreps
from eqkernels.learned.tape import Variable
from eqkernels.so3 import Irrep
from eqkernels.structures.inputs import cartesian_derivatives, input_kinds


def signed(irrep, time):
    """Irrep of an output as it is inside the network: with the sign of the target, invariants without."""
    return irrep if time == 1 or str(irrep) == "0e" else signed_irrep(irrep.l, irrep.p, time)


@dataclass(frozen=True)
class InputLayout:
    """Where the components of inputs stand as features.

    Parameters
    ----------
    copies : tuple of Irrep
        Those of all inputs, copy by copy, with signs under time reversal.
    """

    copies: tuple[Irrep, ...]

    @cached_property
    def irreps(self):
        """The different ones."""
        return sort_irreps(set(self.copies))

    @cached_property
    def n_copies(self):
        """Largest number of copies of an irrep: the channels of the features, of which some have zeros."""
        return max(self.copies.count(irrep) for irrep in self.irreps)

    @cached_property
    def places(self):
        """Component and channel of the features of every component of the inputs."""
        components: list[int] = []
        channels: list[int] = []
        seen = dict.fromkeys(self.irreps, 0)
        for irrep in self.copies:
            part = position(self.irreps, irrep)
            components += range(part.start, part.stop)
            channels += [seen[irrep]] * irrep.dim
            seen[irrep] += 1
        return np.array(components), np.array(channels)

    def spread(self, values):
        """Features (n, components, n_copies) of components (n, dim)."""
        out = np.zeros((len(values), sum(irrep.dim for irrep in self.irreps), self.n_copies))
        out[:, self.places[0], self.places[1]] = values
        return out

    def gathered(self, features):
        """Components (n, dim) of features."""
        return features[:, self.places[0], self.places[1]]


def check_products(inputs, outputs, time, remedy):
    """Refuse inputs that no output can depend on, in a network that multiplies no features with each other.

    Its sums over neighbors keep the sign beside :math:`(-1)^l` and that under time reversal of what they sum.

    Parameters
    ----------
    inputs : dict of str to str, or None
    outputs : tuple of Irrep
    time : {1, -1}
    remedy : str

    Raises
    ------
    ValueError
        That names them.
    """

    def sector(irrep):
        return irrep.p * (-1) ** irrep.l, time_sign(irrep)

    reached = {(1, 1), *(sector(signed(irrep, time)) for irrep in outputs)}
    idle = [name for name, text in (inputs or {}).items()
            if not any(sector(irrep) in reached for irrep in input_copies({name: text}))]  # fmt: skip
    if idle:
        names, irreps = ", ".join(map(repr, idle)), ", ".join(map(str, outputs))
        raise ValueError(f"without products the features {irreps} cannot depend on the input {names}: {remedy}")


@lru_cache(maxsize=64)
def input_layout(copies):
    """Layout of inputs of some irreps, made once."""
    return InputLayout(copies)


def input_copies(inputs):
    """Signed irreps, copy by copy, of ``inputs`` as users write them."""
    kinds = input_kinds(inputs or {}).values()
    return tuple(signed_irrep(one.l, one.p, kind.time) for kind in kinds for one in kind.irreps)


@dataclass(frozen=True)
class GraphInputs:
    """How the inputs of a batch become those of a graph.

    Parameters
    ----------
    inputs : dict of str to str
    per_atom : dict of str to float
        Whether they belong to atoms.
    scales : dict of str to float
        What they are multiplied by.
    """

    inputs: dict[str, str]
    per_atom: dict[str, float]
    scales: dict[str, float]

    @classmethod
    def of(cls, network):
        """Those of a network at fit; None without."""
        if network.inputs is None:
            return None
        return cls(network.inputs, network.input_per_atom_, network.input_scales_)

    @cached_property
    def kinds(self):
        """InputKind of each name."""
        return input_kinds(self.inputs)

    @property
    def _layout(self):
        return input_layout(input_copies(self.inputs))

    def _scale(self, name):
        """Make components of unit variance of a tensor whose norm is scaled."""
        return self.scales[name] * np.sqrt(self.kinds[name].dim)

    def features(self, batch, order, wanted):
        """Features of the atoms of a graph, which are ``order`` of those of the batch."""
        values = [self._scale(name) * batch.inputs[name].values[order] for name in self.kinds]
        return Variable(self._layout.spread(np.concatenate(values, axis=1)), wanted)

    def derivatives(self, by_features, offsets):
        """Make derivatives by the tensors of structures and atoms of those by the features of all atoms of a batch."""
        by_components, out, start = self._layout.gathered(by_features), {}, 0
        for name, kind in self.kinds.items():
            part = self._scale(name) * by_components[:, start : start + kind.dim]
            out[name] = cartesian_derivatives(part, kind, bool(self.per_atom[name]), offsets)
            start += kind.dim
        return out


# -- in the architectures ----------------------------------------------------------------------------------------------


def embedded_with_inputs(tape, species, weights, graph, incoming, copies):
    """Features of the first layer of message passing: the embedding of the species, and mixtures of the inputs."""
    layout, n_channels = input_layout(copies), species.value.shape[2]
    base = Variable(np.zeros((graph.n_atoms, sum(irrep.dim for irrep in incoming), n_channels)), wanted=False)
    x = op.mix_onto(tape, base, incoming, graph.inputs, weights["inputs"], layout.irreps, graph.species)
    return op.add_irreps(tape, x, species, incoming, (Irrep(0, 1),))


def input_shapes(copies, n_species, n_channels):
    """Shape of the weights that mix inputs, by name."""
    if not copies:
        return {}
    layout = input_layout(copies)
    return {"inputs": (n_species, len(layout.irreps), layout.n_copies, n_channels)}


def density_shapes(copies, n_species, n_channels, n_radial, table, irreps):
    """Shapes of the weights of :func:`add_input_density`, by name."""
    return {
        **input_shapes(copies, n_species, n_channels),
        "radial_inputs": (n_radial, table.n_paths * n_channels),
        "self_inputs": (n_species, len(input_layout(copies).irreps), n_channels, n_channels),
        "message_inputs": (n_species, len(irreps), n_channels, n_channels),
    }


def add_input_density(tape, density, natural, weights, graph, scale, copies, table, irreps):
    """Density of the positions (of the irreps ``natural``) with those of the inputs, of the irreps of all."""
    layout, n_channels = input_layout(copies), density.value.shape[2]
    x = op.mix(tape, graph.inputs, weights["inputs"], layout.irreps, graph.species)
    radial = op.dense(tape, graph.radial, weights["radial_inputs"], scale)
    radial = op.reshape(tape, radial, (len(radial.value), table.n_paths, n_channels))
    y = op.convolve(tape, x, graph.harmonics, radial, graph.edges, table)
    y = op.mix(tape, y, weights["message_inputs"], irreps, graph.species)
    y = op.mix_onto(tape, y, irreps, x, weights["self_inputs"], layout.irreps, graph.species)
    return op.add_irreps(tape, y, density, irreps, natural)
