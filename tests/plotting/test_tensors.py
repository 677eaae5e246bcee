import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

pytest.importorskip("matplotlib").use("Agg")

from eqkernels import CartesianTensor, LambdaSOAP, TensorRidge  # noqa: E402
from eqkernels.plotting import TensorDisplay, tensors  # noqa: E402
from eqkernels.so3 import spherical_harmonics  # noqa: E402
from eqkernels.testing import random_rotation, transformed  # noqa: E402

RANDOM = np.random.default_rng(0)
ORANGE, BLUE = [1.0, 0.498, 0.055], [0.122, 0.467, 0.706]
draw = TensorDisplay.from_predictions


def test_dipole_is_an_arrow_from_the_center_of_mass():
    atoms, dipole = molecule("CH3OH"), RANDOM.normal(size=3)
    display = draw(atoms, dipole, target="dipole", unit="D")
    (points, _), center = display.shapes_[0], atoms.get_center_of_mass()
    np.testing.assert_allclose(points[-1, 0] - center, display.scale_ * dipole, atol=1e-12)
    assert display.ax_.texts[0].get_text() == f"arrow of 1 Å: {1 / display.scale_:.3g} D"
    assert display.ax_.get_legend() is None
    assert draw(atoms, dipole, scale=2.0).scale_ == 2.0


def test_vectors_of_atoms_begin_at_their_surface():
    atoms, forces = molecule("CH4"), RANDOM.normal(size=(5, 3))
    forces[2], forces[3] = np.nan, 0.0
    display = draw(atoms, forces, target="forces")
    assert len(display.shapes_) == 3
    longest = np.nanmax(np.linalg.norm(forces, axis=1))
    for (points, _), k in zip(display.shapes_, (0, 1, 4), strict=True):
        length = np.linalg.norm(forces[k])
        tip = 0.45 * covalent_radii[atoms.numbers[k]] + 1.5 * length / longest
        np.testing.assert_allclose(points[-1, 0] - atoms.positions[k], tip * forces[k] / length, atol=1e-12)


def test_polarizability_is_an_ellipsoid():
    atoms, matrix = molecule("CH3OH"), np.diag([1.0, 2.0, -3.0])
    display = draw(atoms, matrix, unit="$a_0^3$")
    points, values = display.shapes_[0]
    relative = (points - atoms.get_center_of_mass()) / display.scale_
    np.testing.assert_allclose(np.sum((relative / np.diag(matrix)) ** 2, axis=-1), 1, atol=1e-10)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["positive", "negative"]
    colors = display.faces_.get_facecolor()[:, :3]
    n_shape = (points.shape[0] - 1) * (points.shape[1] - 1)
    hues = colors / colors.max(axis=1, keepdims=True)
    expected = [np.allclose(hue, np.array(BLUE) / max(BLUE), atol=0.01) for hue in hues]
    assert 0.2 * n_shape < np.sum(expected) < 0.8 * n_shape


@pytest.mark.parametrize("formula", ["ij", "ijk=jik=ikj"])
def test_tensors_with_each_irrep_once_are_surfaces_of_harmonics(formula):
    atoms, tensor = molecule("H2O2"), CartesianTensor(formula)
    values = tensor.project(RANDOM.normal(size=(4, *tensor.shape)))
    display = draw(atoms, values, target=formula, per_atom=True)
    for k, (points, signal) in enumerate(display.shapes_):
        relative = points - atoms.positions[k]
        directions = relative / np.linalg.norm(relative, axis=-1, keepdims=True)
        harmonics, expected = spherical_harmonics(directions, 3), 0.0
        for key, block in tensor.to_irreps(values[k]).items():
            l = int(key[0])
            expected += harmonics[..., l**2 : (l + 1) ** 2] @ block[:, 0]
        np.testing.assert_allclose(signal, display.scale_ * expected, atol=1e-10)
        np.testing.assert_allclose(np.linalg.norm(relative, axis=-1), np.abs(signal), atol=1e-10)


def test_elastic_tensor_is_drawn_along_each_direction():
    atoms = bulk("Cu", cubic=True)
    tensor = CartesianTensor("elastic").project(RANDOM.normal(size=(3, 3, 3, 3)))
    display = draw(atoms, tensor, target="elastic")
    points, _ = display.shapes_[0]
    relative = points - atoms.get_center_of_mass()
    n = relative / np.linalg.norm(relative, axis=-1, keepdims=True)
    expected = np.einsum("ijkl,pqi,pqj,pqk,pql->pq", tensor, n, n, n, n)
    np.testing.assert_allclose(np.linalg.norm(relative, axis=-1), np.abs(display.scale_ * expected), atol=1e-10)
    assert len(display.ax_.lines) == 12  # edges of the cell


def test_coefficients_of_irreps():
    atoms = molecule("NH3")
    assert len(draw(atoms, {"0e": [1.0], "3o": RANDOM.normal(size=7)}).shapes_) == 1
    assert len(draw(atoms, {"2e": RANDOM.normal(size=(4, 5))}).shapes_) == 4


