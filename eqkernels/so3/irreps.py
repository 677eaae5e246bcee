"""Irreducible representations of O(3) and direct sums of them, in e3nn's notation.

``2e`` is the irrep of degree 2 that inversion leaves unchanged, ``1o`` that of polar vectors, ``2x1o+0e`` two vectors
and a scalar (M. Geiger, T. Smidt, arXiv:2207.09453).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from eqkernels._numeric import check_integer

# More terms than this are a mistake.
_LARGEST_SIZE = 10**4


@dataclass(frozen=True, order=False)
class Irrep:
    """One irreducible representation.

    Parameters
    ----------
    l : int
        Degree.
    p : {1, -1}
        Parity: the sign under inversion.

    Examples
    --------
    >>> [str(one) for one in Irrep(1, -1) * Irrep(1, -1)]
    ['0e', '1e', '2e']
    """

    l: int
    p: int

    def __post_init__(self):
        if not isinstance(self.l, Integral) or self.l < 0 or self.p not in (1, -1):
            raise ValueError(f"an irrep has an integer l >= 0 and p = 1 or -1, got l={self.l}, p={self.p}")

    @classmethod
    def parse(cls, text: str | Irrep | tuple[int, int]) -> Irrep:
        """Irrep of a string such as ``"1o"``, an Irrep or a pair (l, p)."""
        if isinstance(text, Irrep):
            return text
        if isinstance(text, tuple) and len(text) == 2:
            return cls(*text)
        match = re.fullmatch(r"\s*(\d+)([eo])\s*", text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not an irrep: write the degree and e (even) or o (odd), e.g. '1o'")
        return cls(int(match[1]), 1 if match[2] == "e" else -1)

    @classmethod
    def natural(cls, l: int) -> Irrep:
        """Irrep of the spherical harmonics of a degree, with their parity (-1)^l.

        Examples
        --------
        >>> str(Irrep.natural(1)), str(Irrep.natural(2))
        ('1o', '2e')
        """
        return cls(l, (-1) ** l)

    @property
    def dim(self) -> int:
        """Number of components, 2 l + 1."""
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    def __mul__(self, other: Irrep) -> list[Irrep]:
        """Irreps in the product with another irrep."""
        return [Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1)]


class Irreps:
    """Direct sum of irreps, immutable.

    Parameters
    ----------
    irreps : str, Irreps, Irrep or iterable of (int, irrep) or irrep
        E.g. ``"2x1o+0e"``.

    Examples
    --------
    >>> irreps = Irreps("2x1o+0e")
    >>> irreps.dim, irreps.slices()
    (7, [slice(0, 6, None), slice(6, 7, None)])
    >>> irreps.tensor_product("1o")
    Irreps("2x0e+1x1o+2x1e+2x2e")
    """

    __array_ufunc__ = None  # numpy leaves products and comparisons with arrays to this class

    def __init__(self, irreps: str | Irreps | Irrep | Iterable[Any] = ""):
        self._terms = tuple(_terms(irreps))

    @classmethod
    def spherical_harmonics(cls, l_max: int) -> Irreps:
        """Irreps of all spherical harmonics up to l_max.

        Examples
        --------
        >>> Irreps.spherical_harmonics(2)
        Irreps("1x0e+1x1o+1x2e")
        """
        check_integer(l_max, "l_max", 0, _LARGEST_SIZE)
        return cls([Irrep.natural(l) for l in range(l_max + 1)])

    def __iter__(self) -> Iterator[tuple[int, Irrep]]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __getitem__(self, key):
        return Irreps(self._terms[key]) if isinstance(key, slice) else self._terms[key]

    def __eq__(self, other):
        try:
            return self._terms == Irreps(other)._terms
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self):
        return hash(self._terms)

    def __str__(self) -> str:
        return "+".join(f"{multiplicity}x{irrep}" for multiplicity, irrep in self)

    def __repr__(self) -> str:
        return f'Irreps("{self}")'

    def __contains__(self, irrep: str | Irrep) -> bool:
        return self.count(irrep) > 0

    def __add__(self, other: Irreps | str) -> Irreps:
        return Irreps(self._terms + Irreps(other)._terms)

    def __mul__(self, times):
        if not isinstance(times, Integral):
            return NotImplemented
        check_integer(times, "the factor of irreps", 0, _LARGEST_SIZE)
        return Irreps(self._terms * times)

    __rmul__ = __mul__

    @property
    def dim(self) -> int:
        """Number of components."""
        return sum(multiplicity * irrep.dim for multiplicity, irrep in self)

    @property
    def num_irreps(self) -> int:
        """Number of irreps, counted with their multiplicity."""
        return sum(multiplicity for multiplicity, _ in self)

    @property
    def l_max(self) -> int:
        """Highest degree."""
        if not self._terms:
            raise ValueError("there are no irreps, so no highest degree")
        return max(irrep.l for _, irrep in self)

    def count(self, irrep: str | Irrep) -> int:
        """How often an irrep occurs."""
        irrep = Irrep.parse(irrep)
        return sum(multiplicity for multiplicity, other in self if other == irrep)

    def slices(self) -> list[slice]:
        """Slice of the components of each term."""
        ends = np.cumsum([0] + [multiplicity * irrep.dim for multiplicity, irrep in self]).tolist()
        return [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]

    def simplify(self) -> Irreps:
        """Join equal neighbors and drop empty terms.

        Examples
        --------
        >>> Irreps("1o+1o+0x2e+0e").simplify()
        Irreps("2x1o+1x0e")
        """
        terms: list[tuple[int, Irrep]] = []
        for multiplicity, irrep in self:
            if terms and terms[-1][1] == irrep:
                terms[-1] = (terms[-1][0] + multiplicity, irrep)
            elif multiplicity > 0:
                terms.append((multiplicity, irrep))
        return Irreps(terms)

    def sort(self) -> Irreps:
        """By degree, at equal degree the parity of the spherical harmonics first.

        Examples
        --------
        >>> Irreps("1e+2o+1o+0e").sort()
        Irreps("1x0e+1x1o+1x1e+1x2o")
        """
        return Irreps(sorted(self, key=lambda term: (term[1].l, term[1] != Irrep.natural(term[1].l))))

    def regroup(self) -> Irreps:
        """Sort, then simplify."""
        return self.sort().simplify()

    def tensor_product(self, other: Irreps | str) -> Irreps:
        """Irreps of all products of components, sorted.

        Parameters
        ----------
        other : Irreps or str

        Returns
        -------
        Irreps
        """
        other = Irreps(other)
        return Irreps([(m1 * m2, one) for m1, i1 in self for m2, i2 in other for one in i1 * i2]).regroup()


def _terms(irreps):
    if isinstance(irreps, Irreps):
        return irreps._terms
    if isinstance(irreps, Irrep):
        return [(1, irreps)]
    if isinstance(irreps, str):
        return [_parse_term(term) for term in irreps.split("+")] if irreps.strip() else []
    try:
        return [_pair(term) for term in irreps]
    except TypeError as error:
        raise TypeError(f"irreps must be a string such as '2x1o+0e', Irreps or a list, got {irreps!r}") from error


def _parse_term(term):
    multiplicity, separator, irrep = term.strip().rpartition("x")
    if separator and not multiplicity.strip().isdecimal():
        raise ValueError(f"{term.strip()!r} is not a term of irreps: write e.g. '2x1o'")
    return (int(multiplicity) if separator else 1), Irrep.parse(irrep)


def _pair(term):
    if isinstance(term, str):
        return _parse_term(term)
    if isinstance(term, Irrep):
        return 1, term
    multiplicity, irrep = term
    if not isinstance(multiplicity, Integral) or isinstance(multiplicity, bool) or multiplicity < 0:
        raise ValueError(f"multiplicity {multiplicity!r} must be a non-negative integer")
    return int(multiplicity), Irrep.parse(irrep)
