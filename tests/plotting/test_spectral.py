import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")

from ase import Atoms  # noqa: E402

from eqkernels.plotting import SpectrumDisplay  # noqa: E402
from eqkernels.spectra import HarmonicSpectrum, infrared_spectrum, raman_spectrum  # noqa: E402

TIMES = np.arange(20000.0)
X = 0.1 * np.cos(0.2 * TIMES)
HOW = {"temperature": 300, "n_blocks": 2}


class Model:
    def __init__(self, shape):
        self.shape = shape

    def predict(self, X):
        return np.array([np.broadcast_to(atoms.positions[0, 0], self.shape) for atoms in X])


def frames():
    return [Atoms("H", [[x, 0, 0]]) for x in X]


def test_infrared_of_a_trajectory():
    spectrum = infrared_spectrum(np.outer(X, [1, 1, 1]), 1.0, unit="e A", **HOW)
    display = SpectrumDisplay.from_spectrum(spectrum, label="dynamics")
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), spectrum.intensity)
    assert len(display.bands_) == 1
    assert display.sticks_ is None
    assert display.ax_.get_ylabel().startswith("absorption")
    top = spectrum.wavenumbers[spectrum.intensity.argmax()]
    assert top < display.ax_.get_xlim()[1] < 1.3 * top
    other = SpectrumDisplay.from_estimator(Model(3), frames(), 1.0, unit="e A", ax=display.ax_, **HOW)
    assert other.ax_ is display.ax_
    taller = SpectrumDisplay.from_spectrum(3 * spectrum, ax=display.ax_)
    assert taller.ax_.get_ylim()[1] > 3 * spectrum.intensity.max()
    SpectrumDisplay.from_spectrum(0.1 * spectrum, ax=display.ax_)
    assert taller.ax_.get_ylim()[1] > 3 * spectrum.intensity.max()
    np.testing.assert_allclose(other.lines_[0].get_ydata(), spectrum.intensity)


def test_raman_has_parts():
    alpha = X[:, None, None] * (np.eye(3) + 0.3 * np.ones((3, 3)))
    spectrum = raman_spectrum(alpha, 1.0, unit="A^3", **HOW)
    display = SpectrumDisplay.from_spectrum(spectrum)
    assert [line.get_label() for line in display.lines_] == ["polarized", "depolarized"]
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), spectrum.depolarized.intensity)
    display = SpectrumDisplay.from_spectrum(spectrum, parts="total", label="model")
    assert [line.get_label() for line in display.lines_] == ["model, total"]
    display = SpectrumDisplay.from_spectrum(spectrum.cross_section(532, 300))
    assert "cross section" in display.ax_.get_ylabel()
    other = SpectrumDisplay.from_estimator(Model((3, 3)), frames(), 1.0, kind="raman", unit="A^3", **HOW)
    assert "Raman" in other.ax_.get_ylabel()


def test_harmonic_lines_are_sticks():
    lines = HarmonicSpectrum(np.array([-50.0, 1000.0, 2000.0]), np.zeros((3, 1, 3)), np.array([1.0, 10.0, 5.0]),
                             np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0, 5.0]))  # fmt: skip
    display = SpectrumDisplay.from_harmonic(lines)
    segments = display.sticks_.get_segments()
    assert [float(segment[0, 0]) for segment in segments] == [1000.0, 2000.0]
    assert segments[0][1, 1] == pytest.approx(2 * segments[1][1, 1])
    assert segments[0][1, 1] == pytest.approx(display.lines_[0].get_ydata().max())
    assert display.bands_ == []
    assert len(SpectrumDisplay.from_harmonic(lines, kind="raman").lines_) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: SpectrumDisplay.from_harmonic(s, kind="uv"), "kind='uv'"),
        (lambda s: SpectrumDisplay.from_harmonic(s, kind="raman"), "no Raman activities"),
        (lambda s: SpectrumDisplay.from_spectrum(raman_spectrum(np.zeros((9000, 3, 3)), 1.0, unit="A^3", temperature=1,
                                                                n_blocks=1), parts=["all"]), "parts="),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(HarmonicSpectrum(np.array([1000.0]), np.zeros((1, 1, 3)), np.array([1.0])))
