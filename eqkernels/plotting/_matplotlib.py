"""matplotlib, imported when the first picture is drawn."""

from __future__ import annotations

from typing import Any


def pyplot() -> Any:
    """Import matplotlib.pyplot, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "eqkernels[plot]"') from error
    return plt


def single_axes(ax: Any, figsize: tuple[float, float] = (4.6, 4.6)) -> Any:
    """Axes to draw on: those of the user, or those of a new figure."""
    plt = pyplot()
    return plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax


def with_unit(name: str, unit: str) -> str:
    """Text of an axis, with the unit in parentheses if there is one."""
    return f"{name} ({unit})" if unit else name
