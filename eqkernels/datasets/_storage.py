"""The bundled files: which properties each set has, and how they are packed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np

POSITION_UNIT = 1e-6  # Angstrom; positions are integer multiples


@dataclass(frozen=True)
class Property:
    """What is known about a label before it is read.

    Attributes
    ----------
    formula : str
        Index symmetries, as in :class:`eqkernels.so3.CartesianTensor`; all indices are exchangeable, or none is.
    unit : str
        Unit, in words.
    meaning : str
        Definition and conventions, one line.
    axial : str, default=""
        The indices that do not change sign under inversion.
    per_atom : bool, default=False
        Whether there is one tensor for each atom.

    Examples
    --------
    >>> PROPERTIES["polarizability"].rank, PROPERTIES["polarizability"].is_symmetric
    (2, True)
    """

    formula: str
    unit: str
    meaning: str
    axial: str = ""
    per_atom: bool = False

    @property
    def rank(self):
        """Number of indices."""
        return len(self.formula.split("=")[0])

    @property
    def is_symmetric(self):
        """Whether all indices can be exchanged, so that only some components are stored."""
        return "=" in self.formula


PROPERTIES = {
    "energy": Property("", "hartree", "total energy"),
    "dipole": Property("i", "e a0", "dipole moment"),
    "quadrupole": Property(
        "ij=ji",
        "e a0^2",
        "traceless quadrupole moment of Buckingham, sum q (3 r_i r_j - r^2 delta_ij) / 2, about the centre of nuclear "
        "charge",
    ),
    "polarizability": Property("ij=ji", "a0^3", "static dipole polarizability"),
    "hyperpolarizability": Property(
        "ijk=jik=ikj",
        "e^3 a0^3 / hartree^2",
        "static first hyperpolarizability, the second derivative of the dipole by the electric field",
    ),
    "gprime": Property(
        "ij",
        "e^2 a0^3 / hartree",
        "static limit of the electric-magnetic dipole polarizability, G'_ij / omega = -2 sum_n Im(<0|mu_i|n><n|m_j|0>) "
        "/ omega_n^2, i electric and polar, j magnetic and axial; about the centre of nuclear charge; its trace is a "
        "pseudoscalar",
        axial="j",
    ),
    "forces": Property("i", "hartree / a0", "minus the derivative of the energy by the position", per_atom=True),
    "polar_tensor": Property(
        "ij", "e", "atomic polar tensor, the derivative of component i of the dipole by position j", per_atom=True
    ),
    "electric_field_gradient": Property(
        "ij=ji",
        "hartree / (e a0^2)",
        "second derivative of the electrostatic potential of all other charges at the nucleus, without trace",
        per_atom=True,
    ),
    "shielding": Property(
        "ij",
        "ppm",
        "nuclear magnetic shielding, induced field_i = -shielding_ij applied field_j, with gauge-including orbitals "
        "(no gauge origin)",
        per_atom=True,
    ),
}
_FOR_ALL = ("energy", "dipole", "quadrupole", "polarizability", "hyperpolarizability")
_FOR_ATOMS = ("forces", "polar_tensor", "electric_field_gradient", "shielding")
SET_PROPERTIES = {
    "small_organics": _FOR_ALL + _FOR_ATOMS,
    "water_clusters": _FOR_ALL + _FOR_ATOMS,
    "chiral_molecules": (*_FOR_ALL, "gprime"),
}


def independent_components(tensors, rank):
    """Components with sorted indices of tensors that are symmetric in all indices.

    Parameters
    ----------
    tensors : ndarray of shape (n, 3, ..., 3)
    rank : int

    Returns
    -------
    ndarray of shape (n, n_components)

    Examples
    --------
    >>> independent_components(np.arange(9).reshape(1, 3, 3), 2)
    array([[0, 1, 2, 4, 5, 8]])
    """
    return np.stack(
        [tensors[(slice(None), *index)] for index in combinations_with_replacement(range(3), rank)], axis=-1
    )


def full_tensors(components, rank):
    """Undo :func:`independent_components`.

    Parameters
    ----------
    components : ndarray of shape (n, n_components)
    rank : int

    Returns
    -------
    ndarray of shape (n, 3, ..., 3)

    Examples
    --------
    >>> full_tensors(np.array([[0, 1, 2, 4, 5, 8]]), 2)[0]
    array([[0, 1, 2],
           [1, 4, 5],
           [2, 5, 8]])
    """
    column = {index: k for k, index in enumerate(combinations_with_replacement(range(3), rank))}
    columns = [column[tuple(sorted(index))] for index in product(range(3), repeat=rank)]
    return components[:, columns].reshape(-1, *(3,) * rank)


def pack_arrays(names, numbers, positions, labels):
    """Arrays of a file of the package.

    Parameters
    ----------
    names : sequence of str
        Name of each structure.
    numbers, positions : sequence of array-like, one for each structure
        Atomic numbers, and positions in Angstrom.
    labels : dict of str to sequence of array-like
        Properties, one entry for each structure.

    Returns
    -------
    dict of str to ndarray
        Atoms and per-atom targets follow each other, structure after structure. Labels are float32 (the energy, which
        is large and varies little, float64).

    Raises
    ------
    ValueError
        If a label is not finite.
    """
    molecules, index = np.unique(names, return_inverse=True)
    arrays = {
        "molecules": molecules,
        "molecule": index.astype(np.uint8),
        "n_atoms": np.array([len(entry) for entry in numbers], dtype=np.uint8),
        "numbers": np.concatenate(numbers).astype(np.uint8),
        "positions": np.rint(np.vstack(positions) / POSITION_UNIT).astype(np.int32),
    }
    for name, values in labels.items():
        known = PROPERTIES[name]
        tensors = np.concatenate(values) if known.per_atom else np.array(values)
        if not np.isfinite(tensors).all():
            raise ValueError(f"{name} has values that are not finite; compute the labels again")
        if known.is_symmetric:
            tensors = independent_components(tensors, known.rank)
        arrays[name] = tensors.astype(np.float32 if known.rank else np.float64)
    return arrays


def unpack_arrays(arrays):
    """Undo :func:`pack_arrays`.

    Parameters
    ----------
    arrays : mapping of str to ndarray

    Returns
    -------
    names : ndarray of str, shape (n_structures,)
    numbers, positions : list of ndarray
        One for each structure.
    labels : dict of str to ndarray or list of ndarray
        float64; a list where the label is one of atoms.

    Examples
    --------
    >>> arrays = pack_arrays(["water"], [[8, 1, 1]], [np.zeros((3, 3))], {"dipole": [[0.0, 0.0, 1.0]]})
    >>> names, numbers, positions, labels = unpack_arrays(arrays)
    >>> str(names[0]), labels["dipole"]
    ('water', array([[0., 0., 1.]]))
    """
    ends = np.cumsum(arrays["n_atoms"], dtype=int)[:-1]
    labels = {}
    for name, known in PROPERTIES.items():
        if name in arrays:
            tensors = arrays[name].astype(np.float64)
            if known.is_symmetric:
                tensors = full_tensors(tensors, known.rank)
            labels[name] = np.split(tensors, ends) if known.per_atom else tensors
    names = arrays["molecules"][arrays["molecule"]]
    positions = np.split(arrays["positions"] * POSITION_UNIT, ends)
    return names, np.split(arrays["numbers"].astype(int), ends), positions, labels
