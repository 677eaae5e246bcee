"""Names of point groups: of a set of matrices, from Schoenflies to Hermann-Mauguin, and the generators of a name.

Standard settings are those of Nye, Physical Properties of Crystals (1985): monoclinic axis y, other principal axes z;
2 along x in 32, -3m and -42m; m perpendicular to x in 3m and -6m2.
"""

from __future__ import annotations

import re

import numpy as np

from eqkernels.symmetry.group_algebra import SAME, axis_of, order, reflection, rotation

_X, _Y, _Z, _DIAGONAL = np.array([1, 0, 0]), np.array([0, 1, 0]), np.array([0, 0, 1]), np.array([1, 1, 1])
_GOLDEN = (1 + np.sqrt(5)) / 2
# No multiple of this angle comes near a full turn: an operation of it generates all rotations about the axis.
_IRRATIONAL = 2 * np.pi / _GOLDEN
_CUBIC_ORDERS = {12: "T", 24: "O", 60: "I"}
_INTERNATIONAL = {
    "Ci": "-1", "Cs": "m", "C2h": "2/m", "C2v": "mm2", "D2": "222", "D2h": "mmm", "T": "23", "Th": "m-3", "Td": "-43m",
    "O": "432", "Oh": "m-3m", "I": "235", "Ih": "m-3-5", "K": "∞∞", "Kh": "∞∞m", "Cinf": "∞", "Cinfh": "∞/m",
    "Cinfv": "∞m", "Dinf": "∞2", "Dinfh": "∞/mm",
}  # fmt: skip
# Other settings of a class: its standard name, and the rotation from the standard setting.
_SETTINGS = {
    "321": ("32", None), "3m1": ("3m", None), "-3m1": ("-3m", None),
    "312": ("32", rotation(_Z, np.pi / 2)), "31m": ("3m", rotation(_Z, np.pi / 2)),
    "-31m": ("-3m", rotation(_Z, np.pi / 2)), "-62m": ("-6m2", rotation(_Z, np.pi / 2)),
    "-4m2": ("-42m", rotation(_Z, np.pi / 4)), "2mm": ("mm2", rotation(_Y, np.pi / 2)),
    "m2m": ("mm2", rotation(_X, np.pi / 2)), "m3": ("m-3", None), "m3m": ("m-3m", None),
}  # fmt: skip
#: The 32 crystal classes in the order of International Tables A.
CRYSTAL_CLASSES = (
    "1", "-1", "2", "m", "2/m", "222", "mm2", "mmm", "4", "-4", "4/m", "422", "4mm", "-42m", "4/mmm", "3", "-3", "32",
    "3m", "-3m", "6", "-6", "6/m", "622", "6mm", "-6m2", "6/mmm", "23", "m-3", "432", "-43m", "m-3m",
)  # fmt: skip
_LARGEST_AXIS = 60


def schoenflies_of(matrices):
    """Schoenflies symbol of a finite group, by counting its axes, planes and centers.

    Parameters
    ----------
    matrices : ndarray of shape (n, 3, 3)
        All operations, exact.

    Returns
    -------
    str

    Examples
    --------
    >>> schoenflies_of(np.array([np.eye(3), -np.eye(3), np.diag([-1, 1, 1]), np.diag([1, -1, -1])]))
    'C2h'
    """
    determinants = np.linalg.det(matrices)
    proper, improper = matrices[determinants > 0], matrices[determinants < 0]
    orders = [order(one) for one in proper]
    n = max(orders)
    inversion = any(np.abs(one + np.eye(3)).max() < SAME for one in improper)
    axes = [axis_of(one) for one, power in zip(proper, orders, strict=True) if power > 2]
    principal = axis_of(proper[np.argmax(orders)])
    if any(np.linalg.norm(np.cross(axis, principal)) > SAME for axis in axes):
        return _CUBIC_ORDERS[len(proper)] + (("h" if inversion else "d") if len(improper) else "")
    normals = [axis_of(one) for one in improper if abs(np.trace(one) - 1) < SAME]
    horizontal = any(np.linalg.norm(np.cross(normal, principal)) < SAME for normal in normals)
    if n == 1 and len(improper):
        return "Ci" if inversion else "Cs"
    letter = "C" if len(proper) == n else "D"
    if not len(improper):
        return f"{letter}{n}"
    if letter == "D":
        return f"D{n}{'h' if (inversion if n == 2 else horizontal) else 'd'}"
    if not normals:
        return f"S{2 * n}"
    return f"C{n}{'h' if horizontal else 'v'}"


