"""Tensors of one closed-shell molecule by density-fitted Hartree-Fock and its linear response (needs PySCF).

All response equations are solved with dense matrices, without numerical grids, finite fields or iterative solvers, so
that the labels turn with the molecule to about 1e-7 of their size.
"""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

try:
    from pyscf import df, gto, lib, scf
    from pyscf.data import nist
    from pyscf.df.grad.rhf import get_jk as density_fitted_gradient_jk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyscf.prop.nmr.rhf import NMR
except ImportError as error:
    raise ImportError('computing labels needs PySCF and its properties: pip install "eqkernels[data]"') from error

SCF_TOLERANCE = 1e-11  # hartree; the response properties are then converged to six digits or more
GRADIENT_TOLERANCE = 1e-7
AUXILIARY_BASIS = "def2-svp-jkfit"


def compute_properties(numbers, positions, properties, basis="def2-svpd"):
    """Compute tensors of one molecule.

    Parameters
    ----------
    numbers : array-like of int, shape (n_atoms,)
        Atomic numbers of a neutral closed-shell molecule.
    positions : array-like of shape (n_atoms, 3)
        Positions in Angstrom.
    properties : sequence of str
        Names of public attributes of :class:`ClosedShellMolecule`, such as ``"polarizability"``.
    basis : str, default="def2-svpd"
        Basis set, as PySCF names it.

    Returns
    -------
    dict of str to float or ndarray
        Atomic units, but ppm for the shielding.

    Raises
    ------
    RuntimeError
        If the self-consistent field does not converge.
    numpy.linalg.LinAlgError
        If it converges to something else than a minimum.

    Examples
    --------
    >>> hydrogen = compute_properties([1, 1], [[0, 0, 0], [0, 0, 0.74]], ["polarizability"])
    >>> hydrogen["polarizability"].diagonal().round(1)
    array([4.3, 4.3, 6.4])
    """
    molecule = ClosedShellMolecule(numbers, positions, basis)
    return {name: getattr(molecule, name) for name in properties}


def _symmetrized_density(virtual, response, occupied):
    """First-order density matrices of a real perturbation."""
    half = 2 * np.einsum("pa,xai,qi->xpq", virtual, response, occupied, optimize=True)
    return half + half.transpose(0, 2, 1)


