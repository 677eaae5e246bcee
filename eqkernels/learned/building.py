"""The architecture that the parameters of a network describe, and whether it can make what is asked of it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from eqkernels.learned import input_features as beyond
from eqkernels.learned.architectures import ClusterExpansion, MessagePassing
from eqkernels.learned.attention import number_of_heads
from eqkernels.learned.coupling import working_irreps
from eqkernels.learned.pooling import Hierarchy
from eqkernels.so3 import Irreps


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
