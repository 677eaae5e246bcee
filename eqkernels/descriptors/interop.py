r"""Features to and from metatensor's TensorMap, with the names that featomic gives its equivariants.

A TensorMap has a block for each irrep and central species:

- keys ``o3_lambda``, ``o3_sigma`` and ``center_type``; sigma = +1 stands for the parity :math:`(-1)^\lambda`,
- samples ``system`` and ``atom``, one component axis ``o3_mu`` = -lambda .. lambda,
- properties ``l_1, l_2, neighbor_1_type, n_1, neighbor_2_type, n_2`` for two factors, likewise for more,
  ``neighbor_type, n`` for density coefficients, and ``feature``, a number, where features have no labels.

Names that only other blocks need have the value -1. Features that agree in all their labels, as joined ones may, are
distinguished by a further property ``copy``. Values are not changed. featomic's ``EquivariantPowerSpectrum``, with its
neighbor types moved to the properties, has the same names, but keeps both orders of the channels at equal degrees
(l_1 = l_2) and has no weights: its features of l_1 < l_2 times :math:`\sqrt 2` make the same scalar products as
:class:`~eqkernels.descriptors.LambdaSOAP`.

Tensor maps of other programs, such as the ``features`` of models of metatomic, may lack the species of the centers,
which are those of the frames then; a single block under the key ``_``, without components, holds scalars.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels.so3 import Irrep

if TYPE_CHECKING:
    from eqkernels.descriptors.features import EquivariantFeatures

_KEYS = ("o3_lambda", "o3_sigma")
# All blocks of a TensorMap have the same names of properties: the value of those that a feature does not have.
_ABSENT = -1


def to_metatensor(features: EquivariantFeatures) -> Any:
    """Convert features to a TensorMap.

    Parameters
    ----------
    features : EquivariantFeatures

    Returns
    -------
    metatensor.TensorMap
        The number of atoms of the structures and the parts of a union, for which it has no place, are left behind.
    """
    from metatensor import Labels, TensorBlock, TensorMap

    species = np.unique(features.species)
    columns = _property_columns(features)
    keys, blocks = [], []
    for key, block in features.blocks.items():
        irrep = Irrep.parse(key)
        lam, sigma = irrep.l, irrep.p * Irrep.natural(irrep.l).p
        properties = Labels(list(columns[key]), np.stack(list(columns[key].values()), axis=1).astype(np.int32))
        components = Labels(["o3_mu"], np.arange(-lam, lam + 1, dtype=np.int32)[:, None])
        for number in species:
            rows = np.flatnonzero(features.species == number)
            samples = np.stack([features.structures[rows], features.atoms[rows]], axis=1)
            keys.append((lam, sigma, number))
            blocks.append(
                TensorBlock(
                    np.ascontiguousarray(block[rows]),
                    Labels(["system", "atom"], samples.astype(np.int32)),
                    [components],
                    properties,
                )
            )
    return TensorMap(Labels([*_KEYS, "center_type"], np.array(keys, dtype=np.int32).reshape(-1, 3)), blocks)


def _property_columns(features):
    """Columns of the properties of every block, named and ordered as featomic does, the same names for all blocks."""
    columns, known = {}, features.to_dict()["labels"]
    for key, block in features.blocks.items():
        labels = known.get(key)
        columns[key] = (
            {"feature": np.arange(block.shape[2])}
            if labels is None
            else {_theirs(name): labels[name] for name in labels.dtype.names}
        )
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    # the order of featomic: degrees, then species and radial index by factor, then what it has no name for
    degrees = sorted(name for name in names if re.fullmatch(r"l_\d+", name))
    channels = [name for name in names if re.fullmatch(r"neighbor_(\d+_)?type|n(_\d+)?", name)]
    names = list(dict.fromkeys([*degrees, *channels, *names]))
    copies = {key: _copies(column) for key, column in columns.items()}
    if any(column.any() for column in copies.values()):
        names.append("copy")
    for key, column in columns.items():
        absent = np.full(features.blocks[key].shape[2], _ABSENT)
        columns[key] = {name: copies[key] if name == "copy" else column.get(name, absent) for name in names}
    return columns


def _copies(columns):
    """Count for each feature those before it that agree with it in all columns."""
    _, which, counts = np.unique(np.stack(list(columns.values())), axis=1, return_inverse=True, return_counts=True)
    copies = np.empty(which.size, dtype=np.int64)
    order = np.argsort(which.ravel(), kind="stable")
    copies[order] = np.arange(which.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return copies


def _theirs(name):
    return re.sub(r"^species(_\d+)?$", lambda match: f"neighbor{match[1] or ''}_type", name)


def _ours(name):
    return re.sub(r"^neighbor(_\d+)?_type$", lambda match: f"species{match[1] or ''}", name)


def is_tensor_map(value: Any) -> bool:
    """Whether a value looks like a TensorMap, of metatensor or of metatensor.torch."""
    return hasattr(value, "items") and hasattr(getattr(value, "keys", None), "names")


def arrays_of(values: Any) -> NDArray[Any]:
    """Array of numpy of what may be a tensor of torch."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)


