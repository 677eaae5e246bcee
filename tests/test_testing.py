import numpy as np
import pytest
from ase import Atoms

from eqkernels import LambdaSOAP
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames


@pytest.fixture
def frames():
    return random_frames(3, n_frames=3, n_species=2, periodic=True)


def sum_over_pairs(frames):
    return np.array([np.sum(atoms.get_all_distances(mic=True, vector=True)[0], axis=0) for atoms in frames])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda frames: np.array([atoms.positions[0] for atoms in frames]), "translation"),
        (lambda frames: np.array([atoms.get_distance(0, 1) for atoms in frames]), "permutation"),
        (lambda frames: np.array([atoms.cell.array.sum(axis=0) ** 2 for atoms in frames]), "proper rotation"),
        (lambda frames: np.array([np.linalg.det(atoms.cell.array) for atoms in frames]), "improper rotation"),
        (lambda frames: [atoms.positions for atoms in frames], "translation"),
    ],
)
def test_finds_what_is_broken(frames, model, message):
    with pytest.raises(AssertionError, match=message):
        assert_equivariant(model, frames)


def test_passes_what_is_right(frames):
    assert_equivariant(lambda frames: [atoms.positions - atoms.positions.mean(axis=0) for atoms in frames], frames)
    assert_equivariant(lambda frames: np.array([abs(atoms.get_volume()) for atoms in frames]), frames)
    assert_equivariant(LambdaSOAP(3.0, n_max=2, l_max=2).fit(frames), frames)


def test_blocks_that_vanish_by_symmetry():
    planar = Atoms("OCH", [[0.3, 0.1, 0.0], [1.3, 0.4, 0.0], [0.2, 1.2, 0.0]])
    descriptor = LambdaSOAP(4.0, n_max=3, l_max=3, irreps="0e+0o+1o").fit([planar])
    assert np.abs(descriptor.transform([planar]).blocks["0o"]).max() < 1e-15  # planar, not chiral
    assert_equivariant(descriptor, [planar])


def test_axial_targets(frames):
    from eqkernels import CartesianTensor

    def axial(frames):
        cells = [atoms.cell.array for atoms in frames]
        return np.array([np.cross(cell[0], cell[1]) for cell in cells])

    assert_equivariant(axial, frames, target=CartesianTensor("i", axial="i"))
    with pytest.raises(AssertionError, match="improper"):
        assert_equivariant(axial, frames)
