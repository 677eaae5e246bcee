import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones

from eqkernels.symmetry import check_equivariance
from tests.conftest import random_frames


@pytest.fixture
def frames():
    return random_frames(3, n_frames=3, n_species=2, periodic=True)


def handedness(frames):
    """Sum of signed volumes, which mirrors reverse."""
    return [float(np.linalg.det(atoms.positions[:3] - atoms.positions[3])) for atoms in frames]


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        (lambda frames: [float(np.ptp(atoms.positions[:, 2])) for atoms in frames], "rotation"),
        (lambda frames: [float(np.linalg.norm(atoms.positions[0])) for atoms in frames], "translation"),
        (lambda frames: [float(atoms.get_distance(0, 1)) for atoms in frames], "permutation"),
        (lambda frames: [float(np.linalg.norm(atoms.cell[0])) for atoms in frames], "choice of cell"),
        (lambda frames: [1.0 + len(atoms) for atoms in frames], "supercell"),
        (lambda frames: [float(np.linalg.det(atoms.cell.array)) for atoms in frames], "inversion"),
    ],
)
def test_finds_what_is_broken(frames, model, broken):
    report = check_equivariance(model, frames)
    assert broken in report.broken
    assert "broken" in next(line for line in str(report).splitlines() if line.startswith(broken))


def test_handedness_of_a_molecule():
    atoms = molecule("CH3OH")
    atoms.rattle(0.2, seed=0)  # no mirror plane
    report = check_equivariance(handedness, [atoms])
    assert report.violations["inversion"] == pytest.approx(2.0)
    assert "rotation" not in report.broken


def test_passes_what_is_right(frames):
    report = check_equivariance(lambda frames: [atoms.get_volume() for atoms in frames], frames)
    assert not report.broken
    assert not np.isnan(list(report.violations.values())).any()
    density = check_equivariance(lambda frames: [len(a) / a.get_volume() for a in frames], frames, extensive=False)
    assert not density.broken


def test_calculator_with_forces():
    atoms = bulk("Ar", cubic=True)
    atoms.rattle(0.1, seed=1)
    for one in ("energy", "forces"):
        assert not check_equivariance(LennardJones(rc=4.0, smooth=True), [atoms], property=one, tolerance=1e-6).broken


def test_axial_target(frames):
    def axial(frames):
        return [np.cross(*atoms.cell.array[:2]) for atoms in frames]

    assert "inversion" in check_equivariance(axial, frames).broken
    assert "inversion" not in check_equivariance(axial, frames, target="magnetic_moment").broken


def test_molecules_have_no_cell():
    report = check_equivariance(lambda frames: [1.0 * len(atoms) for atoms in frames], [molecule("H2O")])
    assert np.isnan(report.violations["supercell"])
    assert "no periodic structure" in str(report)


def test_plot(frames):
    ax = check_equivariance(lambda frames: [atoms.get_volume() for atoms in frames], frames).plot()
    assert len(ax.patches) == 6


def test_refuses_what_is_no_model(frames):
    with pytest.raises(TypeError, match="expected an estimator"):
        check_equivariance(3, frames)