def from_metatensor(
    tensor_map: Any, n_atoms: ArrayLike | None = None, frames: Sequence[Atoms] | None = None
) -> dict[str, Any]:
    """Convert a TensorMap to the arguments of :class:`EquivariantFeatures`.

    Blocks of the same irrep and different central species are joined. Their properties may differ, as where a species
    is no neighbor of another: features that are absent from one of them are zero there.

    Parameters
    ----------
    tensor_map : metatensor.TensorMap
        With the keys and names that the module lists, or center_type among the samples.
    n_atoms : array-like of int, shape (n_structures,), default=None
        Number of atoms of each structure; None: that of the frames, or every atom is a center.
    frames : sequence of ase.Atoms, default=None
        The structures, which say the species of the centers where the tensor map does not.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If names or samples are others, or if n_atoms or frames are needed.
    """
    if not is_tensor_map(tensor_map):
        raise TypeError(f"tensor_map must be a metatensor.TensorMap, got {type(tensor_map).__name__}")
    numbers = None if frames is None else [atoms.numbers for atoms in frames]
    if numbers is not None and n_atoms is None:
        n_atoms = [len(one) for one in numbers]
    parts: dict = {}
    for key, block in tensor_map.items():
        irrep, samples = _read_key(list(tensor_map.keys.names), key, block, numbers)
        parts.setdefault(irrep, []).append((samples, block))
    if not parts:
        raise ValueError("tensor_map has no blocks")
    blocks: dict[str, np.ndarray] = {}
    labels, reference = {}, np.zeros((0, 3), dtype=np.int64)
    for irrep, members in parts.items():
        samples = np.concatenate([samples for samples, _ in members])
        order = np.lexsort((samples[:, 1], samples[:, 0]))
        if not blocks:
            reference = samples[order]
        elif not np.array_equal(samples[order], reference):
            raise ValueError(f"block {irrep} has other samples than {next(iter(parts))}: keep the same centers in all")
        values, properties = _joined(irrep, [block for _, block in members])
        blocks[irrep] = values[order]
        if properties is not None:
            labels[irrep] = properties
    structures, atoms, species = reference.T
    return {
        "blocks": blocks,
        "species": species,
        "structures": structures,
        "atoms": atoms,
        "n_atoms": _count_atoms(structures, atoms) if n_atoms is None else n_atoms,
        "labels": labels,
    }


