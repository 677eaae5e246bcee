import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")

from eqkernels.plotting import ParityDisplay  # noqa: E402


def test_a_panel_for_each_irrep(tmp_path):
    random = np.random.default_rng(0)
    true = random.normal(size=(10, 3, 3))
    true = true + true.swapaxes(1, 2)
    display = ParityDisplay.from_predictions(true, true + 0.01, unit="a.u.")
    assert [axis.get_title().split(":")[0] for axis in display.axes_] == ["0e", "2e"]
    assert display.axes_[0].get_xlabel() == "true (a.u.)"
    points = display.axes_[1].collections[0].get_offsets()
    assert len(points) == 50
    display.figure_.savefig(tmp_path / "parity.png")


def test_labels_of_atoms():
    true = [np.ones((2, 3)), np.full((1, 3), np.nan)]
    display = ParityDisplay.from_predictions(true, [np.ones((2, 3)), np.ones((1, 3))])
    assert len(display.axes_[0].collections[0].get_offsets()) == 6
