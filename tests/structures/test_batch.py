import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels.structures import StructureBatch


def test_flat_arrays():
    frames = [molecule("H2O"), Atoms("Si2", positions=[[0, 0, 0], [1, 1, 1]], cell=np.eye(3) * 3, pbc=[1, 0, 1])]
    batch = StructureBatch.from_frames(frames)
    assert (batch.n_structures, batch.n_atoms) == (2, 5)
    np.testing.assert_array_equal(batch.structure_of_atom, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(batch.atom_in_structure, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(batch.species, [1, 8, 14])
    np.testing.assert_array_equal(batch.pbc, [[False] * 3, [True, False, True]])


def test_any_sequence(tmp_path):
    frames = [molecule("H2O"), molecule("NH3")]
    array = np.empty(2, dtype=object)
    array[:] = frames
    sequences = [frames, tuple(frames), array, iter(frames)]
    try:
        import pandas as pd

        sequences.append(pd.Series(frames, index=[7, 3]))
    except ImportError:
        pass
    from ase.io.trajectory import Trajectory

    with Trajectory(tmp_path / "frames.traj", "w") as file:
        for atoms in frames:
            file.write(atoms)
    sequences.append(Trajectory(tmp_path / "frames.traj"))
    for sequence in sequences:
        np.testing.assert_array_equal(StructureBatch.from_frames(sequence).offsets, [0, 3, 7])


def test_flags_without_a_cell_mean_a_molecule():
    atoms = molecule("H2O")
    atoms.pbc = True
    with pytest.warns(UserWarning, match=r"2 structures \(first: 1\) are flagged periodic but have no cell"):
        batch = StructureBatch.from_frames([molecule("H2O"), atoms, atoms])
    assert not batch.pbc.any()
    assert atoms.pbc.all()


def with_change(**changes):
    atoms = molecule("H2O")
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def nan_at(atom):
    atoms = molecule("H2O")
    atoms.positions[atom, 1] = np.nan
    return atoms


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (molecule("H2O"), TypeError, r"single ase.Atoms: wrap it in a list, \[atoms\]"),
        ("water.xyz", TypeError, r"got str: read files with ase.io.read\(path, ':'\)"),
        (None, TypeError, "got NoneType"),
        ([], ValueError, "X has no structures"),
        ([molecule("H2O"), 3], TypeError, "structure 1 is a int, expected ase.Atoms"),
        ([molecule("H2O"), Atoms()], ValueError, "structure 1 has no atoms"),
        ([molecule("H2O"), nan_at(2)], ValueError, "structure 1, atom 2 has a position that is NaN or infinite"),
        ([with_change(numbers=[8, 0, 1])], ValueError, "structure 0, atom 1 is a placeholder"),
        ([with_change(cell=[[1, 0, 0], [0, np.nan, 0], [0, 0, 1]])], ValueError, "cell of structure 0 contains NaN"),
        (
            [with_change(cell=[5, 5, 0], pbc=True)],
            ValueError,
            "periodic along direction 2 but its cell vector there is zero",
        ),
        (
            [with_change(cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True)],
            ValueError,
            "structure 0 are linearly dependent",
        ),
        ([with_change(cell=[[5, 0, 0], [10, 0, 0], [0, 0, 5]], pbc=[1, 1, 0])], ValueError, "linearly dependent"),
    ],
)
def test_what_is_refused(frames, error, message):
    with pytest.raises(error, match=message):
        StructureBatch.from_frames(frames)


def test_slabs_and_wires_need_no_other_cell_vectors():
    StructureBatch.from_frames([with_change(cell=[5, 5, 0], pbc=[1, 1, 0]), with_change(cell=[0, 0, 5], pbc=[0, 0, 1])])