def _read_key(names, key, block, numbers):
    """Irrep of a block, and its samples as columns (system, atom, center_type)."""
    types, scalars = "center_type" in names, names == ["_"]
    wanted = {"_"} if scalars else {*_KEYS, "center_type"} if types else set(_KEYS)
    found = list(block.samples.names)
    complete = types or "center_type" in found
    sample_names = ["system", "atom", "center_type"] if complete and not types else ["system", "atom"]
    if set(names) != wanted or found != sample_names:
        raise ValueError(
            f"tensor_map has the keys {names} and the samples {found}, expected the keys "
            "['o3_lambda', 'o3_sigma', 'center_type'] and the samples ['system', 'atom'] (or center_type among "
            "them): move other keys with tensor_map.keys_to_properties, e.g. of ['neighbor_1_type', 'neighbor_2_type']"
        )
    samples = np.asarray(arrays_of(block.samples.values), dtype=np.int64)
    if not complete:
        samples = np.column_stack([samples, _species(samples, numbers)])
    elif types:
        samples = np.column_stack([samples, np.full(len(samples), int(key["center_type"]))])
    if scalars:
        if len(block.components):
            raise ValueError("the block of a tensor_map without o3_lambda has components, expected scalars")
        return "0e", samples
    lam = int(key["o3_lambda"])
    mu = [arrays_of(component.values).ravel().tolist() for component in block.components]
    if mu != [list(range(-lam, lam + 1))]:
        raise ValueError(f"the block of o3_lambda={lam} has the components {mu}, expected o3_mu = {-lam} .. {lam}")
    return str(Irrep(lam, int(key["o3_sigma"]) * Irrep.natural(lam).p)), samples


def _species(samples, numbers):
    """Atomic numbers of the centers, from those of the structures."""
    if numbers is None:
        raise ValueError("tensor_map does not say the species of the centers (center_type): pass the frames, frames=")
    structures, atoms = samples.T
    for system, atom in samples:
        if not 0 <= system < len(numbers) or not 0 <= atom < len(numbers[system]):
            raise ValueError(f"tensor_map has the sample system {system}, atom {atom}, which the frames do not have")
    starts = np.cumsum([0, *map(len, numbers)])
    return np.concatenate([np.zeros(0, dtype=int), *numbers])[starts[structures] + atoms].astype(np.int64)


def _joined(irrep, blocks):
    """Values of blocks below each other in the union of their properties, and these as labels."""
    names = list(blocks[0].properties.names)
    if any(list(block.properties.names) != names for block in blocks):
        raise ValueError(f"the blocks of {irrep} have different names of properties")
    properties = [np.asarray(arrays_of(block.properties.values), dtype=np.int64) for block in blocks]
    values = [arrays_of(block.values) for block in blocks]
    values = [one if len(block.components) else one[:, None] for one, block in zip(values, blocks, strict=True)]
    union = properties[0]
    if any(not np.array_equal(part, union) for part in properties):
        union, where = np.unique(np.concatenate(properties), axis=0, return_inverse=True)
        starts = np.cumsum([0, *map(len, properties)])
        for k, part in enumerate(values):
            values[k] = np.zeros((*part.shape[:2], len(union)), dtype=part.dtype)
            values[k][:, :, where.ravel()[starts[k] : starts[k + 1]]] = part
    columns = {_ours(name): column for name, column in zip(names, union.T, strict=True) if name != "copy"}
    columns = {name: column for name, column in columns.items() if not (column == _ABSENT).all()}
    if not columns or list(columns) == ["feature"]:
        return np.concatenate(values), None
    labels = np.empty(len(union), dtype=[(name, np.int64) for name in columns])
    for name, column in columns.items():
        labels[name] = column
    return np.concatenate(values), labels


def _count_atoms(structures, atoms):
    counts = np.bincount(structures)
    if not counts.all() or not np.array_equal(
        atoms, np.arange(len(atoms)) - np.repeat(np.cumsum(counts) - counts, counts)
    ):
        raise ValueError(
            "some atoms of the structures are not centers: pass the number of atoms of every structure, "
            "n_atoms=[len(atoms) for atoms in frames]"
        )
    return counts
