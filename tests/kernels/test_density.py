import numpy as np
import pytest

from eqkernels import CovariantKernel, DensityKernel, LambdaSOAP, SphericalExpansion
from eqkernels.kernels.density import contraction_is_cheaper, density_expansion
from tests.conftest import random_frames

OPTIONS = {"cutoff": 3.5, "n_max": 3, "l_max": 3}


@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2, 4])
def test_same_kernel_as_from_features(frames, zeta, normalize):
    others = random_frames(9, n_frames=3, n_species=2)
    descriptors = LambdaSOAP(**OPTIONS, irreps="0e+1o+1e+2e+3o"), SphericalExpansion(**OPTIONS)
    every = [*frames, *others]
    features, density = (one.fit(every).transform(every) for one in descriptors)
    n = len(frames)
    for aggregate in ("sum", "mean"):
        options = {"zeta": zeta, "normalize": normalize, "aggregate": aggregate}
        for irrep in features.blocks:
            expected = CovariantKernel(**options)(features[:n], features[n:], irrep=irrep)
            found = DensityKernel(**options)(density[:n], density[n:], irrep=irrep)
            np.testing.assert_allclose(found, expected, atol=1e-11 * max(1e-3, np.abs(expected).max()), err_msg=irrep)
            square = DensityKernel(**options)(density[:n], irrep=irrep)
            expected = CovariantKernel(**options)(features[:n], irrep=irrep)
            np.testing.assert_allclose(square, expected, atol=1e-11 * np.abs(expected).max())


def test_ranges_do_not_matter(monkeypatch):
    density = SphericalExpansion(**OPTIONS).fit_transform(random_frames(4, n_frames=6, n_species=2))
    whole = DensityKernel()(density, irrep="1o")
    monkeypatch.setattr("eqkernels.kernels.density._ROWS_PER_BLOCK", 3)
    np.testing.assert_allclose(DensityKernel()(density, irrep="1o"), whole, atol=1e-12)


@pytest.mark.parametrize("compressed", [{}, {"n_species_channels": 3}, {"n_optimal": 2}])
def test_densities_of_a_descriptor(compressed):
    frames = random_frames(4, n_species=4)
    descriptor = LambdaSOAP(**OPTIONS, **compressed, irreps="0e+1e").fit(frames)
    density = density_expansion(descriptor).transform(frames)
    expected = CovariantKernel()(descriptor.transform(frames), irrep="1e")
    np.testing.assert_allclose(DensityKernel()(density, irrep="1e"), expected, atol=1e-12)


def test_when_contraction_is_cheaper():
    few = LambdaSOAP(irreps="0e+1o").fit(random_frames(0, n_species=1))
    many = LambdaSOAP(irreps="0e+1o").fit(random_frames(0, n_species=4, n_atoms=(5, 9)))
    assert not contraction_is_cheaper(CovariantKernel(), few, 10)
    assert contraction_is_cheaper(CovariantKernel(), few, 10**7)  # 39 GB of features
    assert contraction_is_cheaper(CovariantKernel(), many, 10)
    impossible = LambdaSOAP(irreps="0e+0o").fit(random_frames(0, n_species=4, n_atoms=(5, 9)))
    assert not contraction_is_cheaper(CovariantKernel(), impossible, 10**7)
    assert contraction_is_cheaper(CovariantKernel(zeta_bounds=(1, 4)), many, 10)
    assert not contraction_is_cheaper(2.0 * CovariantKernel(), many, 10)
    assert not contraction_is_cheaper(CovariantKernel(), SphericalExpansion().fit(random_frames(0)), 10)


def test_other_features_are_refused():
    frames = random_frames(4, n_species=2)
    with pytest.raises(ValueError, match="not those of density coefficients"):
        DensityKernel()(LambdaSOAP(**OPTIONS, irreps="0e+2e").fit_transform(frames))
    with pytest.raises(TypeError, match="expected EquivariantFeatures"):
        DensityKernel()(frames)
    with pytest.raises(ValueError, match="do not couple to 0o"):
        DensityKernel()(SphericalExpansion(**OPTIONS).fit_transform(frames), irrep="0o")
    density = SphericalExpansion(**OPTIONS).fit_transform(frames)
    with pytest.raises(ValueError, match="different channels"):
        DensityKernel()(density, SphericalExpansion(3.5, 4, 3).fit_transform(frames))
