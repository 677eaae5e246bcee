"""Make molecules of 17 to 55 atoms with dipoles of GFN2-xTB: conformers of peptides and donor-acceptor chains.

Run as ``python -m examples.make_datasets.chains chain_molecules.npz``; needs tblite (``pip install tblite``). Frames
are grown atom by atom with random torsions, relaxed in part, so that they keep the distortions of a warm molecule, and
turned at random. Dipoles and charges of the atoms are those of GFN2-xTB (C. Bannwarth, S. Ehlert, S. Grimme, J. Chem.
Theory Comput. 15, 1652 (2019)).
"""

from __future__ import annotations

import argparse
import re
import time

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.units import Bohr, Hartree
from scipy.optimize import minimize
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

try:
    from tblite.interface import Calculator
except ImportError as error:
    raise ImportError("making molecules needs tblite: pip install tblite") from error

SEED = 20260201
RELAXATION_STEPS = 12  # of L-BFGS from the standard bond lengths and angles
MIN_DISTANCE = 1.9  # Angstrom between atoms that are no neighbors of neighbors: closer ones are grown anew
VALENCES = {"C": 4, "N": 3, "O": 2, "H": 1}
BOND_ORDERS = {"": 1, "=": 2, "#": 3}
SHORTENING = {1: 1.0, 2: 0.88, 3: 0.79}  # of the sum of covalent radii
ANGLES = {1: 109.5, 2: 120.0, 3: 180.0}  # degrees, by the largest order of the bonds of an atom
DONORS = {"amino": "N", "dimethylamino": "CN(C)", "methoxy": "CO"}
ACCEPTORS = {"aldehyde": "C=O", "nitrile": "C#N", "acid": "C(=O)O"}
RESIDUES = {"G": "C", "A": "C(C)", "S": "C(CO)", "N": "C(CC(=O)N)"}


def molecules():
    """Names and SMILES of the molecules: capped peptides, and conjugated or saturated chains between two groups."""
    chosen = {}
    for sequence in (
        "A",
        "S",
        "N",
        "GG",
        "GA",
        "AA",
        "GS",
        "GGG",
        "AGA",
        "SGG",
        "GNG",
        "GGGG",
        "AGAG",
        "GSGS",
        "GGGGG",
    ):
        middle = "".join(f"N{RESIDUES[one]}C(=O)" for one in sequence)
        chosen[f"peptide {sequence}"] = f"CC(=O){middle}NC"
    for donor, left in DONORS.items():
        for acceptor, right in ACCEPTORS.items():
            for n in (3, 5, 7, 9):
                chosen[f"{donor} polyene {n} {acceptor}"] = left + "C=C" * n + right
            for n in (6, 10, 14):
                chosen[f"{donor} alkane {n} {acceptor}"] = left + "C" * n + right
    return chosen


def graph(smiles):
    """Elements, parents and orders of the bonds to them, of the atoms of an acyclic SMILES, hydrogen added."""
    elements, parents, orders, branches, last, order = [], [], [], [], -1, 1
    for token in re.findall(r"[CNO]|[()=#]", smiles):
        if token == "(":
            branches.append(last)
        elif token == ")":
            last = branches.pop()
        elif token in BOND_ORDERS:
            order = BOND_ORDERS[token]
        else:
            elements.append(token)
            parents.append(last)
            orders.append(order if last >= 0 else 0)
            last, order = len(elements) - 1, 1
    used = np.array(orders, dtype=int)
    for k, parent in enumerate(parents):
        if parent >= 0:
            used[parent] += orders[k]
    for k in range(len(used)):
        missing = VALENCES[elements[k]] - used[k]
        elements += ["H"] * missing
        parents += [k] * missing
        orders += [1] * missing
    return elements, parents, orders


def grow(elements, parents, orders, rng):
    """Positions of a molecule with standard bond lengths and angles, and random torsions."""
    n = len(elements)
    radii = covalent_radii[Atoms(elements).numbers]
    children = [[k for k in range(n) if parents[k] == atom] for atom in range(n)]
    highest = np.array([max([orders[k], *(orders[c] for c in children[k])]) for k in range(n)])
    for k in range(n):  # the nitrogen of an amide or an enamine is planar
        neighbors = [*children[k], parents[k]]
        if elements[k] == "N" and any(one >= 0 and highest[one] == 2 for one in neighbors):
            highest[k] = max(highest[k], 2)
    positions, axis = np.zeros((n, 3)), np.zeros((n, 3))
    for atom in range(n):
        angle = np.radians(180.0 - ANGLES[highest[atom]])
        along = axis[atom] if parents[atom] >= 0 else np.array([0.0, 0.0, 1.0])
        across = _across(atom, parents, positions, along)
        planar = highest[atom] >= 2
        turn = _torsion(rng, planar and parents[atom] >= 0 and highest[parents[atom]] >= 2)
        for k, child in enumerate(children[atom]):
            phi = turn + k * (np.pi if planar else 2 * np.pi / 3)
            side = np.cos(phi) * across + np.sin(phi) * np.cross(along, across)
            direction = np.cos(angle) * along + np.sin(angle) * side
            if parents[atom] < 0 and k == 0:
                direction, along = along, -along  # the others around the first one
            axis[child] = direction
            length = SHORTENING[orders[child]] * (radii[atom] + radii[child])
            positions[child] = positions[atom] + length * direction
    return positions


