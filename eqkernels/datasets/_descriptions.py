"""The DESCR texts of the bundled data sets."""

from __future__ import annotations

from textwrap import fill

from eqkernels.datasets._storage import PROPERTIES, SET_PROPERTIES

CHAIN_MOLECULES = """\
Peptides and donor-acceptor chains
==================================

312 structures, 4 conformers of each of 78 molecules with 17 to 55 atoms: capped peptides of one to five residues (G, A,
S, N), and polyenes and alkanes between a donor (amino, dimethylamino, methoxy) and an acceptor (aldehyde, nitrile,
carboxylic acid).

Geometries: grown atom by atom with standard bond lengths and angles and random torsions (double and amide bonds 85 %
trans; others 70 % trans, 30 % gauche; all with a Gaussian noise of 10 degrees); grown anew where atoms that are neither
bonded nor neighbors of one atom came closer than 1.9 Angstrom; relaxed by 12 steps of L-BFGS in GFN2-xTB, so that they
keep distortions of a warm molecule; turned at random and centred.

Labels: dipoles (e Angstrom) and charges of the atoms (e, Mulliken) of GFN2-xTB (C. Bannwarth, S. Ehlert, S. Grimme, J.
Chem. Theory Comput. 15, 1652 (2019)), computed with tblite. Remake them with examples/make_datasets/chains.py.
"""

_GEOMETRIES = {
    "small_organics": """\
Distorted molecules of H, C, N and O
====================================

900 structures, 30 of each of 30 molecules with 3 to 10 atoms: water, ammonia, methane, formaldehyde, methanol,
hydrogen cyanide, acetylene, ethylene, ethane, methylamine, formic acid, acetonitrile, acetaldehyde, oxirane, carbon
dioxide, hydrazine, hydrogen peroxide, ketene, nitrous oxide, ethanol, dimethyl ether, allene, propyne, cyclopropene,
aziridine, glyoxal, cyclopropane, propene, dimethylamine, ethylamine.

Geometries: each molecule of ASE's G2 collection was relaxed with GFN2-xTB; its normal modes (central differences of
the gradient, modes below 200 cm^-1 taken as 200 cm^-1) were sampled from the classical harmonic distribution at a
temperature drawn from 300 to 1500 K; samples with a bond changed by more than 20 % or a GFN2-xTB energy of more than
3 eV above the minimum were rejected; each structure was rotated at random and centred. The molecules alternate in the
list.""",
    "water_clusters": """\
Water monomers, dimers and trimers
==================================

500 structures: 100 monomers, 300 dimers, 100 trimers, in alternation.

Geometries: monomers are samples of the GFN2-xTB normal modes at 600 K. In a cluster each further one has a random
orientation and lies in a random direction from one of those before it, at an O-O distance drawn from 2.5 to 5
Angstrom. Clusters with a contact below 1.6 Angstrom or more than 0.22 eV of repulsion were rejected, and the others
accepted with the Metropolis probability of their GFN2-xTB interaction energy at 1500 K. Each was rotated at random
and centred. Many are not bound; they are neither minima nor samples of a liquid.""",
    "chiral_molecules": """\
Chiral molecules
================

400 structures: hydrogen peroxide (250), hydrazine, methanol and allene (50 each), in alternation.

Geometries: samples of the GFN2-xTB normal modes at 600 K, without bonds changed by more than 20 %; in hydrogen
peroxide one O-H bond was then rotated about the O-O axis by a uniformly distributed angle. Each structure was rotated
at random and centred. Both hands are about equally frequent.""",
}

_METHOD = """\
Labels: restricted Hartree-Fock in the def2-SVPD basis with density fitting (def2-SVP-JKFIT), PySCF 2.14, energy
converged to 1e-11 hartree. All derivatives are analytic, from dense coupled-perturbed Hartree-Fock matrices that were
checked to be positive definite (each solution is a minimum). There is no electron correlation and the basis is small:
the data are for testing and comparing models, not for predicting experiments. Labels are stored with 7 digits
(float32), the energy with 15.

Checked on methanol, formic acid, hydrogen cyanide and hydrogen peroxide: labels of rotated, reflected and shifted
molecules agree to 1e-11 of their size (the shielding to 1e-7), those of a tighter self-consistent field to 2e-7. The
polarizability agrees with finite fields to 2e-7, the hyperpolarizability to 3e-4 (the error of the finite fields; with
the pyscf-properties package to 4e-7), forces and polar tensors with finite differences to 2e-6 atomic units, the
shielding with a calculation without density fitting to 0.1 ppm, and G' with the explicit sum over states to 1e-4.

Units are atomic units (a0 = 0.52917721092 Angstrom) except for positions (Angstrom) and shieldings (ppm).
"""

_REST = """\
Remade by ``python -m examples.make_datasets.generate`` in the sources, which needs ``pip install "eqkernels[data]"``.

Licence: that of eqkernels (BSD-3-Clause). The data were computed for eqkernels; cite eqkernels, and for the method

- Q. Sun et al., J. Chem. Phys. 153, 024109 (2020), doi:10.1063/5.0006074 (PySCF)
- D. Rappoport, F. Furche, J. Chem. Phys. 133, 134105 (2010), doi:10.1063/1.3484283 (def2-SVPD)
- C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176 (GFN2-xTB)
"""


def describe(name):
    """Text of a data set.

    Parameters
    ----------
    name : str
        Name of the file, without its ending.

    Returns
    -------
    str

    Examples
    --------
    >>> print(describe("chiral_molecules").splitlines()[0])
    Chiral molecules
    """
    lines = [_line(label) for label in SET_PROPERTIES[name]]
    return "\n\n".join([_GEOMETRIES[name], _METHOD.strip(), "\n".join(lines), _REST])


def _line(label):
    known = PROPERTIES[label]
    symmetry = f'"{known.formula}"' if known.rank else "scalar"
    symmetry += f" with {known.axial} axial" if known.axial else ""
    owner = "each atom" if known.per_atom else "the structure"
    line = f"- {label}: {symmetry}, {known.unit}, of {owner}: {known.meaning}."
    return fill(line, 118, subsequent_indent="  ", break_long_words=False)
