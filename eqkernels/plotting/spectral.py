"""Infrared and Raman spectra, with error bars, and lines of normal modes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from eqkernels.plotting._matplotlib import single_axes
from eqkernels.spectra import HarmonicSpectrum, RamanSpectrum, Spectrum, infrared_spectrum, raman_spectrum
from eqkernels.structures import as_list

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D

# Part of the strongest intensity that still belongs to the spectrum, where the axis ends.
_VISIBLE = 1e-3
_PARTS = ("total", "isotropic", "anisotropic", "polarized", "depolarized")
_NAMES = {"km/mol / cm^-1": "absorption (km/mol per cm$^{-1}$)", "cm^-1": "absorption coefficient (cm$^{-1}$)",
          "A^4/amu / cm^-1": "Raman activity (Å$^4$/amu per cm$^{-1}$)",
          "cm^2 / (sr cm^-1)": "cross section (cm$^2$/sr per cm$^{-1}$)"}  # fmt: skip


class SpectrumDisplay:
    """A spectrum as a line, its standard error as a band, and normal modes as sticks.

    Use :meth:`from_spectrum`, :meth:`from_harmonic` or :meth:`from_estimator` to make one.

    Parameters
    ----------
    spectra : dict of str to Spectrum
        By their labels.
    lines : tuple of ndarray, default=None
        Wavenumbers and intensities of sticks, which are drawn in units of the highest peak.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
    bands_ : list of matplotlib PolyCollection
    sticks_ : matplotlib LineCollection or None

    Examples
    --------
    >>> import numpy as np
    >>> from eqkernels.spectra import HarmonicSpectrum
    >>> water = HarmonicSpectrum(np.array([1595.0, 3657.0, 3756.0]), np.zeros((3, 3, 3)), np.array([64.0, 3.0, 45.0]))
    >>> display = SpectrumDisplay.from_harmonic(water)
    >>> display.ax_.get_ylabel()
    'absorption (km/mol per cm$^{-1}$)'
    """

    def __init__(self, spectra: dict[str, Spectrum], lines: tuple[Any, Any] | None = None):
        self.spectra = spectra
        self.lines = lines

    @classmethod
    def from_spectrum(
        cls,
        spectrum: Spectrum | RamanSpectrum,
        *,
        parts: Iterable[str] = ("polarized", "depolarized"),
        label: str = "",
        ax: Axes | None = None,
    ) -> SpectrumDisplay:
        """Draw a spectrum.

        Parameters
        ----------
        spectrum : Spectrum or RamanSpectrum
        parts : iterable of str, default=("polarized", "depolarized")
            Parts of a Raman spectrum to draw: "total", "isotropic", "anisotropic", "polarized", "depolarized".
        label : str, default=""
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        SpectrumDisplay
        """
        return cls(_by_label(spectrum, parts, label)).plot(ax)

    @classmethod
    def from_harmonic(
        cls,
        harmonic: HarmonicSpectrum,
        *,
        kind: str = "infrared",
        width: float = 10.0,
        parts: Iterable[str] = ("polarized", "depolarized"),
        label: str = "",
        ax: Axes | None = None,
    ) -> SpectrumDisplay:
        """Draw the peaks of normal modes, and sticks of their intensities.

        Parameters
        ----------
        harmonic : HarmonicSpectrum
        kind : {"infrared", "raman"}, default="infrared"
        width : float, default=10.0
            Of the peaks, in cm^-1.
        parts, label, ax
            As for :meth:`from_spectrum`.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        ValueError
            If kind is neither, or the structure has no such intensities.
        """
        _check_kind(kind)
        spectrum = harmonic.infrared_spectrum(width) if kind == "infrared" else harmonic.raman_spectrum(width)
        areas = harmonic.absorption if kind == "infrared" else harmonic.activity
        return cls(_by_label(spectrum, parts, label), (harmonic.wavenumbers, areas)).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms],
        timestep: float,
        *,
        kind: str = "infrared",
        unit: str,
        temperature: float,
        parts: Iterable[str] = ("polarized", "depolarized"),
        label: str = "",
        ax: Axes | None = None,
        **how: Any,
    ) -> SpectrumDisplay:
        """Draw the spectrum of a trajectory with the dipoles or polarizabilities that a model predicts.

        Parameters
        ----------
        estimator : fitted estimator
        X : sequence of ase.Atoms
            The trajectory.
        timestep : float
            Between its frames, in fs.
        kind : {"infrared", "raman"}, default="infrared"
        unit : str
            Of the predictions, as for :func:`eqkernels.spectra.infrared_spectrum` and ``raman_spectrum``.
        temperature : float
            In K.
        parts, label, ax
            As for :meth:`from_spectrum`.
        **how
            Further arguments of these functions, such as ``resolution``.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        ValueError
            If kind is neither, or the predictions are no vectors or matrices.
        """
        _check_kind(kind)
        make = infrared_spectrum if kind == "infrared" else raman_spectrum
        predicted = estimator.predict(as_list(X))
        spectrum: Any = make(predicted, timestep, unit=unit, temperature=temperature, **how)
        return cls.from_spectrum(spectrum, parts=parts, label=label, ax=ax)

    def plot(self, ax: Axes | None = None) -> SpectrumDisplay:
        """Draw the spectra, on axes that end where they vanish.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        self
        """
        self.ax_: Axes = single_axes(ax, (6.4, 3.6))
        self.figure_ = self.ax_.figure
        self.lines_: list[Line2D] = []
        self.bands_: list[PolyCollection] = []
        self.sticks_: LineCollection | None = None
        used = bool(self.ax_.lines)
        limits = self.ax_.get_ylim()
        for label, spectrum in self.spectra.items():
            x, y, std = spectrum.wavenumbers, spectrum.intensity, spectrum.std
            line = self.ax_.plot(x, y, linewidth=1.2, label=label or None)[0]
            self.lines_.append(line)
            if std is not None:
                color = line.get_color()
                self.bands_.append(self.ax_.fill_between(x, y - std, y + std, color=color, alpha=0.25, linewidth=0))
        self._draw_sticks()
        self._set_limits(used, limits)
        unit = next(iter(self.spectra.values())).unit
        self.ax_.set_xlabel("wavenumber (cm$^{-1}$)")
        self.ax_.set_ylabel(_NAMES.get(unit, unit))
        if any(self.spectra):
            self.ax_.legend(fontsize=8, frameon=False)
        return self

    def _draw_sticks(self):
        if self.lines is None:
            return
        x, areas = (np.asarray(values)[np.asarray(self.lines[0]) > 0] for values in self.lines)
        top = max(spectrum.intensity.max() for spectrum in self.spectra.values())
        heights = top * areas / max(areas.max(initial=0.0), np.finfo(float).tiny)
        self.sticks_ = self.ax_.vlines(x, 0, heights, color="0.5", linewidth=0.8, zorder=0)

    def _set_limits(self, used, limits):
        ends = [self.ax_.get_xlim()[1]] if used else []
        for spectrum in self.spectra.values():
            visible = spectrum.intensity > _VISIBLE * spectrum.intensity.max()
            ends.append(1.05 * spectrum.wavenumbers[visible].max(initial=1.0))
        low, high = self._bounds
        bounds = (*limits, low, high) if used else (low, high)
        self.ax_.set_xlim(0, max(ends))
        if max(bounds) > min(bounds):
            self.ax_.set_ylim(min(bounds), max(bounds))

    @property
    def _bounds(self):
        """Zero, or negative lobes, and a little more than the highest peak with its band."""
        spectra = self.spectra.values()
        low = min(spectrum.intensity.min() for spectrum in spectra)
        high = max((one.intensity + (0 if one.std is None else one.std)).max() for one in spectra)
        return min(0.0, low), 1.05 * high


def _check_kind(kind):
    if kind not in ("infrared", "raman"):
        raise ValueError(f"kind={kind!r} must be 'infrared' or 'raman'")


def _by_label(spectrum, parts, label):
    if isinstance(spectrum, Spectrum):
        return {label: spectrum}
    parts = [parts] if isinstance(parts, str) else list(parts)
    unknown = [part for part in parts if part not in _PARTS]
    if unknown or not parts:
        raise ValueError(f"parts={parts!r} must be some of {', '.join(map(repr, _PARTS))}")
    return {f"{label}, {part}" if label else part: getattr(spectrum, part) for part in parts}
