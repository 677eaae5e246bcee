"""Structures that the fuzz tests draw: recipes with a repr to paste."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list
from hypothesis import strategies as st

MOLECULES = ("H2O", "NH3", "CH4", "CO2", "HF", "N2", "C2H2", "CH3OH", "H2O2", "PH3", "C2H4", "LiF")
CRYSTALS = (
    ("Si", "diamond", 5.43),
    ("Cu", "fcc", 3.61),
    ("Fe", "bcc", 2.87),
    ("NaCl", "rocksalt", 5.64),
    ("ZnS", "zincblende", 5.41),
    ("CsCl", "cesiumchloride", 4.11),
    ("Po", "sc", 3.36),
    ("Mg", "hcp", 3.21),
)
KINDS = ("molecule", "cluster", "atom", "apart", "bulk", "cubic", "slab", "wire", "cell", "elements")
# Distances below this belong to no structure that anyone computes.
_CLOSEST = 0.75


@dataclass(frozen=True)
class Frame:
    """Recipe of a structure: ``Frame(...).atoms()`` makes it again."""

    kind: str
    name: str = "H2O"
    rattle: float = 0.0
    seed: int = 0
    n: int = 1

    def atoms(self):
        """Make the structure."""
        random = np.random.default_rng(self.seed)
        atoms = getattr(self, f"_{self.kind}")(random)
        atoms.positions += self.rattle * random.uniform(-1, 1, size=atoms.positions.shape)
        return atoms

    def _molecule(self, random):
        return molecule(self.name)

    def _atom(self, random):
        return Atoms([self.name], positions=random.normal(size=(1, 3)))

    def _apart(self, random):
        """Two pieces beyond every cutoff, one of them a lone atom."""
        return Atoms(self.name, positions=[[0, 0, 0]]) + Atoms("H2", positions=[[50, 0, 0], [50, 0.8, 0]])

    def _cluster(self, random):
        symbols = self.name.split("-")
        return Atoms(random.choice(symbols, size=self.n), positions=_apart(random, self.n, _ball(random, self.n)))

    def _bulk(self, random):
        name, structure, a = next(one for one in CRYSTALS if one[0] == self.name)
        return bulk(name, structure, a=a)

    def _cubic(self, random):
        name, structure, a = next(one for one in CRYSTALS if one[0] == self.name)
        return bulk(name, structure, a=a, **({"cubic": True} if structure not in ("hcp", "sc") else {}))

    def _slab(self, random):
        atoms = fcc111("Cu", (1, 1, self.n), vacuum=None, a=3.61)
        atoms.pbc = (True, True, False)
        return atoms

    def _wire(self, random):
        symbols = self.name.split("-")
        axis = int(random.integers(3))
        cell = np.zeros((3, 3))
        cell[axis] = random.normal(size=3)
        cell[axis] *= random.uniform(1.4, 4.0) / np.linalg.norm(cell[axis])
        pbc = np.arange(3) == axis
        positions = _apart(random, self.n, _ball(random, self.n), cell, pbc)
        return Atoms(random.choice(symbols, size=len(positions)), positions=positions, cell=cell, pbc=pbc)

    def _cell(self, random):
        """Random atoms in a skewed cell, often smaller than the cutoff, periodic in any directions."""
        symbols = self.name.split("-")
        cell = np.diag(random.uniform(2.0, 4.5, size=3)) + random.normal(scale=0.6, size=(3, 3))
        if abs(np.linalg.det(cell)) < 6.0:
            cell = np.diag([2.3, 2.8, 3.4]) @ cell / np.linalg.norm(cell, axis=1)[:, None]
        if abs(np.linalg.det(cell)) < 6.0:
            cell = np.diag([2.3, 2.8, 3.4])
        pbc = [(True, True, True), (True, True, False), (False, True, True), (True, False, True)][self.seed % 4]
        positions = _apart(random, self.n, lambda: random.uniform(size=3) @ cell, cell, pbc)
        return Atoms(random.choice(symbols, size=len(positions)), positions=positions, cell=cell, pbc=pbc)

    def _elements(self, random):
        """One atom of each of n elements."""
        numbers = 1 + random.permutation(92)[: self.n]
        return Atoms(numbers, positions=_apart(random, self.n, _ball(random, self.n)))


def _ball(random, n):
    radius = 0.6 * _CLOSEST + 1.1 * n ** (1 / 3)
    return lambda: random.uniform(-radius, radius, size=3)


def _apart(random, n, draw, cell=None, pbc=False):
    """Positions that keep a distance, as many as fit."""
    atoms = Atoms(cell=cell, pbc=pbc)
    for _ in range(60 * n):
        new = atoms + Atoms("H", positions=[draw()])
        if len(neighbor_list("i", new, _CLOSEST)) == 0:
            atoms = new
        if len(atoms) == n:
            break
    return atoms.positions if len(atoms) else np.zeros((1, 3))


@st.composite
def frames(draw, kinds=KINDS, n_frames=(1, 4), rattles=(0.0, 1e-3, 0.05, 0.15), n_atoms=6):
    """A list of recipes with few species in all, so that structures have environments in common."""
    pool = draw(st.sampled_from(["H", "H-O", "H-C-O", "Na-Cl", "H-C-N-O", "Cu", "Si-O-Zn-Fe", "Cs-U-H"]))
    kind = st.sampled_from(kinds)
    names = {
        "molecule": st.sampled_from(MOLECULES),
        "atom": st.sampled_from(pool.split("-")),
        "apart": st.sampled_from(pool.split("-")),
        "bulk": st.sampled_from([one[0] for one in CRYSTALS]),
        "cubic": st.sampled_from([one[0] for one in CRYSTALS]),
    }
    out = []
    for _ in range(draw(st.integers(*n_frames))):
        what = draw(kind)
        n = draw(st.integers(1, n_atoms))
        if what == "elements":
            n = draw(st.sampled_from([2, 5, 16, 64]))
        out.append(
            Frame(
                what,
                draw(names.get(what, st.just(pool))),
                rattle=draw(st.sampled_from(rattles)),
                seed=draw(st.integers(0, 2**20)),
                n=n,
            )
        )
    return tuple(out)


def symbols_of(recipes):
    """Chemical symbols in a list of recipes, by atomic number."""
    numbers = sorted({int(z) for one in recipes for z in one.atoms().numbers})
    return [chemical_symbols[z] for z in numbers]
