"""Models with random weights have at least the symmetry of their input: T. E. Smidt, Trends Chem. 3, 82 (2021), 2C."""

import numpy as np
import pytest
from ase import Atoms

from eqkernels import EquivariantNetwork, TensorRidge
from eqkernels.descriptors import LambdaSOAP
from eqkernels.symmetry import PointGroup, allowed_components, point_group
from eqkernels.symmetry.group_names import CRYSTAL_CLASSES

KEYS = ["0e", "0o", "1o", "1e", "2e", "2o", "3o", "4e"]


def structure_of(name, seed=0):
    """An atom, and around it images of three points in general positions: the class, and no more."""
    random, matrices = np.random.default_rng(seed), PointGroup.from_name(name).matrices
    shells = []
    for radius in (1.3, 1.6, 1.9):
        point = random.normal(size=3)
        shells.append(matrices @ (radius * point / np.linalg.norm(point)))
    symbols = ["C"] + ["H"] * len(matrices) + ["F"] * len(matrices) + ["O"] * len(matrices)
    return Atoms(symbols, np.concatenate([np.zeros((1, 3)), *shells]))


@pytest.fixture(scope="module", params=[0, 1])
def network(request):
    return EquivariantNetwork(
        cutoff=3.0, channels=2, l_max=4, products=True, irreps="+".join(KEYS), random_state=request.param
    ).fit([structure_of("1")])


@pytest.mark.parametrize("name", CRYSTAL_CLASSES)
def test_features_of_random_networks(network, name):
    atoms = structure_of(name)
    assert point_group(atoms, tolerance=1e-3).hermann_mauguin == name
    features = network.transform([atoms])
    sizes = {key: np.abs(block[0]).max() for key, block in features.blocks.items()}
    for key in KEYS:
        allowed = allowed_components(name, "1x" + key)
        center = features.blocks[key][0].T
        np.testing.assert_allclose(allowed.project(center), center, atol=1e-9 * max(sizes.values()))
        if allowed.dimension and key not in ("0o", "1e", "2o"):  # those take products that few densities have
            assert sizes[key] > 1e-6 * max(sizes.values())


@pytest.mark.parametrize("name", CRYSTAL_CLASSES)
@pytest.mark.parametrize("target", ["ijk", "gyration"])
def test_tensors_of_random_models(name, target):
    """A model fitted to noise knows no symmetry but that of its structures."""
    random = np.random.default_rng(1)
    atoms = structure_of(name)
    frames = [structure_of("1", seed) for seed in range(4)]
    shape = (4, 3, 3, 3) if target == "ijk" else (4, 3, 3)
    y = random.normal(size=shape)
    y = y if target == "ijk" else y + np.swapaxes(y, 1, 2)
    model = _model(target).fit(frames, y)
    tensor = model.predict([atoms])[0]
    size = np.abs(model.predict(frames)).max()
    np.testing.assert_allclose(allowed_components(name, target).project(tensor), tensor, atol=1e-8 * size)


def _model(target):
    irreps = "0e+1o+2e+3o+0o+1e+2o" if target == "ijk" else "0e+0o+2o"
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=3, irreps=irreps)
    return TensorRidge(1e-6, descriptor=descriptor, target=target, per_atom=False)
