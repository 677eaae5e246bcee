"""Agreement with an independent code, where it is installed."""

import numpy as np
import pytest

from eqkernels import SOAP, LambdaSOAP
from tests.conftest import random_frames


def normalized(rows):
    kernel = rows @ rows.T
    norms = np.sqrt(kernel.diagonal())
    return kernel / norms[:, None] / norms


def featomic_density(featomic):
    return {
        "cutoff": {"radius": 4.0, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
        "density": {"type": "Gaussian", "width": 0.3, "center_atom_weight": 1.0},
        "basis": {
            "type": "TensorProduct",
            "max_angular": 4,
            "radial": {"type": "Gto", "max_radial": 4},
            "spline_accuracy": 1e-10,
        },
    }


def in_order_of_atoms(block):
    samples = block.samples
    return block.values[np.lexsort((np.array(samples["atom"]), np.array(samples["system"])))]


@pytest.mark.parametrize("periodic", [False, True])
def test_soap_kernels_equal_those_of_featomic(periodic):
    featomic = pytest.importorskip("featomic")
    frames = random_frames(2, n_frames=5, n_species=3, periodic=periodic)
    for atoms in frames:  # featomic knows only full periodicity
        atoms.pbc = periodic
    theirs = featomic.SoapPowerSpectrum(**featomic_density(featomic)).compute(frames)
    theirs = theirs.keys_to_samples("center_type").keys_to_properties(["neighbor_1_type", "neighbor_2_type"])
    ours = SOAP(4.0, n_max=5, l_max=4, sigma=0.3).fit_transform(frames)
    np.testing.assert_allclose(normalized(ours), normalized(in_order_of_atoms(theirs.block())), atol=1e-8)


def test_lambda_soap_kernels_equal_those_of_featomic():
    """Kernels of environments with all components, whose traces no choice of basis or sign changes."""
    featomic = pytest.importorskip("featomic")
    frames = random_frames(2, n_frames=5, n_species=2)
    calculator = featomic.clebsch_gordan.EquivariantPowerSpectrum(
        featomic.SphericalExpansion(**featomic_density(featomic))
    )
    theirs = calculator.compute(frames, neighbors_to_properties=True).keys_to_samples("center_type")
    irreps = "0e+1o+1e+2e+2o+3o"
    ours = LambdaSOAP(4.0, n_max=5, l_max=4, sigma=0.3, irreps=irreps).fit_transform(frames)
    for key, block in ours.blocks.items():
        lam, sigma = int(key[0]), 1 if (key[1] == "e") == (int(key[0]) % 2 == 0) else -1
        found = theirs.block({"o3_lambda": lam, "o3_sigma": sigma})
        # featomic keeps l_1 <= l_2 without a weight for the other order
        once = np.array(found.properties["l_1"]) == np.array(found.properties["l_2"])
        other = in_order_of_atoms(found) * np.where(once, 1.0, np.sqrt(2.0))
        kernels = [np.einsum("imf,jnf->ijmn", one, one) for one in (block, other)]
        traces = [np.einsum("ijmm->ij", kernel) for kernel in kernels]
        ratio = traces[0][0, 0] / traces[1][0, 0]
        np.testing.assert_allclose(traces[0], ratio * traces[1], atol=1e-8 * np.abs(traces[0]).max())
