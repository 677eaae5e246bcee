import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from eqkernels import SOAP, LambdaSOAP, SphericalExpansion
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.naive import neighbors_of, rotation_quadrature


@pytest.mark.parametrize("n_max", [1, 3, 4, 7, 8, 12])
def test_power_spectrum_is_the_printed_formula(frames, n_max):
    options = {"cutoff": 3.5, "n_max": n_max, "l_max": 3}
    spectrum = SOAP(**options).fit_transform(frames)
    expansion = SphericalExpansion(**options).fit_transform(frames)
    columns = []
    for l, block in enumerate(expansion.blocks.values()):
        products = np.einsum("imq,imp->iqp", block, block) / np.sqrt(2 * l + 1)
        q1, q2 = np.triu_indices(products.shape[1])
        columns.append(products[:, q1, q2] * np.where(q1 == q2, 1.0, np.sqrt(2.0)))
    expected = np.concatenate(columns, axis=1)
    np.testing.assert_allclose(spectrum, expected, atol=1e-13 * np.abs(expected).max())


def overlaps(first, second, rotations, sigma, cutoff, width=0.5):
    """Overlap integral of two densities, Gaussian by Gaussian, for every rotation of the second."""
    from eqkernels.radial.table import cutoff_function

    total = 0
    for number in np.intersect1d(first[1], second[1]):
        a, b = first[0][first[1] == number], second[0][second[1] == number]
        fa, fb = (cutoff_function(np.linalg.norm(v, axis=1), cutoff, width) for v in (a, b))
        turned = np.einsum("rxy,jy->rjx", rotations, b)
        squares = ((a[:, None, None] - turned) ** 2).sum(axis=-1)  # (i, r, j)
        gaussians = np.exp(-squares / (4 * sigma**2)) / (4 * np.pi * sigma**2) ** 1.5
        total = total + np.einsum("i,j,irj->r", fa, fb, gaussians)
    return total


def environments(frames, cutoff):
    """Neighbors of the first atom of each structure, itself included."""
    result = []
    for atoms in frames:
        vectors, numbers = neighbors_of(atoms, 0, cutoff)
        result.append((np.vstack([vectors, np.zeros(3)]), np.append(numbers, atoms.numbers[0])))
    return result


# wide Gaussians, so that a basis of moderate size is complete to the tolerances below
CONVERGED = {"cutoff": 2.5, "n_max": 8, "l_max": 9, "sigma": 0.8}


@pytest.mark.parametrize("periodic", [False, True])
def test_kernel_is_the_rotation_integral_of_the_density_overlap(periodic):
    """Bartok et al. 2013, eq. 22: the kernel without any expansion, which a converged basis must reproduce."""
    frames = random_frames(seed=11, n_frames=2, n_species=2, periodic=periodic)
    spectrum = SOAP(**CONVERGED).fit(frames).transform(frames)
    rows = [0, len(frames[0])]
    rotations, weights = rotation_quadrature(24)
    for a, first in enumerate(environments(frames, 2.5)):
        for b, second in enumerate(environments(frames, 2.5)):
            integral = np.sum(weights * overlaps(first, second, rotations, 0.8, 2.5) ** 2)
            np.testing.assert_allclose(spectrum[rows[a]] @ spectrum[rows[b]], integral, rtol=5e-4)


@pytest.mark.parametrize("lam", [1, 2, 3])
def test_covariant_kernel_is_the_rotation_integral_with_wigner_matrices(lam):
    """Grisafi et al. 2018, eq. 5, for each parity: the sum over proper rotations plus or minus the improper ones."""
    from eqkernels.so3 import wigner_d

    frames = random_frames(seed=12, n_frames=2, n_species=2)
    features = LambdaSOAP(**CONVERGED, irreps=f"{lam}e+{lam}o").fit_transform(frames)
    rows = [0, len(frames[0])]
    rotations, weights = rotation_quadrature(26)
    first, second = environments(frames, 2.5)
    matrices = wigner_d(f"{lam}e", rotations)
    parts = [
        np.einsum("r,r,rab->ab", weights, overlaps(first, second, sign * rotations, 0.8, 2.5) ** 2, matrices)
        for sign in (1, -1)
    ]
    scale = np.abs(parts[0]).max()
    for key, sign in ((f"{lam}e", 1), (f"{lam}o", -1)):
        block = features.blocks[key]
        kernel = block[rows[0]] @ block[rows[1]].T
        integral = (2 * lam + 1) * (parts[0] + sign * parts[1]) / 2
        np.testing.assert_allclose(kernel, integral, atol=5e-4 * scale)


def test_invariant(frames):
    assert_equivariant(SOAP(3.5, n_max=3, l_max=3).fit(frames), frames)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_aggregation(molecules, aggregate, monkeypatch):
    rows = SOAP(4.0, n_max=3, l_max=2).fit_transform(molecules)
    ends = np.cumsum([len(atoms) for atoms in molecules])
    expected = [getattr(part, aggregate)(axis=0) for part in np.split(rows, ends[:-1])]
    monkeypatch.setattr("eqkernels.descriptors.density.expand._DENSITY_PER_RANGE", 3000)
    got = SOAP(4.0, n_max=3, l_max=2, aggregate=aggregate, n_jobs=2).fit_transform(molecules)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_structure_without_a_center_is_a_row_of_zeros(molecules):
    descriptor = SOAP(4.0, n_max=2, l_max=1, center_species=["N"], aggregate="mean").fit(molecules)
    bare = [atoms for atoms in molecules if 7 not in atoms.numbers]
    assert bare
    assert np.abs(descriptor.transform(bare)).max() == 0


def test_names_and_output_as_a_table(molecules):
    pd = pytest.importorskip("pandas")
    descriptor = SOAP(4.0, n_max=2, l_max=1, aggregate="sum").set_output(transform="pandas")
    table = descriptor.fit_transform(molecules)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns[:2]) == ["H0 H0 l0", "H0 H1 l0"]
    assert len(set(table.columns)) == table.shape[1]


def test_serves_any_model(molecules):
    y = [len(atoms) for atoms in molecules]
    model = make_pipeline(SOAP(4.0, n_max=2, l_max=1, aggregate="sum"), Ridge(1e-8)).fit(molecules, y)
    np.testing.assert_allclose(model.predict(molecules), y, atol=1e-2)
