import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqkernels import SOAP, LambdaSOAP, SphericalExpansion
from tests.conftest import random_frames

OPTIONS = {"cutoff": 3.4, "n_max": 3, "l_max": 3, "accuracy": 1e-11}
DESCRIPTORS = [
    SphericalExpansion(**OPTIONS),
    SOAP(**OPTIONS),
    LambdaSOAP(**OPTIONS, irreps="0e+1o+1e+2e+2o+3e"),
    LambdaSOAP(cutoff=3.4, n_max=2, l_max=2, accuracy=1e-11, irreps="0o+1o"),
    LambdaSOAP(cutoff=3.4, n_max=2, l_max=2, accuracy=1e-11, irreps="0o+1o", max_pseudoscalars=60),
    LambdaSOAP(
        **{**OPTIONS, "n_max": 5},
        irreps="0e+1o",
        radial_basis="laplacian",
        scaling_scale=2.0,
        center_weight=0.5,
        center_species=["C", "H"],
    ),
    LambdaSOAP(**OPTIONS, irreps="0e+1o", n_optimal=2),
    SOAP(**OPTIONS, n_species_channels=1, n_optimal=2),
    LambdaSOAP(**OPTIONS, irreps="0e+1o+2o", compression="mu1nu1"),
    SOAP(**OPTIONS, compression="mu2"),
]


def blocks_of(descriptor, frames):
    features = descriptor.transform(frames)
    return {"0e": features[:, None]} if isinstance(features, np.ndarray) else features.blocks


def moved(frames, structure, atom, axis, step):
    frames = [atoms.copy() for atoms in frames]
    frames[structure].positions[atom, axis] += step
    return frames


def strained(frames, x, y, step):
    result = []
    for atoms in frames:
        matrix = np.eye(3)
        matrix[x, y] += step
        cell = atoms.cell.array @ matrix.T if atoms.pbc.any() else atoms.cell
        result.append(Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=cell, pbc=atoms.pbc))
    return result


def difference(descriptor, change, step=1e-4):
    """Central difference of fourth order."""
    values = [blocks_of(descriptor, change(k * step)) for k in (-2, -1, 1, 2)]
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    return {key: sum(w * value[key] for w, value in zip(weights, values, strict=True)) for key in values[0]}


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda one: type(one).__name__)
def test_forward_gradients_are_differences(descriptor, frames):
    descriptor.fit(frames)
    gradients = descriptor.gradients(frames, strain=True)
    random = np.random.default_rng(0)
    for _ in range(4):
        structure, axis = int(random.integers(len(frames))), int(random.integers(3))
        atom = int(random.integers(len(frames[structure])))
        expected = difference(descriptor, lambda h, k=structure, i=atom, x=axis: moved(frames, k, i, x, h))
        rows = (gradients.structures == structure) & (gradients.atoms == atom)
        for key, block in gradients.blocks.items():
            ours = np.zeros_like(expected[key])
            ours[gradients.centers[rows]] = block[rows, axis]
            np.testing.assert_allclose(ours, expected[key], atol=1e-8 * np.abs(block).max(), err_msg=key)
    x, y = random.integers(3, size=2)
    expected = difference(descriptor, lambda h: strained(frames, x, y, h))
    for key, block in gradients.strain.items():
        np.testing.assert_allclose(block[:, x, y], expected[key], atol=1e-7 * np.abs(block).max(), err_msg=key)


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda one: type(one).__name__)
def test_vjp_is_the_contraction_of_the_forward_gradients(descriptor, frames):
    descriptor.fit(frames)
    gradients = descriptor.gradients(frames, strain=True)
    random = np.random.default_rng(1)
    cotangents = {key: random.normal(size=block.shape) for key, block in blocks_of(descriptor, frames).items()}
    derivatives = descriptor.vjp(frames, cotangents["0e"][:, 0] if isinstance(descriptor, SOAP) else cotangents)
    starts = np.cumsum([0, *map(len, frames)])
    positions, strain = np.zeros((starts[-1], 3)), np.zeros((len(frames), 3, 3))
    structure_of_center = np.zeros(gradients.centers.max() + 1, dtype=int)
    structure_of_center[gradients.centers] = gradients.structures
    for key, block in gradients.blocks.items():
        terms = np.einsum("exmf,emf->ex", block, cotangents[key][gradients.centers])
        np.add.at(positions, starts[gradients.structures] + gradients.atoms, terms)
        terms = np.einsum("cxymf,cmf->cxy", gradients.strain[key], cotangents[key])
        np.add.at(strain, structure_of_center, terms)
    np.testing.assert_allclose(derivatives.positions, positions, atol=1e-11 * np.abs(positions).max())
    np.testing.assert_allclose(derivatives.strain, strain, atol=1e-11 * np.abs(strain).max())


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_vjp_of_aggregated_rows(aggregate):
    frames = random_frames(seed=3, n_species=2)
    soap = SOAP(**OPTIONS, aggregate=aggregate, center_species=["C"]).fit(frames)
    weights = np.random.default_rng(0).normal(size=soap.transform(frames).shape)
    derivative = soap.vjp(frames, weights).positions
    start, step = len(frames[0]), 1e-4
    plus, minus = (np.sum(weights * soap.transform(moved(frames, 1, 0, 2, h))) for h in (step, -step))
    assert derivative[start, 2] == pytest.approx((plus - minus) / (2 * step), rel=1e-6)


def test_entries_name_the_atoms_that_move():
    frames = [bulk("Cu", cubic=True)]
    entries = SOAP(3.0, n_max=2, l_max=1).fit(frames).gradients(frames)
    # each of the four atoms has all the others (several images of each) within 3 Angstrom, but moves as one
    assert entries.centers.tolist() == np.repeat(range(4), 4).tolist()
    assert entries.atoms.tolist() == [0, 1, 2, 3] * 4
    assert entries.structures.tolist() == [0] * 16
    total = np.zeros((4, *entries.blocks["0e"].shape[1:]))
    np.add.at(total, entries.centers, entries.blocks["0e"])
    np.testing.assert_allclose(total, 0, atol=1e-14)  # moving all atoms together changes nothing


def test_isolated_atoms_have_zero_gradients():
    frames = [Atoms("HC", [[0, 0, 0], [0, 0, 20.0]]), Atoms("C")]
    soap = SOAP(3.0, n_max=2, l_max=2).fit(frames)
    entries = soap.gradients(frames, strain=True)
    assert entries.centers.tolist() == [0, 1, 2]
    assert not entries.blocks["0e"].any()
    assert not entries.strain["0e"].any()
    assert not soap.vjp(frames, soap.transform(frames)).positions.any()


def test_threads_do_not_change_the_bits():
    frames = random_frames(seed=5, n_frames=30, n_species=3)
    one, two = (LambdaSOAP(**OPTIONS, irreps="0e+1o", n_jobs=n).fit(frames) for n in (1, 2))
    first, second = one.gradients(frames), two.gradients(frames)
    for key, block in first.blocks.items():
        np.testing.assert_array_equal(block, second.blocks[key])
    cotangents = one.transform(frames)
    np.testing.assert_array_equal(one.vjp(frames, cotangents).positions, two.vjp(frames, cotangents).positions)


def test_wrong_cotangents_are_told():
    frames = random_frames(seed=5)
    with pytest.raises(ValueError, match=r"cotangents has shape \(2, 2\), expected"):
        SOAP(**OPTIONS).fit(frames).vjp(frames, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"cotangents\['7e'\] has shape"):
        LambdaSOAP(**OPTIONS).fit(frames).vjp(frames, {"7e": np.zeros((2, 2))})
