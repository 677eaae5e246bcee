"""Bundled data sets of molecules with tensors computed by quantum chemistry."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from sklearn.utils import Bunch

from eqkernels.datasets._descriptions import CHAIN_MOLECULES, describe
from eqkernels.datasets._storage import PROPERTIES, unpack_arrays
from eqkernels.so3 import CartesianTensor


def load_small_organics(
    *, return_X_y: bool = False, target: str | None = None
) -> Bunch | tuple[list[Atoms], NDArray[np.float64]]:
    """Load 900 distorted molecules of H, C, N and O: 30 thermal geometries of each of 30 molecules.

    Per structure: energy, dipole, quadrupole, polarizability, hyperpolarizability. Per atom: forces, atomic polar
    tensor, electric field gradient, nuclear magnetic shielding. RHF/def2-SVPD; details are in ``DESCR``.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(frames, label)`` instead of a Bunch.
    target : str, default=None
        The label that ``return_X_y`` returns and that the Bunch also has as ``target``; None stands for
        ``"polarizability"``.

    Returns
    -------
    data : sklearn.utils.Bunch
        With the attributes

        frames : list of ase.Atoms
            New objects at each call, positions in Angstrom, without cell; ``info["name"]`` is the molecule. The
            molecules alternate, so that ``frames[:300]`` has each of them.
        energy, dipole, ... : ndarray of shape (n_structures, 3, ..., 3)
            One for each label of structures.
        shielding, ... : list of ndarray of shape (n_atoms, 3, ..., 3)
            One for each per-atom target.
        names : ndarray of str, shape (n_structures,)
            The molecule, for ``GroupKFold`` or for stratification.
        target, target_name : ndarray or list, str
            The label chosen by ``target``.
        target_names : list of str
            All labels.
        units : dict of str to str
            Unit of each label.
        tensors : dict of str to CartesianTensor
            Index symmetry and parity of each label.
        DESCR : str
            What the data are and how they were made.
    (frames, label) : tuple
        If ``return_X_y`` is true.

    Raises
    ------
    ValueError
        If the data set has no label ``target``.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> len(data.frames), data.polarizability.shape, data.shielding[0].shape
    (900, (900, 3, 3), (3, 3, 3))
    >>> data.tensors["polarizability"].irreps, data.units["polarizability"]
    (Irreps("1x0e+1x2e"), 'a0^3')
    >>> frames, dipoles = load_small_organics(return_X_y=True, target="dipole")
    >>> dipoles.shape
    (900, 3)
    """
    return _load("small_organics", "polarizability", return_X_y, target)


def load_water_clusters(
    *, return_X_y: bool = False, target: str | None = None
) -> Bunch | tuple[list[Atoms], NDArray[np.float64]]:
    """Load 500 water clusters: 100 monomers, 300 dimers and 100 trimers.

    The labels are those of :func:`load_small_organics`. Between the sizes polarizabilities nearly add up, energies
    less so.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(frames, label)`` instead of a Bunch.
    target : str, default=None
        The label that ``return_X_y`` returns and that the Bunch also has as ``target``; None stands for
        ``"polarizability"``.

    Returns
    -------
    data : sklearn.utils.Bunch or tuple
        As in :func:`load_small_organics`; ``names`` are ``"water monomer"``, ``"water dimer"``, ``"water trimer"``.

    Raises
    ------
    ValueError
        If the data set has no label ``target``.

    Examples
    --------
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> traces = data.polarizability.trace(axis1=1, axis2=2)
    >>> ratio = traces[data.names == "water dimer"].mean() / traces[data.names == "water monomer"].mean()
    >>> f"{ratio:.1f}"
    '2.0'
    """
    return _load("water_clusters", "polarizability", return_X_y, target)


def load_chiral_molecules(
    *, return_X_y: bool = False, target: str | None = None
) -> Bunch | tuple[list[Atoms], NDArray[np.float64]]:
    """Load 400 chiral geometries with the axial tensor that is behind optical rotation.

    Hydrogen peroxide with any torsion angle (250), and hydrazine, methanol and allene that only their vibrations make
    chiral (50 each). The second index of ``gprime`` is axial, so that its trace is a pseudoscalar: it has opposite
    signs for a molecule and its mirror image, which no feature made of distances and angles can tell apart. It needs
    products of at least three densities; those of two (lambda-SOAP) reach only the parts ``1o`` and ``2o``.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(frames, label)`` instead of a Bunch.
    target : str, default=None
        The label that ``return_X_y`` returns and that the Bunch also has as ``target``; None stands for ``"gprime"``.

    Returns
    -------
    data : sklearn.utils.Bunch or tuple
        As in :func:`load_small_organics`, with the labels energy, dipole, quadrupole, polarizability,
        hyperpolarizability and gprime.

    Raises
    ------
    ValueError
        If the data set has no label ``target``.

    Examples
    --------
    >>> from eqkernels.datasets import load_chiral_molecules
    >>> data = load_chiral_molecules()
    >>> data.gprime.shape, data.tensors["gprime"].irreps
    ((400, 3, 3), Irreps("1x0o+1x1o+1x2o"))
    """
    return _load("chiral_molecules", "gprime", return_X_y, target)


def load_chain_molecules(*, return_X_y: bool = False) -> Bunch | tuple[list[Atoms], NDArray[np.float64]]:
    """Load 312 conformers of peptides and donor-acceptor chains of 17 to 55 atoms, with their dipoles.

    Molecules larger than the cutoff of a descriptor, in which charge is moved from one end to the other: tests of
    :class:`~eqkernels.ChargeKernel`. Dipoles and charges of the atoms (Mulliken) are those of GFN2-xTB, semiempirical.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(frames, dipole)`` instead of a Bunch.

    Returns
    -------
    data : sklearn.utils.Bunch
        With the attributes

        frames : list of ase.Atoms
            New objects at each call, positions in Angstrom; ``info["name"]`` is the molecule.
        dipole : ndarray of shape (n_structures, 3)
            In e Angstrom.
        charges : list of ndarray of shape (n_atoms,)
            In e.
        names : ndarray of str, shape (n_structures,)
            The molecule, for ``GroupKFold``.
        DESCR : str
            What the data are and how they were made.
    (frames, dipole) : tuple
        If ``return_X_y`` is true.

    Examples
    --------
    >>> from eqkernels.datasets import load_chain_molecules
    >>> data = load_chain_molecules()
    >>> data.frames[0].info["name"], data.dipole.shape[1]
    ('peptide A', 3)
    """
    stored = _read("chain_molecules")
    ends = np.cumsum(stored["n_atoms"])[:-1]
    atoms = (np.split(stored[name].astype(float), ends) for name in ("numbers", "positions", "charges"))
    numbers, positions, charges = atoms
    frames = [
        Atoms(numbers=z.astype(int), positions=r, info={"name": str(name)})
        for name, z, r in zip(stored["names"], numbers, positions, strict=True)
    ]
    if return_X_y:
        return frames, stored["dipole"]
    names, dipole = stored["names"], stored["dipole"]
    return Bunch(frames=frames, dipole=dipole, charges=charges, names=names, DESCR=CHAIN_MOLECULES)


def _load(name, default_target, return_X_y, target):
    names, numbers, positions, labels = unpack_arrays(_read(name))
    target = default_target if target is None else target
    if not isinstance(target, str) or target not in labels:
        raise ValueError(f"target={target!r} is not a label of {name}; its labels are {', '.join(labels)}")
    frames = [
        Atoms(numbers=z, positions=r, info={"name": str(molecule)})
        for molecule, z, r in zip(names, numbers, positions, strict=True)
    ]
    if return_X_y:
        return frames, labels[target]
    return Bunch(
        frames=frames,
        names=names,
        target=labels[target],
        target_name=target,
        target_names=list(labels),
        units={label: PROPERTIES[label].unit for label in labels},
        tensors={label: CartesianTensor(PROPERTIES[label].formula, PROPERTIES[label].axial) for label in labels},
        DESCR=describe(name),
        **labels,
    )


def _read(name):
    with as_file(files("eqkernels.datasets") / f"{name}.npz") as path, np.load(path) as stored:
        return dict(stored)
