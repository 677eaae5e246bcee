r"""How features follow from a structure: message passing, and the atomic cluster expansion.

Both make features of each atom of a graph, for the irreps that are asked for. Message passing (tensor field network;
Thomas et al., arXiv:1802.08219, Batzner et al., Nat. Commun. 13, 2453 (2022)) repeats

.. math:: h_i \leftarrow \mathrm{gate}\Big( U h_i + V \sum_j R(r_{ij})\, Y(\hat r_{ij}) \otimes h_j \Big) ,

with an optional product of the sum with itself before the gate, which may be left out where there is a product (R.
Kondor, Z. Lin, S. Trivedi, NeurIPS 2018; B. Anderson, T.-S. Hy, R. Kondor, NeurIPS 2019), and with weights of the
neighbors by attention (:mod:`eqkernels.learned.attention`). The cluster expansion (Drautz, Phys. Rev. B 99, 014104
(2019), with learned channels as Willatt et al., Phys. Chem. Chem. Phys. 20, 29661 (2018)) couples nu densities around
an atom, :math:`B_1 = W \rho,\ B_{\nu + 1} = (A B_\nu) \otimes B_1`. Mixing matrices belong to the species of the atom.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from eqkernels.learned import input_features as beyond
from eqkernels.learned import operations as op
from eqkernels.learned.attention import KEYS_START, attend, attended_density, number_of_heads, shapes_of_density
from eqkernels.learned.coupling import coupling, natural, position, reachable, slices, sort_irreps, working_irreps
from eqkernels.learned.pooling import Hierarchy
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep, Irreps

# Products start as a perturbation of the linear part, so that deep networks start close to shallow ones.
_PRODUCT_START = 0.5
_GATE_START = 0.5


@dataclass(frozen=True)
class MessagePassing:
    """Layers of convolutions; the features are those after every layer, side by side.

    With ``embeds``, ``n_species`` is the number of channels in which graphs embed the species, and weights of species
    are combinations of these. ``n_heads`` are those of attention, 0 without; ``start`` are the irreps that come into
    the first layer.
    """

    n_species: int
    embeds: bool
    outputs: tuple
    channels: int
    n_layers: int
    l_max: int
    n_radial: int
    n_hidden: int
    products: bool
    gated: bool = True
    n_heads: int = 0
    start: tuple = (Irrep(0, 1),)
    inputs: tuple = ()  # irreps of the inputs beyond the geometry, copy by copy
    time: int = 1  # sign of the outputs under time reversal, but for 0e

    @property
    def of_species(self):
        """Names of the weights that belong to species."""
        return [name for name in self.shapes if not name.startswith(("radial", "paths", "keys"))]

    @property
    def made(self):
        """Irreps that can be made, and in how many layers each of them is."""
        return Counter(irrep for _, _, outgoing in self.layers for irrep in outgoing)

    @cached_property
    def layers(self):
        """Irreps of each layer: what comes in, the message, and what goes out."""
        outputs, layers = [beyond.signed(irrep, self.time) for irrep in self.outputs], []
        incoming = sort_irreps({*self.start, *self.inputs})
        inside, shown = working_irreps(self.l_max, outputs, incoming), {Irrep(0, 1), *outputs}
        for k in range(self.n_layers):
            last = k == self.n_layers - 1
            wanted = sort_irreps(shown) if last else inside
            message = reachable(incoming, natural(self.l_max), inside if self.products else wanted)
            outgoing = reachable(message, message, wanted) if self.products else message
            layers.append((incoming, message, outgoing))
            incoming = outgoing
        return layers

    @cached_property
    def tables(self):
        """Couplings of the convolution and of the product of each layer."""
        return [
            (
                coupling(incoming, natural(self.l_max), message),
                coupling(message, message, outgoing) if self.products else None,
            )
            for incoming, message, outgoing in self.layers
        ]

    @cached_property
    def keys(self):
        """Coupling of the keys of each layer, whose irreps are those that come in; of attention."""
        return [coupling(incoming, natural(self.l_max), incoming) for incoming, _, _ in self.layers]

    @cached_property
    def shapes(self):
        """Shapes of the weights, by name."""
        s, c = self.n_species, self.channels
        shapes: dict[str, tuple[int, ...]] = {"species": (s, c), **beyond.input_shapes(self.inputs, s, c)}
        for k, (incoming, message, outgoing) in enumerate(self.layers):
            convolution, product = self.tables[k]
            shapes[f"radial_first_{k}"] = (self.n_radial, self.n_hidden)
            shapes[f"radial_second_{k}"] = (self.n_hidden, convolution.n_paths * c)
            shapes[f"message_{k}"] = (s, len(message), c, c)
            shapes[f"self_{k}"] = (s, len(incoming), c, c)
            if product is not None:
                shapes[f"paths_{k}"] = (product.n_paths, c)
                shapes[f"factor_{k}"] = (s, len(message), c, c)
                shapes[f"product_{k}"] = (s, len(outgoing), c, c)
            if self.gated:
                shapes[f"gates_{k}"] = (s, 1, c, len(outgoing) * c)
            if self.n_heads:
                shapes[f"queries_{k}"] = (s, len(incoming), c, c)
                shapes[f"keys_{k}"] = (self.n_hidden, self.keys[k].n_paths * c)
        return shapes

    def initial_weights(self, random, graph):
        """Random weights with which features have about unit variance."""
        weights, starts = {}, {"product": _PRODUCT_START, "gates": _GATE_START, "keys": KEYS_START}
        for name, shape in self.shapes.items():
            kind = name.rpartition("_")[0]
            if kind == "paths":
                weights[name] = np.ones(shape)
            else:
                size = 1.0 if name == "species" else starts.get(kind, 1.0) / np.sqrt(shape[-2])
                weights[name] = size * random.normal(size=shape)
        return weights

    def __call__(self, tape, weights, graph, scale, irreps):
        """Features of the atoms.

        Parameters
        ----------
        tape : Tape
        weights : dict of str to Variable
        graph : Graph
        scale : float
            What sums over neighbors are multiplied with.
        irreps : tuple of Irrep
            Which of the outputs to give.

        Returns
        -------
        dict of Irrep to Variable of shape (n_atoms, 2 l + 1, n_features)
        """
        weights = of_species(tape, weights, graph, self.of_species)
        x = op.embed(tape, weights["species"], graph.species, graph.n_atoms)
        if self.inputs:
            x = beyond.embedded_with_inputs(tape, x, weights, graph, self.layers[0][0], self.inputs)
        return self.propagate(tape, weights, graph, scale, x, irreps)

    def propagate(self, tape, weights, graph, scale, x, irreps):
        """Features of the atoms, from those that come into the first layer and weights of the species of the graph."""
        found: dict[Irrep, list[Variable]] = {irrep: [] for irrep in irreps}
        for k in range(self.n_layers):
            x = self._layer(tape, weights, graph, scale, x, k)
            outgoing = self.layers[k][2]
            for irrep, inside in ((one, beyond.signed(one, self.time)) for one in irreps):
                if inside in outgoing:
                    found[irrep].append(op.take(tape, x, position(outgoing, inside)))
        return {irrep: op.join(tape, parts) for irrep, parts in found.items()}

    def _layer(self, tape, weights, graph, scale, x, k):
        incoming, message, outgoing = self.layers[k]
        convolution, product = self.tables[k]
        hidden = op.silu(tape, op.dense(tape, graph.radial, weights[f"radial_first_{k}"]))
        # the sum of all weights of attention is about 1
        size, edges = 1.0 / scale if self.n_heads else scale, graph.edges
        radial = op.dense(tape, hidden, weights[f"radial_second_{k}"], size)
        radial = op.reshape(tape, radial, (len(radial.value), convolution.n_paths, self.channels))
        if self.n_heads:
            of_attention = weights[f"queries_{k}"], weights[f"keys_{k}"]
            rest = incoming, self.keys[k], self.n_heads
            radial, edges = attend(tape, graph, x, hidden, radial, of_attention, *rest)
        y = op.convolve(tape, x, graph.harmonics, radial, edges, convolution)
        y = op.mix(tape, y, weights[f"message_{k}"], message, graph.species)
        y = op.mix_onto(tape, y, message, x, weights[f"self_{k}"], incoming, graph.species)
        if product is not None:
            other = op.mix(tape, y, weights[f"factor_{k}"], message, graph.species)
            squared = op.product(tape, y, other, weights[f"paths_{k}"], product)
            squared = op.mix(tape, squared, weights[f"product_{k}"], outgoing, graph.species)
            y = op.add_irreps(tape, squared, y, outgoing, message)
        if not self.gated:
            return y
        gates = op.mix(tape, op.take(tape, y, slice(0, 1)), weights[f"gates_{k}"], (Irrep(0, 1),), graph.species)
        gates = op.reshape(tape, gates, (graph.n_atoms, len(outgoing), self.channels))
        return op.gate(tape, y, gates, outgoing)


@dataclass(frozen=True)
class ClusterExpansion:
    """Products of up to ``body_order`` densities; the features are those of every order, side by side."""

    n_species: int
    embeds: bool
    outputs: tuple
    channels: int
    body_order: int
    l_max: int
    n_radial: int
    n_heads: int = 0
    n_hidden: int = 0
    inputs: tuple = ()
    time: int = 1

    @property
    def of_species(self):
        """Names of the weights that belong to species."""
        return self._names(self.shapes)

    def _names(self, weights):
        return [name for name in weights if not name.startswith(("paths", "radial", "keys"))]

    @property
    def made(self):
        """Irreps that can be made, and in how many orders each of them is."""
        return Counter(irrep for irreps in self.orders for irrep in irreps)

    @cached_property
    def orders(self):
        """Irreps of each order."""
        outputs = [beyond.signed(irrep, self.time) for irrep in self.outputs]
        inside, shown = working_irreps(self.l_max, outputs, self.inputs), {Irrep(0, 1), *outputs}
        from_inputs = {*self.inputs, *reachable(self.inputs, natural(self.l_max), inside)}
        orders = [sort_irreps({*natural(self.l_max), *from_inputs})]
        for nu in range(2, self.body_order + 1):
            wanted = sort_irreps(shown) if nu == self.body_order else inside
            orders.append(reachable(orders[-1], orders[0], wanted))
        return orders

    @cached_property
    def tables(self):
        """Couplings that make each order, beyond the first, of the one below."""
        return [coupling(below, self.orders[0], made) for below, made in pairwise(self.orders)]

    @cached_property
    def input_table(self):
        """Coupling that makes densities of the inputs of neighbors."""
        return coupling(beyond.input_layout(self.inputs).irreps, natural(self.l_max), self.orders[0])

    @cached_property
    def shapes(self):
        """Shapes of the weights, by name."""
        s, c = self.n_species, self.channels
        n_columns = s * self.n_radial * max(self.n_heads, 1)
        shapes: dict[str, tuple[int, ...]] = {"contraction": (s, self.l_max + 1, n_columns, c)}
        for k, table in enumerate(self.tables):
            shapes[f"mixing_{k}"] = (s, len(self.orders[k]), c, c)
            shapes[f"paths_{k}"] = (table.n_paths, c)
        if self.n_heads:
            shapes |= shapes_of_density(s, c, self.n_radial, self.n_hidden)
        if self.inputs:
            shapes |= beyond.density_shapes(self.inputs, s, c, self.n_radial, self.input_table, self.orders[0])
        return shapes

    def _density(self, tape, weights, graph):
        return attended_density(tape, graph, weights, self.n_heads) if self.n_heads else graph.density(tape)

    def initial_weights(self, random, graph):
        """Contraction to the principal components of the density, random matrices elsewhere."""
        weights = {}
        if self.n_heads:
            of_density = shapes_of_density(self.n_species, self.channels, self.n_radial, self.n_hidden)
            weights = {name: random.normal(size=shape) / np.sqrt(shape[-2]) for name, shape in of_density.items()}
            weights["keys"] *= KEYS_START
        weights["contraction"] = self._principal_components(random, graph, weights)
        for k in range(self.body_order - 1):
            mixing, paths = (self.shapes[f"{name}_{k}"] for name in ("mixing", "paths"))
            weights[f"mixing_{k}"] = random.normal(size=mixing) / np.sqrt(self.channels)
            weights[f"paths_{k}"] = 1.0 + 0.1 * random.normal(size=paths)
        for name in (name for name in self.shapes if name.endswith("inputs")):
            weights[name] = random.normal(size=self.shapes[name]) / np.sqrt(self.shapes[name][-2])
        return weights

    def _principal_components(self, random, graph, weights):
        tape, constants = Tape(recording=False), {name: Variable(array, False) for name, array in weights.items()}
        density = self._density(tape, of_species(tape, constants, graph, self._names(constants)), graph).value
        n_columns = density.shape[2]
        groups = [slice(None)] if self.embeds else graph.species
        weights = np.zeros((len(groups), self.l_max + 1, n_columns, self.channels))
        for k, rows in enumerate(groups):
            for l, part in enumerate(slices(natural(self.l_max))):
                rho = density[rows, part].reshape(-1, n_columns)
                variances, vectors = np.linalg.eigh(rho.T @ rho / max(len(rho), 1))
                count = min(self.channels, n_columns)
                strongest = variances[::-1][:count]
                weights[k, l] = 0.01 * random.normal(size=(n_columns, self.channels))
                weights[k, l, :, :count] += vectors[:, ::-1][:, :count]
                weights[k, l] /= np.sqrt(max(strongest.mean(), 1e-3 * density.var() + 1e-12))
        if not self.embeds:
            return weights
        # the same for all species, which differ by a random part
        common = np.linalg.lstsq(graph.embedding, np.ones(len(graph.embedding)), rcond=None)[0]
        spread = np.sqrt(np.mean(weights**2)) * random.normal(size=self.shapes["contraction"])
        return common[:, None, None, None] * weights + _PRODUCT_START * spread

    def __call__(self, tape, weights, graph, scale, irreps):
        """Features of the atoms, as of :class:`MessagePassing`."""
        weights = of_species(tape, weights, graph, self.of_species)
        density = self._density(tape, weights, graph)
        one = op.mix(tape, density, weights["contraction"], natural(self.l_max), graph.species)
        if self.inputs:
            rest = weights, graph, scale, self.inputs, self.input_table, self.orders[0]
            one = beyond.add_input_density(tape, one, natural(self.l_max), *rest)
        found: dict[Irrep, list[Variable]] = {irrep: [] for irrep in irreps}
        current = one
        for k, made in enumerate(self.orders):
            if k > 0:
                mixed = op.mix(tape, current, weights[f"mixing_{k - 1}"], self.orders[k - 1], graph.species)
                current = op.product(tape, mixed, one, weights[f"paths_{k - 1}"], self.tables[k - 1])
            for irrep, inside in ((one, beyond.signed(one, self.time)) for one in irreps):
                if inside in made:
                    found[irrep].append(op.take(tape, current, position(made, inside)))
        return {irrep: op.join(tape, parts) for irrep, parts in found.items()}


Architecture = MessagePassing | ClusterExpansion | Hierarchy


def of_species(tape, weights, graph, names):
    """Weights of the species of a graph; with an embedding from those of its channels."""
    if graph.embedding is None:
        return weights
    return {**weights, **{name: op.of_species(tape, weights[name], graph.embedding) for name in names}}


def make_architecture(parameters, n_species, irreps, n_channels=0):
    """Architecture that the parameters of a network describe.

    Parameters
    ----------
    parameters : EquivariantNetwork
    n_species : int
    irreps : str
        Irreps of the features.
    n_channels : int, default=0
        Channels of the embedding of the species; 0: each species has weights of its own.

    Returns
    -------
    MessagePassing or ClusterExpansion

    Raises
    ------
    ValueError
        If it cannot make these irreps; the message says what to increase.
    """
    shared: dict[str, Any] = {
        "n_species": n_channels or n_species,
        "embeds": n_channels > 0,
        "outputs": _parsed(str(irreps)),
        "inputs": beyond.input_copies(parameters.inputs),
        "time": -1 if parameters.time_odd else 1,
    }
    shared |= {name: int(getattr(parameters, name)) for name in ("channels", "l_max", "n_radial")}
    layers = _layers(parameters, shared["channels"])
    if parameters.architecture == "ace":
        if parameters.body_order == 1:
            beyond.check_products(parameters.inputs, shared["outputs"], shared["time"], "set body_order=2 or more")
        of_density = {name: layers[name] for name in ("n_heads", "n_hidden")}
        of_atoms: Any = ClusterExpansion(**shared, body_order=int(parameters.body_order), **of_density)
    else:
        if not parameters.products:
            beyond.check_products(parameters.inputs, shared["outputs"], shared["time"], "set products=True")
        of_atoms = MessagePassing(**shared, n_layers=int(parameters.n_layers), **layers)
    if parameters.pooling is None:
        return _checked(of_atoms)
    outputs = [beyond.signed(irrep, shared["time"]) for irrep in shared["outputs"]]
    inside = replace(of_atoms, outputs=working_irreps(shared["l_max"], outputs, shared["inputs"]), time=1)
    start = tuple(irrep for irrep in inside.outputs if irrep in inside.made)
    layers |= {"n_layers": int(parameters.pooling_layers), "n_species": 1, "embeds": False, "start": start}
    return _checked(Hierarchy(replace(inside, outputs=start), MessagePassing(**{**shared, **layers, "inputs": ()})))


def _layers(parameters, channels):
    """Parameters of layers of message passing, between atoms or groups."""
    gated, heads = parameters.nonlinearity == "gate", number_of_heads(parameters.attention, channels)
    if not gated and not parameters.products:
        raise ValueError(
            "nonlinearity='tensor_product' needs products=True: without products and gates features would be linear in "
            "those of the neighbors"
        )
    numbers = {"n_hidden": int(parameters.n_hidden), "products": bool(parameters.products)}
    return {**numbers, "gated": gated, "n_heads": heads}


@lru_cache(maxsize=64)
def _parsed(irreps):
    return tuple(irrep for _, irrep in Irreps(irreps))


@lru_cache(maxsize=64)
def _checked(architecture):
    """Architecture that can make its outputs: the same object for equal ones, so that its tables are made once."""
    missing = [
        str(one) for one in architecture.outputs if beyond.signed(one, architecture.time) not in architecture.made
    ]
    if missing:
        bottom = getattr(architecture, "atoms", architecture)
        if bottom.l_max == 0:
            raise ValueError(
                f"the network cannot make the irreps {', '.join(missing)}, of l_max=0 are invariants only: set l_max=1 "
                "or more; forces follow from a model of energies (predict_forces)"
            )
        is_ace = isinstance(bottom, ClusterExpansion)
        remedy = "body_order or l_max" if is_ace else "n_layers or l_max, or set products=True"
        raise ValueError(f"the network cannot make the irreps {', '.join(missing)}: increase {remedy}")
    return architecture
