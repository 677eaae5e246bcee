"""Species in messages."""

from __future__ import annotations

from collections.abc import Iterable

from ase.data import chemical_symbols

# A message names so many species, and counts the others.
_NAMED = 8


def symbols(numbers: Iterable[int]) -> str:
    """Chemical symbols of atomic numbers, the first few of many.

    Parameters
    ----------
    numbers : iterable of int

    Returns
    -------
    str

    Examples
    --------
    >>> symbols([1, 6, 8])
    'H, C, O'
    >>> symbols(range(1, 73))
    'H, He, Li, Be, B, C, N, O and 64 others'
    """
    names = [chemical_symbols[number] for number in numbers]
    others = len(names) - _NAMED
    return ", ".join(names) if others < 2 else f"{', '.join(names[:_NAMED])} and {others} others"