def _across(atom, parents, positions, along):
    """Make a unit vector perpendicular to the bond to the parent, away from the grandparent."""
    parent = parents[atom]
    other = parents[parent] if parent >= 0 else -1
    hint = positions[other] - positions[parent] if other >= 0 else np.array([1.0, 0.3, 0.2])
    across = hint - (hint @ along) * along
    if np.linalg.norm(across) < 1e-3:
        across = np.cross(along, [0.3, 1.0, 0.2])
    return across / np.linalg.norm(across)


def _torsion(rng, planar):
    """Torsion about the bond to the parent: mostly trans where this is stiff, staggered else, with some noise."""
    degrees = (
        rng.choice([180.0, 0.0], p=[0.85, 0.15]) if planar else rng.choice([180.0, 60.0, -60.0], p=[0.7, 0.15, 0.15])
    )
    return np.radians(degrees + rng.normal(scale=10.0))


def xtb(numbers, positions):
    """Compute the result of GFN2-xTB for positions in Angstrom."""
    calculator = Calculator("GFN2-xTB", np.asarray(numbers), np.asarray(positions) / Bohr)
    calculator.set("verbosity", 0)
    return calculator.singlepoint()


def conformer(name, smiles, rng):
    """Grow, relax in part and turn a molecule, with ``info["dipole"]`` (e Angstrom) and charges of the atoms (e)."""
    elements, parents, orders = graph(smiles)
    numbers, positions = Atoms(elements).numbers, None
    while positions is None:
        grown = grow(elements, parents, orders, rng)
        distances = pdist(grown)
        if np.sum(distances < MIN_DISTANCE) == _close_pairs(parents, distances):
            positions = relax(numbers, grown)
    positions = (positions - positions.mean(axis=0)) @ Rotation.from_quat(rng.normal(size=4)).as_matrix()
    result = xtb(numbers, positions)
    atoms = Atoms(numbers, positions, info={"name": name, "dipole": result.get("dipole") * Bohr})
    atoms.arrays["xtb_charges"] = result.get("charges")
    return atoms


def relax(numbers, positions):
    """Relax positions in part; None where the self-consistent field does not converge."""

    def objective(flat):
        result = xtb(numbers, flat.reshape(-1, 3))
        return result.get("energy") * Hartree, result.get("gradient").ravel() * Hartree / Bohr

    options = {"maxiter": RELAXATION_STEPS}
    try:
        relaxed = minimize(objective, positions.ravel(), jac=True, method="L-BFGS-B", options=options)
    except RuntimeError:
        return None
    return relaxed.x.reshape(-1, 3)


def _close_pairs(parents, distances):
    """Count pairs of bonded atoms and of neighbors of one atom, which are close whatever the torsions."""
    n = len(parents)
    bonded = np.zeros((n, n), dtype=bool)
    for k, parent in enumerate(parents):
        if parent >= 0:
            bonded[k, parent] = bonded[parent, k] = True
    near = (bonded | (bonded.astype(int) @ bonded.astype(int) > 0))[np.triu_indices(n, 1)]
    return np.sum(near & (distances < MIN_DISTANCE))


def write(path, frames):
    """Write frames as arrays."""
    np.savez_compressed(
        path,
        names=np.array([atoms.info["name"] for atoms in frames]),
        n_atoms=np.array([len(atoms) for atoms in frames]),
        numbers=np.concatenate([atoms.numbers for atoms in frames]).astype(np.uint8),
        positions=np.concatenate([atoms.positions for atoms in frames]).astype(np.float32),
        dipole=np.array([atoms.info["dipole"] for atoms in frames]),
        charges=np.concatenate([atoms.arrays["xtb_charges"] for atoms in frames]).astype(np.float32),
    )


def main():
    """Make the molecules of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--conformers", type=int, default=4, help="of each molecule")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="k n: every n-th molecule from the k-th")
    options = parser.parse_args()
    frames, start = [], time.perf_counter()
    k, n = options.part
    for number, (name, smiles) in list(enumerate(molecules().items()))[k::n]:
        for copy in range(options.conformers):
            frames.append(conformer(name, smiles, np.random.default_rng([SEED, number, copy])))
        print(f"{name}: {len(frames[-1])} atoms, {time.perf_counter() - start:.0f} s", flush=True)
        write(options.path, frames)


if __name__ == "__main__":
    main()
