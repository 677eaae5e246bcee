import numpy as np
import pytest

from eqkernels import CartesianTensor, SphericalExpansion
from eqkernels.symmetry import check_equivariance
from eqkernels.symmetry.model_values import values_of
from tests.conftest import random_frames


@pytest.fixture
def frames():
    return random_frames(5, n_frames=3, n_species=2, periodic=True)


@pytest.mark.parametrize("as_array", [True, False])
def test_rows_of_atoms(frames, as_array):
    """An array with a row for each atom is that list of arrays."""

    def model(frames):
        parts = [atoms.positions - atoms.positions.mean(axis=0) for atoms in frames]
        return np.concatenate(parts) if as_array else parts

    values = values_of(model, frames)
    assert [len(one) for one in values.blocks[""]] == [len(atoms) for atoms in frames]
    report = check_equivariance(model, frames)
    assert {"rotation", "inversion", "translation", "permutation"}.isdisjoint(report.broken)


def test_features_of_supercells(frames):
    descriptor = SphericalExpansion(2.5, n_max=2, l_max=2).fit(frames)
    assert not check_equivariance(descriptor, frames).broken
    rotated = values_of(descriptor.transform, frames).rotated(-np.eye(3))
    plain = values_of(descriptor.transform, frames)
    for key, sign in (("0e", 1), ("1o", -1), ("2e", 1)):
        np.testing.assert_allclose(rotated.blocks[key][0], sign * plain.blocks[key][0], atol=1e-14)


def test_other_shapes_and_places_of_nan(frames):
    report = check_equivariance(lambda frames: [np.ones(1 + int(a.cell[0, 0] > 0)) for a in frames], frames)
    assert report.violations["inversion"] == np.inf
    report = check_equivariance(lambda frames: [np.where(a.cell[0, :2] > 0, 1.0, np.nan) for a in frames], frames)
    assert report.violations["inversion"] == np.inf
    assert check_equivariance(lambda frames: [[1.0, np.nan] for _ in frames], frames, extensive=False).broken == []


def test_pseudotensors(frames):
    """The symmetric part of a dyad of a polar and an axial vector changes sign with handedness."""

    def model(frames):
        parts = []
        for atoms in frames:
            a, b, c = atoms.cell.array
            dyad = np.outer(np.cross(a, b), c)
            parts.append(dyad + dyad.T)
        return parts

    for target in ("gyration", CartesianTensor("ij=ji", "*")):
        assert check_equivariance(model, frames, target).violations["inversion"] < 1e-12
    assert "inversion" in check_equivariance(model, frames, "ij=ji").broken


@pytest.mark.parametrize("value", [3.0, [1.0, 2.0]])
def test_wrong_numbers_of_values(frames, value):
    with pytest.raises(ValueError, match="for 3 structures"):
        check_equivariance(lambda frames: value, frames)
