import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eqkernels.datasets import load_chiral_molecules, load_water_clusters
from eqkernels.symmetry import check_labels

N = 120


@pytest.fixture(scope="module")
def data():
    return load_water_clusters()


@pytest.mark.parametrize("target", ["dipole", "polarizability", "hyperpolarizability"])
def test_no_false_alarm(data, target):
    assert check_labels(data.frames[:N], data[target][:N], target) == []


TURN = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
FAULTS = [
    ("dipole", "sign", lambda mu: -mu),
    ("dipole", "component order", lambda mu: mu[[1, 2, 0]]),
    ("dipole", "rotated", lambda mu: TURN @ mu),
    ("dipole", "unit", lambda mu: 2.541746 * mu),
    ("polarizability", "rotated", lambda alpha: TURN @ alpha @ TURN.T),
    ("polarizability", "unit", lambda alpha: 0.1481847 * alpha),
    ("polarizability", "sign", lambda alpha: -alpha),
    ("hyperpolarizability", "sign", lambda beta: -beta),
]


@pytest.mark.parametrize(("target", "kind", "fault"), FAULTS, ids=lambda one: one if isinstance(one, str) else "")
def test_planted_faults(data, target, kind, fault):
    y, wrong = data[target][:N].copy(), np.arange(5, 100, 10)
    for k in wrong:
        y[k] = fault(y[k])
    report = check_labels(data.frames[:N], y, target)
    assert {one.structure for one in report} <= set(wrong.tolist())
    assert len({one.structure for one in report}) >= 9
    assert sum(one.kind == kind for one in report) >= 7


def test_six_components_in_another_order(data):
    y = data.polarizability[:N].copy()
    xx, yy, zz, yz, xz, xy = y[5][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    y[5] = [[xx, yz, xz], [yz, yy, xy], [xz, xy, zz]]  # yz xz xy were read as xy xz yz
    (finding,) = check_labels(data.frames[:N], y, "polarizability")
    assert finding.structure == 5
    assert finding.kind in ("Voigt order", "component order")  # of a diagonal that is nearly isotropic, the same


def test_transposed_tensors_of_atoms(data):
    monomers = np.flatnonzero(data.names == "water monomer")[:60]
    y = [data.shielding[k].copy() for k in monomers]
    for k in (7, 11, 17):
        y[k] = y[k].swapaxes(1, 2)
    findings = check_labels([data.frames[k] for k in monomers], y, "shielding")
    assert {(one.structure, one.kind) for one in findings} == {(k, "transposed") for k in (7, 11, 17)}


def test_one_atom(data):
    y = [one.copy() for one in data.forces[:N]]
    y[8][2] *= -30.0
    findings = check_labels(data.frames[:N], y, "forces")
    assert [(one.structure, one.atom) for one in findings] == [(8, 2)]
    assert findings[0].kind == "unit"


def test_index_symmetry(data):
    y = data.polarizability[:N].copy()
    y[4, 0, 1] += 3.0
    assert (4, "index symmetry") in [(one.structure, one.kind) for one in check_labels(data.frames[:N], y, "ij=ji")]


def test_order_of_all_labels(data):
    (finding,) = check_labels(data.frames[:N], data.dipole[:N][:, [1, 2, 0]], "dipole")
    assert (finding.structure, finding.kind) == (None, "component order")
    assert "y z x" in finding.text


def test_axial_declared_polar():
    chiral = load_chiral_molecules()
    report = check_labels(chiral.frames[:N], chiral.gprime[:N], "ij")
    assert (report[0].structure, report[0].kind) == (None, "parity")
    assert not any(one.structure is None for one in check_labels(chiral.frames[:N], chiral.gprime[:N], "gprime"))


def test_too_few(data):
    with pytest.raises(ValueError, match="at least 20"):
        check_labels(data.frames[:5], data.dipole[:5], "dipole")
