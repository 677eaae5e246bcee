"""What keys in files mean: the names that ASE, MACE, DeePMD-kit, TENSOAP and others give to quantities."""

from __future__ import annotations

import re

from eqkernels.so3.properties import find_property

# Beside the names and synonyms of the properties. Upper case where case matters (sGDML's E and F).
_KEYS = {
    "energy": ("E", "potential"),  # TENSOAP's potential
    "forces": ("F",),
    "atomic_energy": ("energies", "atom_ener", "atom_energy"),  # ASE, DeePMD-kit
    "dipole": ("mu",),
    "polarizability": ("alpha", "polar", "pol"),
    "hyperpolarizability": ("beta", "hyperpol"),
    "second_hyperpolarizability": ("gamma",),
    "dielectric": ("eps", "epsilon", "eps_inf", "epsilon_inf", "epsilon_infinity"),
    "born_charge": ("zstar", "z_star", "born_charge_tensor", "born"),
    "shielding": ("cs_tensor", "sigma_tensor", "nmr_tensor"),
    "atomic_magnetic_moment": ("magmom", "magmoms"),
    "atomic_stress": ("stresses",),
}
# Synonyms of properties with the same index symmetry that are other quantities.
_OTHER_QUANTITIES = {
    "virial": ("virial", "virials"),
    "free_energy": ("free_energy", "free_energies"),
    "formation_energy": ("formation_energy", "formation_energies"),
    "thermal_conductivity": ("thermal_conductivity",),
    "electrical_conductivity": ("electrical_conductivity",),
    "diffusion": ("diffusion",),
    "magnetization": ("magnetization", "magnetisation"),
    "atomic_polar_tensor": ("polar_tensor", "atomic_polar_tensor", "dipole_derivative", "apt"),
}
_QUANTITIES = {key: name for table in (_KEYS, _OTHER_QUANTITIES) for name, keys in table.items() for key in keys}
# metatrain's mtt::dipole, MACE's REF_energy, others' dft_energy and energy_ref.
_AFFIXES = re.compile(r"^mtt::|^(ref|reference|dft|qm|true|target)_|_(ref|reference|dft|qm|true|target)$")


def quantity_of(key: str) -> str | None:
    """Name of the quantity that a key means, itself usable as a target.

    Parameters
    ----------
    key : str
        Of a file, or a target that is named.

    Returns
    -------
    str or None
        The name of a property; one of its synonyms if that is another quantity, which only has the same symmetry;
        None if the key is not known.

    Examples
    --------
    >>> quantity_of("REF_dipole"), quantity_of("alpha"), quantity_of("virials"), quantity_of("label")
    ('dipole', 'polarizability', 'virial', None)
    """
    if key in _QUANTITIES:
        return _QUANTITIES[key]
    word = _AFFIXES.sub("", key.strip().lower().replace("-", "_").replace(" ", "_"))
    if word in _QUANTITIES:
        return _QUANTITIES[word]
    known = find_property(word)
    return None if known is None else known.name


def rank_of(quantity: str) -> int:
    """Rank of a quantity that is known by name."""
    return len(_known(quantity).formula.partition("=")[0])


def belongs_to_atoms(quantity: str) -> bool | None:
    """Whether a quantity that is known by name belongs to atoms; None: to either."""
    return _known(quantity).per_atom


def _known(quantity):
    return find_property(quantity)
