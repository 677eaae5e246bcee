"""Flexible water from sums over pairs, as labels of models and reference of their dynamics."""

import numpy as np
from ase.calculators.calculator import Calculator
from ase.units import kcal, mol

COULOMB = 14.3996454784255  # eV A / e^2


class PairWater(Calculator):
    """Harmonic O-H and H-H springs within molecules O, H, H, charges and a Lennard-Jones potential between them.

    The charges, the O-O potential and the O-H length are those of SPC (H. J. C. Berendsen et al., 1981); the springs
    keep the angle. The dipole is that of the charges, and polarizabilities are those of bonds, additive.
    """

    implemented_properties = ["energy", "forces", "dipole", "polarizability"]  # noqa: RUF012
    bond, spring, between_h, spring_h = 1.0, 45.0, 1.633, 10.0
    charges = np.array([-0.82, 0.41, 0.41])
    epsilon, sigma, sigma_oh = 0.1554 * kcal / mol, 3.166, 1.7

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        r, n = self.atoms.positions, len(self.atoms)
        energy, forces, alpha = 0.0, np.zeros((n, 3)), np.zeros((3, 3))
        for i in range(n):
            for j in range(i):
                d = r[i] - r[j]
                x = np.linalg.norm(d)
                value, slope = self._pair(i, j, x)
                energy += value
                forces[i] -= slope * d / x
                forces[j] += slope * d / x
                if i // 3 == j // 3 and j % 3 == 0:  # a bond
                    alpha += 0.4 * x * np.eye(3) + 0.5 * x * np.outer(d, d)
        self.results = {"energy": energy, "forces": forces, "polarizability": alpha,
                        "dipole": np.tile(self.charges, n // 3) @ r}  # fmt: skip

    def _pair(self, i, j, x):
        if i // 3 == j // 3:
            length, spring = (self.bond, self.spring) if j % 3 == 0 else (self.between_h, self.spring_h)
            return 0.5 * spring * (x - length) ** 2, spring * (x - length)
        product = COULOMB * self.charges[i % 3] * self.charges[j % 3]
        value, slope = product / x, -product / x**2
        if i % 3 == j % 3 == 0:
            six = (self.sigma / x) ** 6
            value += 4 * self.epsilon * (six**2 - six)
            slope += 4 * self.epsilon * (6 * six - 12 * six**2) / x
        elif 0 in (i % 3, j % 3):  # a wall, without which opposite charges would fall onto each other
            twelve = (self.sigma_oh / x) ** 12
            value, slope = value + 4 * self.epsilon * twelve, slope - 48 * self.epsilon * twelve / x
        return value, slope
