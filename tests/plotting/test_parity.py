import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("matplotlib").use("Agg")

from eqkernels import LambdaSOAP, TensorRidge  # noqa: E402
from eqkernels.metrics import irrep_rmse  # noqa: E402
from eqkernels.plotting import ParityDisplay  # noqa: E402

RANDOM = np.random.default_rng(0)


def titles(display):
    return [axis.get_title().split(":")[0] for axis in display.axes_]


def points(axis):
    return np.asarray(axis.collections[0].get_offsets())


def symmetric(*shape):
    values = RANDOM.normal(size=(*shape, 3, 3))
    return values + values.swapaxes(-1, -2)


def test_a_panel_for_each_irrep(tmp_path):
    true = symmetric(10)
    display = ParityDisplay.from_predictions(true, true + 0.01, unit="a.u.")
    assert titles(display) == ["0e", "2e"]
    assert display.axes_[0].get_xlabel() == "true (a.u.)"
    trace = np.trace(true, axis1=1, axis2=2) / np.sqrt(3)
    np.testing.assert_allclose(points(display.axes_[0]), np.stack([trace, trace + 0.03 / np.sqrt(3)], axis=1))
    assert len(points(display.axes_[1])) == 50
    display.figure_.savefig(tmp_path / "parity.png")


def test_errors_in_the_titles_are_those_of_the_metric():
    true, pred = RANDOM.normal(size=(2, 20, 3, 3))
    display = ParityDisplay.from_predictions(true, pred)
    for axis, (irrep, error) in zip(display.axes_, irrep_rmse(true, pred).items(), strict=True):
        assert axis.get_title().startswith(f"{irrep}: RMSE {error:.2g},")


def test_a_panel_for_each_cartesian_component_that_differs_from_others():
    true = symmetric(10)
    pred = true + symmetric(10)
    display = ParityDisplay.from_predictions(true, pred, kind="cartesian")
    assert titles(display) == ["xx", "xy", "xz", "yy", "yz", "zz"]
    np.testing.assert_array_equal(points(display.axes_[4]), np.stack([true[:, 1, 2], pred[:, 1, 2]], axis=1))
    antisymmetric = RANDOM.normal(size=(10, 3, 3))
    antisymmetric -= antisymmetric.swapaxes(1, 2)
    assert titles(ParityDisplay.from_predictions(antisymmetric, antisymmetric, kind="cartesian")) == ["xy", "xz", "yz"]
    assert titles(ParityDisplay.from_predictions(np.arange(4.0), np.arange(4.0), kind="cartesian")) == ["value"]


def test_many_components_share_the_last_panel():
    true = RANDOM.normal(size=(5, 3, 3, 3))
    display = ParityDisplay.from_predictions(true, true, kind="cartesian")
    assert titles(display) == ["".join(one) for one in itertools.product("xyz", repeat=3)][:11] + [
        "other 16 components"
    ]
    assert sorted(points(display.axes_[-1])[:, 0]) == sorted(true.reshape(5, 27)[:, 11:].ravel())


def test_a_panel_for_each_species():
    frames = [molecule("H2O"), molecule("CH3OH")]
    true = [RANDOM.normal(size=(len(atoms), 3)) for atoms in frames]
    true[1][0] = np.nan  # the carbon has no label
    pred = [RANDOM.normal(size=(len(atoms), 3)) for atoms in frames]
    display = ParityDisplay.from_predictions(true, pred, kind="species", frames=frames)
    assert titles(display) == ["H", "O"]
    oxygen = np.stack([np.append(one[0][0], one[1][1]) for one in (true, pred)], axis=1)
    np.testing.assert_array_equal(points(display.axes_[1]), oxygen)
    one = ParityDisplay.from_predictions(true, pred, kind="species", frames=frames, max_panels=1)
    assert titles(one) == ["all 2 species"]


def test_many_species_share_the_last_panel():
    numbers = np.concatenate([np.arange(1, 65), [26, 26, 79]])
    frames = [Atoms(numbers=numbers, positions=3.0 * RANDOM.normal(size=(67, 3)))]
    values = [RANDOM.normal(size=(67, 3))]
    display = ParityDisplay.from_predictions(values, values, kind="species", frames=frames)
    assert len(display.axes_) == 12
    assert titles(display)[:3] == ["Fe", "H", "He"]
    assert titles(display)[-1] == "other 54 species"
    assert len(points(display.axes_[-1])) == 3 * 54


def test_species_of_a_model_and_of_its_features():
    frames = [molecule("H2O"), molecule("NH3"), molecule("CH3OH")]
    y = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, center_species=[1])
    labels = [np.where(atoms.numbers[:, None] == 1, one, np.nan) for atoms, one in zip(frames, y, strict=True)]
    features = descriptor.fit_transform(frames, labels)
    model = TensorRidge(descriptor=descriptor, per_atom=True).fit(features, labels)
    display = ParityDisplay.from_estimator(model, features, labels, kind="species")
    assert titles(display) == ["H"]
    assert len(points(display.axes_[0])) == 3 * 9


def test_labels_of_atoms():
    true = [np.ones((2, 3)), np.full((1, 3), np.nan)]
    display = ParityDisplay.from_predictions(true, [np.ones((2, 3)), np.ones((1, 3))])
    assert len(points(display.axes_[0])) == 6


def test_what_cannot_be_drawn():
    y = RANDOM.normal(size=(4, 3))
    with pytest.raises(ValueError, match="per-atom targets, y has tensors of structures"):
        ParityDisplay.from_predictions(y, y, kind="species")
    atoms = [np.ones((3, 3)), np.ones((4, 3))]
    with pytest.raises(ValueError, match="needs the structures of the atoms"):
        ParityDisplay.from_predictions(atoms, atoms, kind="species")
    with pytest.raises(ValueError, match="different numbers"):
        ParityDisplay.from_predictions(atoms, atoms, kind="species", frames=[molecule("H2O"), molecule("H2O")])
    with pytest.raises(ValueError, match="kind='element' must be 'irrep', 'cartesian' or 'species'"):
        ParityDisplay.from_predictions(y, y, kind="element")
    with pytest.raises(ValueError, match="axes has 0 axes, the panels are 3: x, y, z"):
        ParityDisplay.from_predictions(y, y, kind="cartesian", axes=[])
