"""What a fitted model is, in words."""

from __future__ import annotations

from typing import Any

from ase.data import chemical_symbols

from eqkernels.so3 import CartesianTensor


def known_facts(model: Any) -> dict[str, Any]:
    """Collect what is known of a fitted model or pipeline, None where it does not apply.

    Returns
    -------
    dict
        With the keys ``"model"``, ``"target"``, ``"axial"``, ``"per_atom"``, ``"irreps"`` and ``"species"``.
    """
    steps = [step for _, step in model.steps if hasattr(step, "get_params")] if hasattr(model, "steps") else [model]
    final = steps[-1]
    properties = getattr(final, "readouts_", {"y": final})
    facts = {name: {key: of_one(one) for key, one in properties.items()} for name, of_one in _OF_TARGETS.items()}
    if not getattr(final, "several_", False):
        facts = {name: values["y"] for name, values in facts.items()}
    name = " on ".join(type(step).__name__ for step in reversed(steps))
    return {"model": name, **facts, "species": _species(steps)}


def _irreps(model):
    """Irreps of the target, as labels of blocks are written."""
    if not hasattr(model, "target_"):
        return None
    irreps = CartesianTensor(model.target_, model.axial_).irreps
    return "+".join(str(irrep) if count == 1 else f"{count}x{irrep}" for count, irrep in irreps)


_OF_TARGETS = {
    "target": lambda model: getattr(model, "target_", None),
    "axial": lambda model: getattr(model, "axial_", None),
    "per_atom": lambda model: getattr(model, "per_atom_", None),
    "irreps": _irreps,
}


def summary(model: Any) -> str:
    """Summary of a fitted model."""
    return "\n".join(f"{key}: {value}" for key, value in known_facts(model).items() if value is not None)


def _species(steps):
    for step in reversed(steps):
        for holder in (step, getattr(step, "descriptor_", None)):
            for name in ("species_", "center_species_"):
                if hasattr(holder, name):
                    return [chemical_symbols[number] for number in getattr(holder, name)]
    return None