@pytest.mark.parametrize(("target", "shape"), [("dipole", (3,)), ("forces", (5, 3)), ("atomic_stress", (5, 3, 3))])
def test_rotated_structure_gives_the_rotated_picture(target, shape):
    atoms, rotation = molecule("CH4"), random_rotation(4)
    values = RANDOM.normal(size=shape)
    if target == "atomic_stress":
        values = values + values.swapaxes(1, 2)
    turned = values @ rotation.T if target != "atomic_stress" else rotation @ values @ rotation.T
    atoms.positions += 1.0
    first, second = draw(atoms, values, target=target), draw(transformed(atoms, rotation), turned, target=target)
    assert second.scale_ == pytest.approx(first.scale_, rel=1e-10)
    for (points, one), (moved, other) in zip(first.shapes_, second.shapes_, strict=True):
        if target == "atomic_stress":  # the same points up to the signs of eigenvectors
            assert sorted(one.ravel().round(8)) == pytest.approx(sorted(other.ravel().round(8)), abs=1e-7)
            center = points.mean(axis=(0, 1)) @ rotation.T
            distances = np.linalg.norm(moved.reshape(-1, 1, 3) - (points @ rotation.T).reshape(1, -1, 3), axis=-1)
            assert np.linalg.norm(center - moved.mean(axis=(0, 1))) < 0.05
            assert distances.min(axis=1).max() < 1e-8
        else:
            np.testing.assert_allclose(moved[-1, 0], points[-1, 0] @ rotation.T, atol=1e-10)


def test_atoms_have_the_colors_and_radii_of_ase():
    display = draw(molecule("H2O"), np.zeros(3), target="dipole")
    assert display.shapes_ == []
    corners = np.concatenate(tensors._structure(molecule("H2O"))[0])
    colors = display.faces_.get_facecolor()[:, :3]
    hues = colors / colors.max(axis=1, keepdims=True)
    red = np.isclose(hues, jmol_colors[8] / max(jmol_colors[8]), atol=0.06).all(axis=1)
    assert red.sum() == 12 * 24
    radii = np.linalg.norm(corners - molecule("H2O").positions[0], axis=-1)
    assert np.isclose(radii, 0.45 * covalent_radii[8]).all(axis=1).sum() == 12 * 24


def test_prediction_of_a_model(waters):
    frames, vector, *_ = waters
    model = TensorRidge(descriptor=LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)).fit(frames[:30], vector[:30])
    display = TensorDisplay.from_estimator(model, frames[30], unit="D")
    tip = display.shapes_[0][0][-1, 0] - frames[30].get_center_of_mass()
    np.testing.assert_allclose(tip, display.scale_ * model.predict(frames[30:31])[0], atol=1e-12)


def test_what_cannot_be_drawn():
    from matplotlib.figure import Figure

    water = molecule("H2O")
    with pytest.raises(ValueError, match="can be read in 2 ways"):
        draw(water, RANDOM.normal(size=(3, 3)))
    with pytest.raises(ValueError, match="kind='arrows' is for vectors, 'ij=ji' has the irreps"):
        draw(water, np.eye(3), kind="arrows")
    with pytest.raises(ValueError, match="no irrep occurs twice"):
        draw(water, RANDOM.normal(size=(3, 3, 3)), kind="surfaces", per_atom=False)
    with pytest.raises(ValueError, match=r"tensors\['2e'\] has shape \(4,\), expected \(5,\) for the structure"):
        draw(water, {"2e": np.ones(4)})
    with pytest.raises(ValueError, match="kind='arrow' must be"):
        draw(water, np.eye(3), kind="arrow")
    with pytest.raises(ValueError, match="scale=-1 must be a positive"):
        draw(water, np.ones(3), target="dipole", scale=-1)
    with pytest.raises(ValueError, match="three-dimensional"):
        draw(water, np.ones(3), target="dipole", ax=Figure().subplots())


def test_molecules_are_seen_from_where_they_hide_least():
    flat = molecule("C6H6")
    flat.rotate(50, (1, 2, 3))
    display = TensorDisplay.from_predictions(flat, np.array([1.0, 0.0, 0.0]), target="dipole")
    elevation, azimuth = np.radians([display.ax_.elev, display.ax_.azim])
    seen_from = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    normal = np.cross(flat.positions[0] - flat.positions[3], flat.positions[1] - flat.positions[4])
    angle = np.degrees(np.arccos(abs(seen_from @ normal) / np.linalg.norm(normal)))
    assert angle == pytest.approx(20.0)
    from matplotlib import pyplot

    ax = pyplot.subplots(subplot_kw={"projection": "3d"})[1]
    ax.view_init(12, 34)
    TensorDisplay.from_predictions(flat, np.array([1.0, 0.0, 0.0]), target="dipole", ax=ax)
    assert (ax.elev, ax.azim) == (12, 34)
