import numpy as np
import pytest

from eqkernels.io import read

KEYS = {"R": "z", "coords": "nuclear_charges", "positions": "numbers"}


@pytest.mark.parametrize("positions", list(KEYS))
def test_one_molecule_as_md17_has_it(tmp_path, positions):
    rng = np.random.default_rng(0)
    R, F, E = rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 1))
    np.savez(
        tmp_path / "w.npz", **{positions: R, KEYS[positions]: [8, 1, 1]}, F=F, E=E[:, 0], theory="PBE", ids=np.arange(4)
    )
    data = read(tmp_path / "w.npz", "forces", index="1:")
    assert data.per_atom is True
    assert data.units is None
    np.testing.assert_array_equal(np.array(list(data.y)), F[1:])
    np.testing.assert_array_equal(data.frames[0].positions, R[1])
    assert not data.frames[0].pbc.any()
    np.testing.assert_array_equal(read(tmp_path / "w.npz", "energy").y, E[:, 0])


def test_cells_and_several_compositions(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "c.npz",
        pos=rng.normal(size=(2, 2, 3)),
        Z=[[11, 17], [19, 17]],
        cell=5 * np.eye(3),
        eps=rng.normal(size=(2, 9)),
    )
    data = read(tmp_path / "c.npz", "dielectric", groups="composition")
    assert data.y.shape == (2, 3, 3)
    assert data.groups.tolist() == ["ClNa", "ClK"]
    assert data.frames[1].cell.volume == pytest.approx(125)


def test_files_without_frames(tmp_path):
    np.savez(tmp_path / "l.npz", alpha=np.zeros((2, 9)))
    with pytest.raises(ValueError, match="l.npz cannot be read as npz .*0 of the keys R, .*passed as labels="):
        read(tmp_path / "l.npz")
    np.savez(tmp_path / "l.npz", R=np.zeros((2, 9)), z=[1, 1, 1])
    with pytest.raises(ValueError, match=r"positions have shape \(2, 9\) and atomic numbers \(3,\)"):
        read(tmp_path / "l.npz")