def hermann_mauguin_of(schoenflies):
    """Short Hermann-Mauguin symbol of a Schoenflies symbol.

    Examples
    --------
    >>> [hermann_mauguin_of(name) for name in ("C3v", "D4h", "S6", "D3h", "D5d")]
    ['3m', '4/mmm', '-3', '-6m2', '-5m']
    """
    if schoenflies in _INTERNATIONAL:
        return _INTERNATIONAL[schoenflies]
    letter, number, suffix = _parts(schoenflies)
    n = int(number)
    if letter == "S":
        return f"-{n}" if n % 4 == 0 else f"-{n // 2}"
    odd = n % 2 == 1
    return {
        "C": f"{n}",
        "Cv": f"{n}m" if odd else f"{n}mm",
        "Ch": f"-{2 * n}" if odd else f"{n}/m",
        "D": f"{n}2" if odd else f"{n}22",
        "Dh": f"-{2 * n}m2" if odd else f"{n}/mmm",
        "Dd": f"-{n}m" if odd else f"-{2 * n}2m",
    }[letter + suffix]


def _parts(schoenflies):
    """Split the symbol of an axial group: ``C``, ``3`` or ``inf``, ``v``."""
    return re.findall(r"^([CDS])(\d+|inf)([dhv]?)$", schoenflies)[0]


def generators_of(schoenflies):
    """Make generators of a group in its standard setting.

    Parameters
    ----------
    schoenflies : str
        Canonical, e.g. ``"D3h"``. Continuous groups (``"Cinfv"``, ``"Kh"``) have rotations by an irrational angle.

    Returns
    -------
    ndarray of shape (n, 3, 3)
    """
    inversion = -np.eye(3)
    if schoenflies in ("Ci", "Cs"):
        return np.array([inversion if schoenflies == "Ci" else reflection(_Y)])
    if schoenflies in ("K", "Kh"):
        return np.array([rotation(_Z, _IRRATIONAL), rotation(_X, _IRRATIONAL), inversion][: len(schoenflies) + 1])
    if schoenflies[0] in "TOI":
        return _cubic_generators(schoenflies)
    letter, number, suffix = _parts(schoenflies)
    angle = _IRRATIONAL if number == "inf" else 2 * np.pi / int(number)
    axis = _Y if schoenflies in ("C2", "C2h") else _Z
    turn = rotation(axis, angle)
    if letter == "S":
        return np.array([reflection(_Z) @ turn])
    if letter == "C":
        return np.array([turn] + {"": [], "v": [reflection(_X)], "h": [reflection(axis)]}[suffix])
    second = rotation(_X, np.pi)
    if suffix == "h":
        return np.array([turn, reflection(_X), reflection(_Z)])
    if suffix == "d" and int(number) % 2 == 0:
        return np.array([reflection(_Z) @ rotation(_Z, angle / 2), second])
    return np.array([turn, second] + ([inversion] if suffix == "d" else []))


def _cubic_generators(schoenflies):
    third = rotation(_DIAGONAL, 2 * np.pi / 3)
    quarter = rotation(_Z, np.pi / 2)
    first = {
        "T": rotation(_Z, np.pi),
        "O": quarter,
        "I": rotation([0, 1, _GOLDEN], 2 * np.pi / 5),
    }[schoenflies[0]]
    if schoenflies == "Td":
        return np.array([-quarter, third])
    return np.array([first, third] + ([-np.eye(3)] if schoenflies.endswith("h") else []))


def read_name(name):
    """Canonical Schoenflies symbol of a name, and the rotation from the standard setting to that of the name.

    Parameters
    ----------
    name : str
        Schoenflies or Hermann-Mauguin.

    Returns
    -------
    schoenflies : str
    turn : ndarray of shape (3, 3) or None

    Raises
    ------
    ValueError
    """
    if not isinstance(name, str):
        raise TypeError(f"a point group is given by its name, got {type(name).__name__}")
    compact = re.sub(r"[\s_{}]", "", name).replace("−", "-")
    written = re.sub(r"∞|oo|\*|inf(inity|ty)?", "inf", compact)
    symbol = written[:1].upper() + written[1:].lower()
    symbol = {"C1h": "Cs", "S2": "Ci", "S1": "Cs", "C3i": "S6", "C1i": "Ci", "V": "D2", "Vh": "D2h", "Vd": "D2d"}.get(
        symbol, symbol
    )
    if symbol in _schoenflies_symbols():
        return symbol, None
    standard, turn = _SETTINGS.get(compact, (written.replace("inf", "∞"), None))
    for known in _schoenflies_symbols():
        if hermann_mauguin_of(known) == standard:
            return known, turn
    raise ValueError(
        f"{name!r} is no point group: give a Hermann-Mauguin symbol ({', '.join(CRYSTAL_CLASSES)}, ∞m, ∞/mm, ...) "
        "or a Schoenflies symbol (C2v, D6h, Td, Ih, Cinfv, ...)"
    )


def _schoenflies_symbols():
    numbers = range(1, _LARGEST_AXIS + 1)
    symbols = dict.fromkeys(_INTERNATIONAL)
    for n in numbers:
        symbols[f"C{n}"] = None
        if n > 1:
            symbols |= dict.fromkeys([f"C{n}v", f"C{n}h", f"D{n}", f"D{n}h", f"D{n}d", f"S{2 * n}"])
    return symbols
