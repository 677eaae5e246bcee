"""Properties by name: the index symmetry of each, and whether it belongs to atoms or to structures."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Property:
    """What physics says about a property.

    Attributes
    ----------
    name : str
    formula : str
        Index symmetries, as in :class:`CartesianTensor`.
    axial : str
        Its axial indices, or ``"*"`` for a sign of the whole tensor.
    per_atom : bool or None
        Whether each atom has one, or the structure; None: either.
    synonyms : tuple of str
        Other names; their plurals are understood, too.
    """

    name: str
    formula: str
    axial: str = ""
    per_atom: bool | None = False
    synonyms: tuple[str, ...] = ()


_TABLE = (
    Property("energy", "", synonyms=("total_energy", "potential_energy", "free_energy", "formation_energy")),
    Property("band_gap", "", synonyms=("gap", "homo_lumo_gap")),
    Property("dipole", "i", synonyms=("dipole_moment",)),
    Property("polarization", "i", synonyms=("polarisation",)),
    Property("polarizability", "ij=ji", synonyms=("polarisability", "dipole_polarizability")),
    Property(
        "hyperpolarizability", "ijk=jik=ikj", synonyms=("hyperpolarisability", "first_hyperpolarizability")
    ),
    Property("second_hyperpolarizability", "ijkl=jikl=ikjl=ijlk", synonyms=("second_hyperpolarisability",)),
    Property("quadrupole", "ij=ji", synonyms=("quadrupole_moment",)),
    Property("octupole", "ijk=jik=ikj", synonyms=("octupole_moment", "octopole")),
    Property("dielectric", "ij=ji", synonyms=("dielectric_tensor", "dielectric_constant", "permittivity")),
    Property("stress", "ij=ji", synonyms=("stress_tensor", "virial")),
    Property("elastic", "ijkl=jikl=klij", synonyms=("elastic_tensor", "elastic_constant", "elasticity", "stiffness")),
    Property("piezoelectric", "ijk=ikj", synonyms=("piezoelectric_tensor", "piezoelectric_coefficient")),
    Property("second_harmonic", "ijk=ikj", synonyms=("second_harmonic_generation", "shg", "chi2")),
    Property("conductivity", "ij=ji", synonyms=("thermal_conductivity", "electrical_conductivity", "diffusion")),
    Property("thermal_expansion", "ij=ji"),
    Property("magnetizability", "ij=ji", synonyms=("magnetisability", "magnetic_susceptibility")),
    Property("optical_rotation", "ij", "j", synonyms=("optical_rotation_tensor", "gprime")),
    Property("gyration", "ij=ji", "*", synonyms=("gyration_tensor",)),
    Property("g_tensor", "ij"),
    Property("magnetic_moment", "i", "i", None, synonyms=("magnetic_dipole", "magnetization", "magnetisation")),
    Property("atomic_magnetic_moment", "i", "i", True, synonyms=("spin", "spin_moment", "atomic_spin", "spin_vector")),
    Property("forces", "i", "", True, synonyms=("force", "atomic_force")),
    Property("charges", "", "", True, synonyms=("charge", "atomic_charge", "partial_charge")),
    Property("atomic_energy", "", "", True),
    Property("atomic_dipole", "i", "", True, synonyms=("atomic_dipole_moment",)),
    Property("atomic_polarizability", "ij=ji", "", True, synonyms=("atomic_polarisability",)),
    Property("atomic_stress", "ij=ji", "", True),
    Property(
        "born_charge", "ij", "", True,
        synonyms=("born_effective_charge", "effective_charge", "bec", "polar_tensor", "atomic_polar_tensor",
                  "dipole_derivative", "apt"),
    ),
    Property("atomic_axial_tensor", "ij", "j", True, synonyms=("aat",)),
    Property(
        "shielding", "ij", "", True,
        synonyms=("nmr_shielding", "magnetic_shielding", "chemical_shielding", "shielding_tensor", "nmr"),
    ),
    Property("efg", "ij=ji", "", True, synonyms=("electric_field_gradient", "efg_tensor")),
    Property("raman_tensor", "ijk=jik", "", True, synonyms=("polarizability_derivative",)),
    Property("vector", "i", "", None, synonyms=("polar_vector",)),
    Property("pseudovector", "i", "i", None, synonyms=("axial_vector",)),
    Property("director", "ij=ji", "", None, synonyms=("double_headed_ray",)),
    Property("helix", "ij=ji", "*", None, synonyms=("spiral", "chiral_director")),
)  # fmt: skip

#: By name, in the order of the table that the documentation prints.
PROPERTIES = {one.name: one for one in _TABLE}

# Symbols that would pass for indices, and what they usually mean.
_SYMBOLS = {
    "mu": "dipole",
    "alpha": "polarizability",
    "beta": "hyperpolarizability",
    "gamma": "second_hyperpolarizability",
    "eps": "dielectric",
    "epsilon": "dielectric",
    "sigma": "shielding",
    "chi": "magnetizability",
    "bader": "charges",
    "magmom": "magnetic_moment",
    "magmoms": "atomic_magnetic_moment",
}


def find_property(name):
    """Look up the property of a name, its plural or a synonym; case, blanks and hyphens do not matter.

    Parameters
    ----------
    name : str

    Returns
    -------
    Property or None
        None for what is no such name, but may be a formula of indices.

    Examples
    --------
    >>> find_property("polarizabilities").formula, find_property("Born effective charges").per_atom
    ('ij=ji', True)
    """
    return _names().get(_normalized(name))


def refuse_word(formula):
    """Refuse a formula that is a word, not a set of indices, and list the names that are like it.

    Parameters
    ----------
    formula : str
        Without the name of a property.

    Raises
    ------
    ValueError
    """
    word = _normalized(formula)
    letters = word.replace("_", "")
    if not letters.isalpha() or (_indices(word) and word not in _SYMBOLS):
        return
    near = [_SYMBOLS[word]] if word in _SYMBOLS else []
    near += [one.name for name, one in _names().items() if len(word) > 1 and (word in name or name in word)]
    near += [_names()[name].name for name in difflib.get_close_matches(word, _names(), n=5, cutoff=0.6)]
    names = ", ".join(repr(name) for name in dict.fromkeys(near or PROPERTIES))
    raise ValueError(
        f"target {formula!r} is no property that is known by name, and its letters are no indices: "
        f"{'did you mean' if near else 'the names are'} {names}{'?' if near else ''} Else give the index symmetry, "
        "as in 'i', 'ij=ji' or 'ijk=jik=ikj'"
    )


def table_of_properties():
    """List the properties as rows of text, for docstrings and the command line.

    Returns
    -------
    str
    """
    rows = [("name", "index symmetry", "of")]
    for one in _TABLE:
        axial = ", changes with handedness" if one.axial == "*" else f", {', '.join(one.axial)} axial"
        formula = f'"{one.formula}"' + (axial if one.axial else "")
        rows.append((one.name, formula, {True: "each atom", False: "the structure", None: "either"}[one.per_atom]))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    line = "  ".join("=" * width for width in widths)
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([line, text[0], line, *text[1:], line])


@lru_cache(maxsize=1)
def _names():
    names = {}
    for one in _TABLE:
        for name in (one.name, *one.synonyms):
            names[name] = one
            plural = name[:-1] + "ies" if name.endswith("y") else name + ("es" if name.endswith("ss") else "s")
            names.setdefault(plural, one)
    return names


def _normalized(name):
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _indices(word):
    """Whether letters are such as indices are called: ascending, or one or two runs of the alphabet, as in 'ijab'."""
    codes = [ord(letter) for letter in word]
    ordered = sorted(codes)
    runs = 1 + sum(after != before + 1 for before, after in zip(codes, codes[1:], strict=False))
    return len(word) < 3 or codes == ordered or runs <= 2 or ordered == list(range(ordered[0], ordered[-1] + 1))