class ClosedShellMolecule:
    """Density-fitted restricted Hartree-Fock solution of a molecule; each property is computed when asked for.

    Operators with an origin have it at the centre of nuclear charge.

    Parameters
    ----------
    numbers, positions, basis
        As in :func:`compute_properties`.

    References
    ----------
    Hyperpolarizability: S. P. Karna, M. Dupuis, J. Comput. Chem. 12, 487 (1991), doi:10.1002/jcc.540120409.
    Shielding: K. Wolinski, J. F. Hinton, P. Pulay, J. Am. Chem. Soc. 112, 8251 (1990), doi:10.1021/ja00179a005.
    G' and its sign: L. D. Barron, Molecular Light Scattering and Optical Activity (2004),
    doi:10.1017/CBO9780511535468.
    """

    def __init__(self, numbers, positions, basis="def2-svpd"):
        atoms = [(int(number), tuple(position)) for number, position in zip(numbers, positions, strict=True)]
        self.molecule = gto.M(atom=atoms, basis=basis, unit="Angstrom", verbose=0, max_memory=4000)
        self.field = scf.RHF(self.molecule).density_fit(auxbasis=AUXILIARY_BASIS)
        self.field.conv_tol = SCF_TOLERANCE
        self.field.conv_tol_grad = GRADIENT_TOLERANCE
        self.field.max_cycle = 100
        self.field.kernel()
        if not self.field.converged:
            raise RuntimeError(f"the self-consistent field did not converge in {self.field.max_cycle} cycles")
        occupied = self.field.mo_occ > 0
        self.coefficients = self.field.mo_coeff
        self.occupied = self.coefficients[:, occupied]
        self.virtual = self.coefficients[:, ~occupied]
        self.is_occupied = occupied
        self.density = self.field.make_rdm1()
        self.charges = self.molecule.atom_charges()
        self.nuclei = self.molecule.atom_coords()
        self.origin = self.charges @ self.nuclei / self.charges.sum()
        self.molecule.set_common_orig(self.origin)

    @property
    def energy(self):
        """Total energy (hartree)."""
        return self.field.e_tot

    @cached_property
    def _position_operator(self):
        return self.molecule.intor_symmetric("int1e_r", comp=3)

    @property
    def dipole(self):
        """Dipole moment (e a0)."""
        nuclear = self.charges @ (self.nuclei - self.origin)
        return nuclear - np.einsum("xij,ji->x", self._position_operator, self.density)

    @property
    def quadrupole(self):
        """Traceless quadrupole moment of Buckingham, (3 sum q r r - sum q r^2) / 2 (e a0^2)."""
        operator = self.molecule.intor_symmetric("int1e_rr", comp=9).reshape(3, 3, *self.density.shape)
        arms = self.nuclei - self.origin
        moment = np.einsum("k,ki,kj->ij", self.charges, arms, arms) - np.einsum("xyij,ji->xy", operator, self.density)
        return 0.5 * (3 * moment - np.trace(moment) * np.eye(3))

    @cached_property
    def _response_matrices(self):
        """Cholesky factors of A + B (real perturbations) and A - B (imaginary ones); raises unless at a minimum."""
        fitted = lib.unpack_tril(np.vstack(list(self.field.with_df.loop())))
        half = np.einsum("Ppq,qi->Ppi", fitted, self.occupied, optimize=True)
        mixed = np.einsum("Ppi,pa->Pai", half, self.virtual, optimize=True)
        both_occupied = np.einsum("Ppi,pj->Pji", half, self.occupied, optimize=True)
        both_virtual = np.einsum("Ppq,pa,qb->Pab", fitted, self.virtual, self.virtual, optimize=True)
        coulomb = np.einsum("Pai,Pbj->aibj", mixed, mixed, optimize=True)
        exchange = np.einsum("Pab,Pij->aibj", both_virtual, both_occupied, optimize=True)
        swapped = coulomb.transpose(0, 3, 2, 1)
        energies = self.field.mo_energy
        gaps = energies[~self.is_occupied][:, None] - energies[self.is_occupied]
        size = gaps.size
        real = np.diag(gaps.ravel()) + (4 * coulomb - exchange - swapped).reshape(size, size)
        imaginary = np.diag(gaps.ravel()) + (swapped - exchange).reshape(size, size)
        return cho_factor(real), cho_factor(imaginary)

    @staticmethod
    def _solve(factor, right_sides):
        return cho_solve(factor, right_sides.reshape(len(right_sides), -1).T).T.reshape(right_sides.shape)

    def _virtual_occupied(self, operators):
        return np.einsum("xpq,pa,qi->xai", operators, self.virtual, self.occupied, optimize=True)

    @cached_property
    def _electric_response(self):
        """First-order orbitals of a uniform electric field (an electron feels +r.F)."""
        return -self._solve(self._response_matrices[0], self._virtual_occupied(self._position_operator))

    @cached_property
    def _electric_fock(self):
        """First-order densities and Fock matrices of a uniform electric field."""
        densities = _symmetrized_density(self.virtual, self._electric_response, self.occupied)
        coulomb, exchange = self.field.get_jk(self.molecule, densities, hermi=1)
        return densities, self._position_operator + coulomb - 0.5 * exchange

    @property
    def polarizability(self):
        """Static polarizability (a0^3)."""
        perturbation = self._virtual_occupied(self._position_operator)
        return -4 * np.einsum("xai,yai->xy", perturbation, self._electric_response)

    @property
    def hyperpolarizability(self):
        """Static first hyperpolarizability, dipole = mu + alpha F + beta F F / 2 (2n + 1 rule)."""
        response, (_, fock) = self._electric_response, self._electric_fock
        virtual = np.einsum("xpq,pa,qb->xab", fock, self.virtual, self.virtual, optimize=True)
        occupied = np.einsum("xpq,pi,qj->xij", fock, self.occupied, self.occupied, optimize=True)
        term = np.einsum("xab,yai,zbi->xyz", virtual, response, response, optimize=True)
        term -= np.einsum("xij,yai,zaj->xyz", occupied, response, response, optimize=True)
        permutations = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)]
        return -2 * sum(term.transpose(permutation) for permutation in permutations)

    @property
    def gprime(self):
        """Static limit of the electric-magnetic polarizability G'/omega, [electric i, magnetic j]: polar x axial.

        G'_ij / omega = -2 sum_n Im(<0|mu_i|n> <n|m_j|0>) / omega_n^2 with mu = -r and m = -(r x p)/2, so that
        optical rotation at low frequency is proportional to minus its trace.
        """
        nabla = self.molecule.intor("int1e_cg_irxp", comp=3)  # <p| r x nabla |q>, antisymmetric
        magnetic = self._solve(self._response_matrices[1], 0.5 * self._virtual_occupied(nabla))
        return -4 * np.einsum("xai,yai->xy", self._electric_response, magnetic)

    @property
    def forces(self):
        """Minus the derivative of the energy by each position (hartree / a0)."""
        return self._derivatives[0]

    @property
    def polar_tensor(self):
        """Derivative of the dipole by each position (e), [atom, dipole i, displacement j]."""
        return self._derivatives[1]

    @cached_property
    def _derivatives(self):
        gradient = self.field.nuc_grad_method()
        hamiltonian, overlap = gradient.hcore_generator(self.molecule), gradient.get_ovlp(self.molecule)
        responses, response_focks = self._electric_fock
        densities = np.array([self.density, *responses])
        coulomb, exchange = density_fitted_gradient_jk(gradient, self.molecule, densities, hermi=1)
        potential, auxiliary = coulomb - 0.5 * exchange, coulomb.aux - 0.5 * exchange.aux
        weighted = self._energy_weighted_densities(responses, response_focks)
        moved_dipole = self.molecule.intor("int1e_irp", comp=9).reshape(3, 3, *self.density.shape)
        slopes, polar_tensors = gradient.grad_nuc(self.molecule), []
        for atom, (_, _, first, last) in enumerate(self.molecule.aoslice_by_atom()):
            rows, core, tensor = slice(first, last), hamiltonian(atom), self.charges[atom] * np.eye(3)

            def contract(field, matrix, rows=rows):
                return 2 * np.einsum("xij,ij->x", field[:, rows], matrix[rows])

            slopes[atom] += np.einsum("xij,ij->x", core, self.density) + auxiliary[0, 0, atom]
            slopes[atom] += contract(potential[0], self.density) - contract(overlap, weighted[0])
            for i in range(3):
                tensor[i] -= np.einsum("xij,ij->x", core, densities[i + 1])
                tensor[i] -= contract(potential[0], densities[i + 1]) + contract(potential[i + 1], self.density)
                tensor[i] += contract(overlap, weighted[i + 1])
                tensor[i] -= auxiliary[0, i + 1, atom] + auxiliary[i + 1, 0, atom]
                tensor[i] += 2 * np.einsum("xij,ij->x", moved_dipole[i][:, :, rows], self.density[:, rows])
            polar_tensors.append(tensor)
        return -slopes, np.array(polar_tensors)

    def _energy_weighted_densities(self, responses, response_focks):
        fock, density = self.field.get_fock(), self.density
        first_order = [
            0.5 * (x @ fock @ density + density @ response_fock @ density + density @ fock @ x)
            for x, response_fock in zip(responses, response_focks, strict=True)
        ]
        return [0.5 * density @ fock @ density, *first_order]

    @property
    def electric_field_gradient(self):
        """Second derivatives of the electrostatic potential at each nucleus (hartree / (e a0^2)), without trace."""
        shape = (3, 3, *self.density.shape)
        gradients = []
        for atom, nucleus in enumerate(self.nuclei):
            with self.molecule.with_rinv_origin(nucleus):
                operator = self.molecule.intor("int1e_ipiprinv", 9).reshape(shape)
                operator = operator + self.molecule.intor("int1e_iprinvip", 9).reshape(shape)
            electronic = 2 * np.einsum("xyij,ij->xy", operator, self.density)
            arms = np.delete(self.nuclei, atom, axis=0) - nucleus
            distances = np.linalg.norm(arms, axis=1)
            nuclear = 3 * np.einsum("k,kx,ky->xy", np.delete(self.charges, atom) / distances**5, arms, arms)
            total = nuclear - (electronic + electronic.T) / 2
            gradients.append(total - np.trace(total) / 3 * np.eye(3))
        return np.array(gradients)

    @property
    def shielding(self):
        """Nuclear magnetic shielding (ppm) with gauge-including orbitals, [atom, nuclear moment i, field j]."""
        calculator = NMR(self.field)
        field_operator = self._magnetic_fock()
        energies, occupied = self.field.mo_energy, self.is_occupied
        overlap = np.einsum("xpq,pm,qi->xmi", calculator.get_ovlp(), self.coefficients, self.occupied, optimize=True)
        operator = np.einsum("xpq,pm,qi->xmi", field_operator, self.coefficients, self.occupied, optimize=True)
        orbitals = np.zeros_like(operator)
        orbitals[:, occupied] = -0.5 * overlap[:, occupied]
        # the part of the orbitals that is fixed by the overlap induces a field of its own
        induced = 2 * np.einsum("pj,xji,qi->xpq", self.occupied, orbitals[:, occupied], self.occupied, optimize=True)
        exchange = self.field.get_jk(self.molecule, induced - induced.transpose(0, 2, 1), hermi=2, with_j=False)[1]
        right_sides = (operator - overlap * energies[occupied])[:, ~occupied] - 0.5 * self._virtual_occupied(exchange)
        orbitals[:, ~occupied] = -self._solve(self._response_matrices[1], right_sides)
        field_first = calculator.dia(None) + calculator.para(mo10=orbitals)[0]
        return field_first.transpose(0, 2, 1) * nist.ALPHA**2 * 1e6

    def _magnetic_fock(self):
        """First-order Fock matrix of a magnetic field with gauge-including orbitals.

        The two-electron part is density-fitted like the field-free one: exact integrals on fitted orbitals would make
        the shielding depend on the origin.
        """
        molecule, auxiliary = self.molecule, self.field.with_df.auxmol
        twisted = np.asarray(df.incore.aux_e2(molecule, auxiliary, "int3c2e_ig1", aosym="s1", comp=3))
        plain = np.asarray(df.incore.aux_e2(molecule, auxiliary, "int3c2e", aosym="s1"))
        n_orbitals, n_auxiliary = molecule.nao, auxiliary.nao
        fit = np.linalg.solve(auxiliary.intor("int2c2e"), plain.reshape(-1, n_auxiliary).T)
        fit = fit.reshape(n_auxiliary, n_orbitals, n_orbitals)
        coulomb = twisted @ np.einsum("Pkl,kl->P", fit, self.density)
        left = np.einsum("xijP,jo->xioP", twisted, self.occupied, optimize=True).reshape(3, n_orbitals, -1)
        right = np.einsum("Pkl,ko->oPl", fit, self.occupied, optimize=True).reshape(-1, n_orbitals)
        exchange = 2 * left @ right
        exchange = exchange - exchange.transpose(0, 2, 1)
        one_electron = -0.5 * molecule.intor("int1e_giao_irjxp", 3) - molecule.intor("int1e_igkin", 3)
        return one_electron - molecule.intor_asymmetric("int1e_ignuc", 3) - coulomb + 0.5 * exchange
