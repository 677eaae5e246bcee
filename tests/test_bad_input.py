"""What users do wrong, and the words that they get: what was wrong, where, and what to do."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP,
    CartesianTensor,
    CovariantKernel,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.calibration import calibration_curve

FRAMES = [molecule(name) for name in ("H2O", "NH3", "CH4", "CH3OH")]
DIPOLES = np.random.default_rng(0).normal(size=(4, 3))
TENSORS = np.random.default_rng(0).normal(size=(4, 3, 3))
SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2}


def changed(frame, **changes):
    frames = [atoms.copy() for atoms in FRAMES]
    for name, value in changes.items():
        setattr(frames[frame], name, value)
    return frames


def with_nan():
    frames = changed(1)
    frames[1].positions[2, 0] = np.nan
    return frames


def with_twins():
    frames = changed(2)
    frames[2].positions[4] = frames[2].positions[3]
    return frames


def fit(X, y=DIPOLES, **options):
    return make_pipeline(LambdaSOAP(**SMALL), TensorKernelRidge(**options)).fit(X, y)


def soap(**options):
    return SOAP(**{**SMALL, **options}).fit_transform(FRAMES)


CASES = {
    "one structure, not a list": (lambda: fit(FRAMES[0]), TypeError, r"single ase.Atoms: wrap it in a list, \[atoms\]"),
    "a path": (lambda: fit("frames.xyz"), TypeError, r"read files with ase.io.read\(path, ':'\)"),
    "no structures": (lambda: fit([], []), ValueError, "give at least one"),
    "something else among the frames": (lambda: fit([*FRAMES[:3], "CO"]), TypeError, "structure 3 is a str"),
    "an empty structure": (lambda: fit([*FRAMES[:3], Atoms()]), ValueError, "structure 3 has no atoms: remove it"),
    "NaN position": (lambda: fit(with_nan()), ValueError, "structure 1, atom 2 has a position that is NaN"),
    "atoms on top of each other": (lambda: fit(with_twins()), ValueError, "structure 2: atoms 3 and 4 coincide"),
    "placeholder atom": (lambda: fit(changed(0, numbers=[8, 0, 1])), ValueError, "structure 0, atom 1 is a placeholder"),
    "half a cell": (
        lambda: fit(changed(1, cell=[9, 9, 0], pbc=True)), ValueError,
        r"structure 1 is periodic along direction 2 but its cell vector there is zero: set the vector, or atoms.pbc\[2\]",
    ),
    "flat cell": (
        lambda: fit(changed(1, cell=[[9, 0, 0], [0, 9, 0], [9, 9, 0]], pbc=True)), ValueError,
        "cell vectors of structure 1 are linearly dependent",
    ),
    "NaN cell": (lambda: fit(changed(3, cell=[np.nan, 9, 9], pbc=True)), ValueError, "cell of structure 3 contains NaN"),
    "unknown species": (
        lambda: fit(FRAMES[:2], DIPOLES[:2]).predict(FRAMES), ValueError,
        r"species C \(first in structure 2, atom 0\) was not seen at fit, which saw H, N, O: fit on structures",
    ),
    "prediction before fit": (lambda: TensorKernelRidge().predict(FRAMES), NotFittedError, "not fitted yet"),
    "transform before fit": (lambda: SOAP().transform(FRAMES), NotFittedError, "not fitted yet"),
    "no labels": (lambda: fit(FRAMES, None), ValueError, "requires y to be passed"),
    "too few labels": (lambda: fit(FRAMES, DIPOLES[:3]), ValueError, "y has 3 entries for 4 structures"),
    "flattened tensors": (
        lambda: fit(FRAMES, TENSORS.reshape(4, 9)), ValueError, r"restored by y.reshape\(-1, 3, 3\)"
    ),
    "labels in a table of two columns": (lambda: fit(FRAMES, DIPOLES[:, :2]), ValueError, r"trailing shape \(2,\)"),
    "NaN label": (
        lambda: fit(FRAMES, np.where(np.arange(12).reshape(4, 3) == 7, np.nan, DIPOLES)), ValueError,
        "NaN or infinity in 1 of 4 labels, first for structure 2",
    ),
    "complex labels": (lambda: fit(FRAMES, DIPOLES * 1j), ValueError, "fit its real and imaginary parts one by one"),
    "labels of another rank": (lambda: fit(FRAMES, DIPOLES, target="ij=ji"), ValueError, "of rank 2"),
    "labels that break the symmetry": (
        lambda: TensorKernelRidge(target="ij=ji").fit(FRAMES, TENSORS), ValueError,
        r"y breaks the declared symmetry 'ij=ji': \d+\.\d% of its norm lies outside",
    ),
    "labels of atoms with a row missing": (
        lambda: fit(FRAMES, [np.ones((len(atoms) - (k == 2), 3, 3)) for k, atoms in enumerate(FRAMES)]), ValueError,
        r"y\[2\] has 4 rows, structure 2 has 5 atoms",
    ),
    "impossible target": (lambda: fit(FRAMES, TENSORS, target="ij=-ij"), ValueError, "contradicts itself"),
    "target of the wrong type": (lambda: fit(FRAMES, TENSORS, target=2), TypeError, "a formula such as 'ij=ji'"),
    "axial and polar exchanged": (
        lambda: CartesianTensor("ij=ji", axial="j").irreps, ValueError, "exchanges an axial with a polar index"
    ),
    "negative cutoff": (lambda: soap(cutoff=-1.0), ValueError, "cutoff=-1.0 must be a positive, finite number"),
    "cutoff zero": (lambda: soap(cutoff=0), ValueError, "cutoff=0 must be a positive"),
    "several parameters": (
        lambda: soap(cutoff="4", n_max=0, sigma=np.nan), ValueError, "cutoff='4' must be.*; n_max=0 must be.*; sigma=nan"
    ),
    "l_max not an integer": (lambda: soap(l_max=2.5), ValueError, "l_max=2.5 must be an integer between 0 and 30"),
    "wide cutoff shell": (lambda: soap(cutoff_width=9.0), ValueError, "cutoff_width=9.0 must not exceed cutoff=3.0"),
    "unknown basis": (lambda: soap(radial_basis="sto"), ValueError, r"must be one of .'gto', 'laplacian'"),
    "unknown element": (lambda: soap(center_species=["Xx"]), ValueError, "neither a chemical symbol nor an atomic"),
    "unknown aggregation": (lambda: soap(aggregate="max"), ValueError, "aggregate='max' must be one of"),
    "degree that cannot be reached": (
        lambda: LambdaSOAP(3.0, n_max=2, l_max=1, irreps="3e").fit(FRAMES), ValueError, "irrep 3e has no features at l_max=1"
    ),
    "features without the irrep": (
        lambda: TensorKernelRidge().fit(LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(FRAMES), TENSORS), ValueError,
        r"X has no block 1e, 2e, only 0e, 1o: the target 'ij' is made of 0e, 1e, 2e; use LambdaSOAP\(irreps='0e\+1e\+2e'\)",
    ),
    "negative alpha": (lambda: fit(FRAMES, alpha=-1.0), ValueError, "alpha=-1.0 must be a finite number, zero or positive"),
    "alphas for other irreps": (
        lambda: fit(FRAMES, alpha={"2e": 1}), ValueError, r"alpha has the irreps \['2e'\], the target has \['1o'\]"
    ),
    "kernel of another library": (lambda: fit(FRAMES, kernel="rbf"), TypeError, "must be a kernel such as CovariantKernel"),
    "zeta below one": (
        lambda: fit(FRAMES, kernel=CovariantKernel(zeta=0)), ValueError, "zeta=0 must be an integer, at least 1"
    ),
    "negative weights": (
        lambda: TensorRidge().fit(FRAMES, DIPOLES, sample_weight=[1, -1, 1, 1]), ValueError,
        "sample_weight must be 4 finite, non-negative numbers.*, got -1.0 for structure 1",
    ),
    "too few weights": (
        lambda: TensorGPR(descriptor=LambdaSOAP(**SMALL)).fit(FRAMES, DIPOLES, sample_weight=[1, 1, 1]), ValueError,
        r"sample_weight must be 4 .*, got an array of shape \(3,\)",
    ),
    "weights by name": (
        lambda: TensorRidge().fit(FRAMES, DIPOLES, sample_weight="balanced"), TypeError, "sample_weight.*, got 'balanced'"
    ),
    "no structures to predict": (lambda: fit(FRAMES).predict([]), ValueError, "give at least one"),
    "nothing to predict, from frames": (
        lambda: SparseTensorGPR(8, descriptor=LambdaSOAP(**SMALL)).fit(FRAMES, DIPOLES).predict([]), ValueError,
        "X has no structures",
    ),
    "calibration of nothing": (lambda: calibration_curve([], [], []), ValueError, "no tensors in y_true"),
    "unknown baseline": (lambda: fit(FRAMES, baseline="atoms"), ValueError, "baseline='atoms' must be one of"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    action, error, message = CASES[case]
    with pytest.raises(error, match=message):
        action()


def test_a_flag_without_a_cell_is_told_and_read_as_a_molecule():
    flagged = changed(0, pbc=True)
    with pytest.warns(UserWarning, match=r"1 structures \(first: 0\) are flagged periodic but have no cell"):
        assert np.array_equal(SOAP(**SMALL).fit_transform(flagged), SOAP(**SMALL).fit_transform(FRAMES))
