r"""Fields of the atoms of a crystal, expanded around each of them: sums over wave vectors.

The field of all atoms j of species a, images included, has the coefficients

.. math:: c^i_{anlm} = \frac{4\pi\, i^l}{\Omega} \sum_{\mathbf k \ne 0} \hat V(k)\, \tilde R_{nl}(k)\,
          Y_{lm}(\hat{\mathbf k}) \sum_{j \in a} e^{i \mathbf k \cdot (\mathbf r_i - \mathbf r_j)}

around atom i (Grisafi, Ceriotti, J. Chem. Phys. 151, 204105 (2019)), with the transforms of
:mod:`eqkernels.radial.power_laws`. Cosines of the phases contribute to even l, sines to odd l. Wave vectors k and
-k are one term. The term k = 0 is there where it is finite (p > 3), and is left out elsewhere, as for charges in a
neutralizing background.

Matrix products do the work: of phases (centers, wave vectors) by functions (wave vectors, components), for some wave
vectors at a time. With the density of atoms, their number of operations per atom grows as the volume of the cell.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from eqkernels.descriptors.density._density_loops import expand_density
from eqkernels.descriptors.density._gradient_loops import expand_gradients
from eqkernels.descriptors.density._reciprocal_loops import contract_phases, half_space, phases, relative_phases
from eqkernels.radial.power_laws import power_at_zero, transformed_power
from eqkernels.so3.spherical_harmonics import harmonics_prefactors

# Bytes of functions of wave vectors that are made and used up at once.
_FUNCTIONS_AT_ONCE = 2**20
# More wave vectors than this are a molecule in a box, or a sigma in other units.
MOST_WAVES = 3 * 10**6


def n_waves(volume, cutoff):
    """About how many wave vectors, of which k and -k count once, are shorter than a cutoff."""
    return volume * cutoff**3 / (12 * np.pi**2)


class Crystal:
    """Field of the atoms of one periodic structure.

    Parameters
    ----------
    table : TransformTable
    n_max : int
    positions : ndarray of shape (n_atoms, 3)
    cell : ndarray of shape (3, 3)
    species : ndarray of int, shape (n_atoms,)
        Number of the species of each atom, negative where it does not count.
    n_species : int
    """

    def __init__(self, table, n_max, positions, cell, species, n_species):
        self.table, self.n_max, self.species, self.n_species = table, n_max, species, n_species
        self.volume, inverse = abs(np.linalg.det(cell)), np.linalg.inv(cell)
        self.fractions = positions @ inverse
        self.fractions -= np.floor(self.fractions)
        reciprocal = 2 * np.pi * inverse.T
        self.bounds = np.floor(table.cutoff * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(np.int64)
        self.indices = np.empty(
            (half_space(reciprocal, table.cutoff, self.bounds, np.empty((0, 3), np.int64)), 3), np.int64
        )
        half_space(reciprocal, table.cutoff, self.bounds, self.indices)
        self.vectors = self.indices @ reciprocal
        self.norms = np.sqrt(np.sum(self.vectors**2, axis=1))
        l = np.repeat(np.arange(table.l_max + 1), 2 * np.arange(table.l_max + 1) + 1)
        self._even, self._odd = np.flatnonzero(l % 2 == 0), np.flatnonzero(l % 2)
        self._signs = np.where((l + 1) // 2 % 2, -1.0, 1.0)
        # cosines and sines summed over the atoms of each species
        self.sums = np.zeros((2, n_species, len(self.norms)))
        members = np.array([species == s for s in range(n_species)], dtype=float)
        for part in self._parts():
            for out, waves in zip(self.sums, self._phases(slice(None), part), strict=True):
                np.matmul(members, waves, out=out[:, part])

    def add_density(self, atoms, out):
        """Add the coefficients of some atoms to out (n, (l_max + 1)^2, n_species * n_max)."""
        self._by_species(out)[:, 0] += self._at_zero
        for part in self._parts():
            functions = self._functions(part)
            waves = self._phases(atoms, part)
            for s in range(self.n_species):
                for of_degree, phase, values in zip(
                    (self._even, self._odd), self._relative(waves, s, part), functions, strict=True
                ):
                    self._add(out, of_degree, s, phase @ values)

    def strains(self, atoms, out):
        """Add the derivatives by the strain to out (n, 9, (l_max + 1)^2, n_species * n_max)."""
        self._by_species(out)[:, ::4, 0] -= self._at_zero
        for part in self._parts():
            functions, waves = self._strained(part), self._phases(atoms, part)
            for s in range(self.n_species):
                for of_degree, phase, values in zip(
                    (self._even, self._odd), self._relative(waves, s, part), functions, strict=True
                ):
                    self._add(out, of_degree, s, phase @ values)

    def moves(self, centers, moved, out):
        """Add the derivatives of the coefficients of centers by the positions of other atoms, of their species.

        out (n_pairs, 3, (l_max + 1)^2, n_max), for pairs of atoms.
        """
        for part in self._parts():
            (ci, si), (cj, sj) = self._phases(centers, part), self._phases(moved, part)
            difference = si * cj - ci * sj, -(ci * cj + si * sj)
            for of_degree, phase, values in zip(
                (self._even, self._odd), difference, self._functions(part), strict=True
            ):
                along = self.vectors[part].T[:, :, None] * values
                for x in range(3):
                    product = phase @ along[x]
                    out[:, x, of_degree] += product.reshape(len(product), len(of_degree), self.n_max)

    def contract(self, atoms, cotangent, positions, strain):
        """Add the derivative of sum(cotangent * coefficients) of some atoms to those by all positions and by strain.

        cotangent (n, (l_max + 1)^2, n_species * n_max), positions (n_atoms, 3), strain (3, 3).
        """
        strain -= np.eye(3) * np.sum(self._by_species(cotangent)[:, 0] * self._at_zero)
        parts = [
            [self._columns(cotangent, of_degree, s) for of_degree in (self._even, self._odd)]
            for s in range(self.n_species)
        ]
        for part in self._parts():
            functions, vectors = self._functions(part), self.vectors[part]
            c, s = self._phases(atoms, part)
            c_others, s_others = self._phases(slice(None), part)
            weights = [np.zeros_like(one) for one in functions]
            of_centers, of_others = np.zeros_like(c), np.zeros((2, self.n_species, len(vectors)))
            for species in range(self.n_species):
                real, imaginary = self._relative((c, s), species, part)
                by_real, by_imaginary = (g @ one.T for g, one in zip(parts[species], functions, strict=True))
                contract_phases(c, s, real, imaginary, by_real, by_imaginary, of_centers, of_others[:, species])
                for weight, phase, g in zip(weights, (real, imaginary), parts[species], strict=True):
                    weight += phase.T @ g
            positions[atoms] += of_centers @ vectors
            for species in range(self.n_species):
                own = np.flatnonzero(self.species == species)
                by_others = (c_others[own] * of_others[0, species]) @ vectors
                positions[own] += by_others - (s_others[own] * of_others[1, species]) @ vectors
            values, gradient = self._gradients(part)
            for weight, f, slope in zip(weights, self._split(values), self._split(gradient), strict=True):
                by_vector = np.einsum("kf,kxf->kx", weight, slope.reshape(len(weight), 3, -1))
                strain -= vectors.T @ by_vector + np.eye(3) * np.sum(weight * f)

    @cached_property
    def _at_zero(self):
        """Coefficients (n_species, n_max) of l = 0 of the wave vector zero."""
        counts = np.bincount(self.species[self.species >= 0], minlength=self.n_species)
        value = np.sqrt(4 * np.pi) / self.volume * power_at_zero(self.table.exponent, self.table.width)
        return counts[:, None] * (value * self.table.at_zero)

    def _parts(self):
        """Ranges of wave vectors."""
        size = max(1, _FUNCTIONS_AT_ONCE // (8 * (self.table.l_max + 1) ** 2 * self.n_max))
        return [slice(k, min(k + size, len(self.norms))) for k in range(0, len(self.norms), size)]

    def _phases(self, atoms, part):
        fractions = np.ascontiguousarray(self.fractions[atoms])
        cosines, sines = np.empty((2, len(fractions), part.stop - part.start))
        phases(fractions, self.indices[part], self.bounds, cosines, sines)
        return cosines, sines

    def _relative(self, waves, s, part):
        """Cosines and sines of k . (r_i - r_j), summed over the atoms j of a species."""
        real, imaginary = np.empty((2, *waves[0].shape))
        relative_phases(*waves, np.ascontiguousarray(self.sums[:, s, part]), real, imaginary)
        return real, imaginary

    def _loop_arguments(self, part):
        n = part.stop - part.start
        return np.arange(n), self.vectors[part], self.norms[part], self.table.l_max, self.n_max

    def _harmonics(self, part):
        """Make transforms times harmonics, (n_k, (l_max + 1)^2, n_max), and 8 pi V / volume, for k and -k."""
        order, vectors, norms, l_max, n_max = self._loop_arguments(part)
        values = np.empty((len(order), (l_max + 1) ** 2, n_max))
        expand_density(
            order, np.arange(len(order) + 1), order, vectors, norms, np.zeros(len(order), np.int64), 1, l_max, n_max,
            harmonics_prefactors(l_max), np.zeros(n_max), *self.table.loop_arguments(), values,
        )  # fmt: skip
        power, slope = transformed_power(norms, self.table.exponent, self.table.width)
        factor = 8 * np.pi / self.volume
        return values * self._signs[:, None], factor * power, factor * slope

    def _functions(self, part):
        """Functions of the wave vectors (n_k, components * n_max) of even and of odd degrees."""
        values, power, _ = self._harmonics(part)
        values *= power[:, None, None]
        return self._split(values)

    def _gradients(self, part):
        """Functions of the wave vectors (n_k, components, n_max), and their gradients (n_k, 3, components, n_max)."""
        order, vectors, norms, l_max, n_max = self._loop_arguments(part)
        values, power, slope = self._harmonics(part)
        gradient = np.zeros((len(order), 3, (l_max + 1) ** 2, n_max))
        expand_gradients(order, order, vectors, norms, l_max, n_max, harmonics_prefactors(l_max),
                         *self.table.loop_arguments(), gradient)  # fmt: skip
        gradient *= self._signs[:, None] * power[:, None, None, None]
        gradient += (slope / norms)[:, None, None, None] * vectors[:, :, None, None] * values[:, None]
        return power[:, None, None] * values, gradient

    def _strained(self, part):
        """Differentiate the functions by strain, (n_k, 9 * components * n_max): it changes k by -strain^T k."""
        values, gradient = self._gradients(part)
        changes = -self.vectors[part][:, :, None, None, None] * gradient[:, None]
        changes[:, range(3), range(3)] -= values[:, None]
        return self._split(changes.reshape(len(values), 9, *values.shape[1:]))

    def _split(self, values):
        return tuple(
            np.ascontiguousarray(values[..., rows, :]).reshape(len(values), -1) for rows in (self._even, self._odd)
        )

    def _by_species(self, array):
        return array.reshape(*array.shape[:-1], self.n_species, self.n_max)

    def _columns(self, array, rows, s):
        """Coefficients of some components and a species, as a matrix."""
        return np.ascontiguousarray(self._by_species(array)[..., rows, s, :]).reshape(len(array), -1)

    def _add(self, out, rows, s, product):
        target = self._by_species(out)
        target[..., rows, s, :] += product.reshape(*out.shape[:-2], len(rows), self.n_max)
