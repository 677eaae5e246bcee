r"""Inputs beyond the geometry: tensors of structures or of their atoms, read from frames and turned into irreps.

An input is a Cartesian tensor of each structure (``atoms.info``: a field, a strain) or of each atom (``atoms.arrays``:
charges, velocities, spins). Its kind says how it transforms under rotation and inversion, and under time reversal.
With the orthonormal change of basis Q of the kind, its irreducible components are x = Q T, and the derivative of a
number by T is :math:`Q^T \partial / \partial \mathbf x`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import LARGEST, as_floats
from eqkernels.so3 import CartesianTensor, Irrep, Irreps, wigner_d
from eqkernels.so3.cartesian import cartesian_tensor
from eqkernels.so3.inference import SYMMETRY_TOLERANCE
from eqkernels.structures.batch import StructureBatch, as_list, structure_number

#: Written after the irreps of an input that changes sign under time reversal.
TIME_ODD = "time-odd"
# Irreps that are written as Cartesian tensors of this formula, with these axial indices.
_CARTESIAN = {
    "1x0e": ("", ""),
    "1x1o": ("i", ""),
    "1x1e": ("i", "i"),
    "1x0e+1x2e": ("ij=ji", ""),
    "1x0e+1x1e+1x2e": ("ij", ""),
}


@dataclass(frozen=True)
class InputKind:
    """How an input transforms.

    Parameters
    ----------
    text : str
        Irreps (``"1o"``), or index symmetry or name of a property (``"ij=ji"``), with ``" time-odd"`` behind it for
        what changes sign under time reversal.

    Attributes
    ----------
    irreps : list of Irrep
        Irrep by irrep, copy by copy.
    matrix : ndarray of shape (n_components, n_numbers)
        The change of basis Q, orthonormal rows.
    shape : tuple of int
        Of one tensor as users write it: Cartesian, or for irreps that are no Cartesian tensor of rank 0 to 2 their
        components m = -l .. l one after the other.

    Examples
    --------
    >>> kind = InputKind("1e time-odd")
    >>> kind.shape, kind.time, [str(irrep) for irrep in kind.irreps]
    ((3,), -1, ['1e'])
    """

    text: str

    @property
    def time(self) -> int:
        """Sign under time reversal."""
        return -1 if self.text.strip().endswith(TIME_ODD) else 1

    @cached_property
    def _parts(self):
        text = self.text.strip().removesuffix(TIME_ODD).removesuffix("time-even").strip()
        try:
            irreps = Irreps(text)
        except ValueError:
            tensor = cartesian_tensor(text) if text else None
        else:
            formula = _CARTESIAN.get(str(irreps))
            tensor = None if formula is None else CartesianTensor(*formula)
        if tensor is not None:
            return tensor.irreps, tensor.change_of_basis, tensor.shape
        if not len(irreps):
            raise ValueError(f"{self.text!r} names no irrep")
        shape = () if str(irreps) == "1x0o" else (irreps.dim,)
        return irreps, np.eye(irreps.dim), shape

    @property
    def irreps(self) -> list[Irrep]:
        """The irreps, copy by copy."""
        return [irrep for multiplicity, irrep in self._parts[0] for _ in range(multiplicity)]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Change of basis, from the numbers of a tensor to its irreducible components."""
        return self._parts[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one tensor."""
        return self._parts[2]

    @property
    def dim(self) -> int:
        """Number of irreducible components."""
        return len(self.matrix)

    def slices(self) -> list[slice]:
        """Components of each irrep."""
        ends = np.cumsum([0, *(irrep.dim for irrep in self.irreps)]).tolist()
        return [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]


@dataclass(frozen=True)
class InputValues:
    """An input of all atoms of a batch.

    Attributes
    ----------
    values : ndarray of shape (n_atoms, n_components)
        Irreducible components; those of a structure are repeated for each of its atoms.
    per_atom : bool
        Whether it belongs to atoms.
    """

    values: NDArray[np.float64]
    per_atom: bool


def input_kinds(inputs: Mapping[str, str]) -> dict[str, InputKind]:
    """Parse the kinds of inputs.

    Parameters
    ----------
    inputs : dict of str to str

    Returns
    -------
    dict of str to InputKind

    Raises
    ------
    TypeError, ValueError
        If a kind cannot be read; the message names the input.
    """
    kinds = {}
    for name, text in inputs.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(
                f"inputs={inputs!r} must be a dict from names to irreps, such as {{'electric_field': '1o'}}"
            )
        kinds[name] = InputKind(text)
        try:
            kinds[name].irreps  # noqa: B018  what cannot be read is refused here
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"inputs[{name!r}]={text!r} is neither irreps such as '1o' or '0e+2e' nor an index symmetry such as "
                f"'ij=ji' (with ' {TIME_ODD}' behind it for what changes sign under time reversal): {error}"
            ) from error
    return kinds


def with_inputs(
    frames: Iterable[Atoms] | StructureBatch,
    kinds: Mapping[str, InputKind],
    origin: int | NDArray[np.int64] = 0,
    quiet: bool = False,
) -> StructureBatch:
    """Read frames with their inputs.

    Parameters
    ----------
    frames : sequence of ase.Atoms, or StructureBatch
        A batch must have been made by this function.
    kinds : dict of str to InputKind
        By the key of ``atoms.info`` or ``atoms.arrays``.
    origin : int or ndarray of int, default=0
        As of :class:`StructureBatch`.
    quiet : bool, default=False
        Do not warn again, of frames that were read before.

    Returns
    -------
    StructureBatch

    Raises
    ------
    TypeError, ValueError
        If an input is missing, of the wrong shape or not finite; the message names structure and atom.
    """
    if isinstance(frames, StructureBatch):
        missing = [name for name in kinds if name not in frames.inputs]
        if missing:
            raise ValueError(
                f"the batch has no input {', '.join(map(repr, missing))}: a StructureBatch holds the geometry alone, "
                "give the frames themselves"
            )
        return frames
    if not kinds:
        return StructureBatch.from_frames(frames, origin, quiet)
    frames = as_list(frames, origin)
    batch = StructureBatch.from_frames(frames, origin, quiet)
    return replace(batch, inputs={name: _read(frames, name, kind, origin) for name, kind in kinds.items()})


def _read(frames, name, kind, origin):
    per_atom = name in frames[0].arrays
    parts = []
    for k, atoms in enumerate(frames):
        what = f"the input {name!r} of structure {structure_number(origin, k)}"
        if (name in atoms.arrays) is not per_atom or (name in atoms.info) is per_atom:
            raise ValueError(_misplaced(atoms, name, what, per_atom, structure_number(origin, 0)))
        values = as_floats(atoms.arrays[name] if per_atom else atoms.info[name], what)
        parts.append(_components(values, kind, len(atoms) if per_atom else None, what, len(atoms)))
    return InputValues(np.concatenate(parts), per_atom)


def _misplaced(atoms, name, what, per_atom, first):
    if name in atoms.arrays and name in atoms.info:
        return f"{what} is both in atoms.info and in atoms.arrays: delete one of them"
    if name not in atoms.arrays and name not in atoms.info:
        return (
            f"{what} is missing: set atoms.info[{name!r}], a tensor of the structure, or atoms.arrays[{name!r}], with "
            "a row for each atom, for every structure (zeros where there is none)"
        )
    places = ("atoms.arrays", "atoms.info") if per_atom else ("atoms.info", "atoms.arrays")
    return f"{what} is in {places[1]}, that of structure {first} in {places[0]}: it must be in one place for all"


def _components(values, kind, n_rows, what, n_atoms):
    """Irreducible components (n_atoms, dim) of the tensors of the atoms or of the structure."""
    shape, size = kind.shape, kind.matrix.shape[1]
    leading = () if n_rows is None else (n_rows,)
    if values.shape not in {(*leading, *shape), (*leading, size), *([leading] if size == 1 else [])}:
        one = "" if n_rows is None else ", a tensor for each atom"
        raise ValueError(f"{what} has shape {values.shape}, expected {(*leading, *shape)}{one}: it is {kind.text!r}")
    rows = values.reshape(1 if n_rows is None else n_rows, size)
    bad = np.flatnonzero(~(np.abs(rows) <= LARGEST).all(axis=1))
    if len(bad):
        where = what if n_rows is None else f"{what}, atom {bad[0]},"
        raise ValueError(f"{where} is NaN, infinite or larger than {LARGEST:.0e}: give finite numbers")
    components = rows @ kind.matrix.T
    outside = np.linalg.norm(rows - components @ kind.matrix, axis=1)
    bad = np.flatnonzero(outside > SYMMETRY_TOLERANCE * np.linalg.norm(rows, axis=1))
    if len(bad):
        where = what if n_rows is None else f"{what}, atom {bad[0]},"
        raise ValueError(f"{where} does not have the symmetry {kind.text!r}: symmetrize it, or declare what it is")
    return components if n_rows is not None else np.repeat(components, n_atoms, axis=0)


def turned_inputs(
    atoms: Atoms, rotation: ArrayLike, inputs: Mapping[str, str], time_reversed: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Turn the inputs of a structure that is rotated, inverted, or seen backwards in time.

    Parameters
    ----------
    atoms : ase.Atoms
    rotation : array-like of shape (3, 3)
        Orthogonal matrix, proper or improper.
    inputs : dict of str to str
        Kinds of the inputs.
    time_reversed : bool, default=False

    Returns
    -------
    dict of str to ndarray
        The new values, to be put where those of ``atoms`` are.

    Examples
    --------
    >>> import numpy as np
    >>> from ase import Atoms
    >>> atoms = Atoms("H", info={"magnetic_field": [0.0, 0.0, 1.0]})
    >>> turned_inputs(atoms, -np.eye(3), {"magnetic_field": "1e"})["magnetic_field"].round(12)
    array([0., 0., 1.])
    """
    out = {}
    for name, kind in input_kinds(inputs).items():
        values = np.asarray(atoms.arrays[name] if name in atoms.arrays else atoms.info[name], dtype=float)
        components = values.reshape(-1, kind.matrix.shape[1]) @ kind.matrix.T
        for irrep, part in zip(kind.irreps, kind.slices(), strict=True):
            components[:, part] = components[:, part] @ wigner_d(irrep, rotation).T
        if time_reversed:
            components *= kind.time
        out[name] = (components @ kind.matrix).reshape(values.shape) + 0.0
    return out


def cartesian_derivatives(
    by_components: NDArray[np.float64], kind: InputKind, per_atom: bool, offsets: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Turn derivatives by irreducible components of all atoms into those by the tensors of atoms or of structures.

    Parameters
    ----------
    by_components : ndarray of shape (n_atoms, n_components)
    kind : InputKind
    per_atom : bool
    offsets : ndarray of int, shape (n_structures + 1,)

    Returns
    -------
    ndarray of shape (n_atoms, ...) or (n_structures, ...)
    """
    rows = by_components if per_atom else np.add.reduceat(by_components, np.asarray(offsets[:-1]), axis=0)
    return (rows @ kind.matrix).reshape(len(rows), *kind.shape)
