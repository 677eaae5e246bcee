"""Inputs together with fields of all atoms, and with products of species with sums over species."""

import numpy as np
import pytest

from eqkernels import SOAP, CovariantKernel, LambdaSOAP, SphericalExpansion, TensorKernelRidge
from eqkernels.io import load_model, save_model
from eqkernels.so3 import clebsch_gordan
from eqkernels.testing import assert_equivariant, transformed
from tests.descriptors.test_input_channels import (
    SMALL,
    assert_derivatives,
    cotangents,
    dipoles,
    frames_with_inputs,
    kinds,
)

FIELDS = {"long_range": 1, "long_range_sigma": 0.7, "long_range_n_max": 2}
SUMMED = {"compression": "mu1nu1"}
SETS = [("field",), ("charge", "field"), ("spin",), ("velocity", "magnetic")]
OPTIONS = [
    {}, {"neighbor_inputs": False}, {"n_species_channels": 1}, {"n_optimal": 1}, {"center_species": ["C"]},
    {"neighbor_species": ["C"]},
]  # fmt: skip


def structures(periodic=False, n_frames=2):
    """Molecules or crystals: slabs and wires have no fields of all atoms."""
    frames = frames_with_inputs(periodic=periodic, n_frames=n_frames)
    for atoms in frames:
        atoms.pbc = periodic
    return frames


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("more", [FIELDS, SUMMED], ids=str)
def test_symmetry_and_derivatives(more, options, periodic):
    frames = structures(periodic)
    for names in SETS if not options else SETS[1:3]:
        descriptor = LambdaSOAP(**{**SMALL, "l_max": 1}, irreps="0e+1o+1e", inputs=kinds(names), **options, **more)
        blocks = descriptor.fit(frames).transform(frames).blocks
        assert_equivariant(descriptor, frames, n_transformations=2, inputs=kinds(names))
        assert_derivatives(descriptor, frames, names, cotangents(blocks))
        for key, block in blocks.items():
            assert len(descriptor.feature_labels(key)) == block.shape[2] > 0


@pytest.mark.parametrize("time_odd", [False, True])
@pytest.mark.parametrize("more", [FIELDS, SUMMED], ids=str)
def test_time_reversal(more, time_odd):
    frames, inputs = structures(), kinds(["velocity", "magnetic", "charge"])
    descriptor = LambdaSOAP(**SMALL, irreps="0e+1o+1e", inputs=inputs, time_odd=time_odd, **more).fit(frames)
    before = descriptor.transform(frames).blocks
    after = descriptor.transform([transformed(one, inputs=inputs, time_reversed=True) for one in frames]).blocks
    for key in ("0e", "1o", "1e"):
        sign = -1 if time_odd and key != "0e" else 1
        np.testing.assert_allclose(after[key], sign * before[key], atol=1e-12)


def couplings(left, right, key):
    """All products of two sets of coefficients that couple to an irrep, (n, 2 lambda + 1, n_products)."""
    lam, every = int(key[0]), []
    for one, a in left.items():
        for two, b in right.items():
            l1, l2 = int(one[0]), int(two[0])
            if (one[1] == two[1]) == (key[1] == "e") and abs(l1 - l2) <= lam <= l1 + l2:
                product = np.einsum("abm,iaq,ibp->imqp", clebsch_gordan(l1, l2, lam), a, b)
                every.append(product.reshape(*product.shape[:2], -1))
    return np.concatenate(every, axis=2)


def gram(block):
    return np.einsum("iaf,jbf->iajb", block, block)


@pytest.mark.parametrize("periodic", [False, True])
def test_products_with_fields_are_couplings_of_all_channels(periodic):
    """Those of the density and of inputs of any parity with the fields stand behind the products without fields."""
    frames, options = structures(periodic), {**SMALL, "inputs": kinds(["field", "spin"])}
    near = SphericalExpansion(**options).fit_transform(frames).blocks
    far = SphericalExpansion(3.0, n_max=2, l_max=2, density="potential", exponent=1, sigma=0.7)
    far = far.fit_transform(frames).blocks
    ours = LambdaSOAP(**options, **FIELDS, irreps="0e+1o+1e+2o").fit_transform(frames).blocks
    theirs = LambdaSOAP(**options, irreps="0e+1o+1e+2o").fit_transform(frames).blocks
    for key, block in ours.items():
        width = theirs[key].shape[2]
        np.testing.assert_array_equal(block[:, :, :width], theirs[key])
        expected = gram(couplings(near, far, key))
        np.testing.assert_allclose(gram(block[:, :, width:]), expected, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("neighbor_inputs", [False, True])
def test_one_factor_is_summed_over_species(neighbor_inputs):
    """First factors keep their species, second ones are sums; inputs of the center are both."""
    frames, inputs = structures(), kinds(["field", "spin", "charge"])
    options = {**SMALL, "inputs": inputs, "neighbor_inputs": neighbor_inputs}
    expansion = SphericalExpansion(**options).fit(frames)
    left = expansion.transform(frames).blocks
    right, names = {}, expansion.input_channels_
    for key, block in left.items():
        kinds_of_channels = {}
        for column, (species, n) in enumerate(expansion.feature_labels(key)):
            name = "density" if species > 0 else names[-2 - species].replace("(H)", "()").replace("(C)", "()")
            kinds_of_channels.setdefault((name, n), []).append(column)
        right[key] = np.stack([block[:, :, columns].sum(axis=2) for columns in kinds_of_channels.values()], axis=2)
    blocks = LambdaSOAP(**options, **SUMMED, irreps="0e+1o+1e+2o").fit_transform(frames).blocks
    for key, block in blocks.items():
        expected = gram(couplings(left, right, key))
        np.testing.assert_allclose(gram(block), expected, atol=1e-12 * np.abs(expected).max())


def test_features_grow_with_the_species_not_their_square():
    frames, inputs = frames_with_inputs(n_frames=4, n_species=4), kinds(["field", "charge"])
    n = len(set(np.concatenate([atoms.numbers for atoms in frames])))
    widths = []
    for species in range(2, n + 1):
        chosen = sorted(set(np.concatenate([atoms.numbers for atoms in frames])))[:species]
        options = {**SMALL, **SUMMED, "inputs": inputs, "neighbor_species": chosen}
        widths.append(SOAP(**options).fit(frames).transform(frames).shape[1])
    assert n > 3
    assert np.unique(np.diff(widths)).size == 1


def test_names_of_features():
    frames = structures()
    for more, some in ((SUMMED, ["H0 *1 l0", "charge(*)"]), (FIELDS, ["H0 C~1 l2", "field0 H~0 l1"])):
        soap = SOAP(**SMALL, inputs=kinds(["field", "charge"]), **more).fit(frames)
        names = soap.get_feature_names_out()
        assert len(set(names)) == soap.transform(frames).shape[1] == len(names)
        for one in some:
            assert any(one in name for name in names), one


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("more", [FIELDS, SUMMED], ids=str)
def test_models(more, periodic, tmp_path):
    """Kernels, whose features are made of densities, saved models, threads and soap."""
    frames, inputs = structures(periodic, n_frames=8), kinds(["field", "charge"])
    descriptor = LambdaSOAP(**SMALL, inputs=inputs, **more)
    model = TensorKernelRidge(1e-6, kernel=CovariantKernel(2), descriptor=descriptor).fit(frames, dipoles(frames))
    assert_equivariant(model, frames[:3], tolerance=1e-9, n_transformations=2, inputs=inputs)
    save_model(model, tmp_path / "model.eqk")
    np.testing.assert_array_equal(load_model(tmp_path / "model.eqk").predict(frames), model.predict(frames))
    threads = LambdaSOAP(**SMALL, inputs=inputs, n_jobs=2, **more).fit(frames)
    plain = LambdaSOAP(**SMALL, inputs=inputs, **more).fit(frames)
    weights = cotangents(plain.transform(frames).blocks)
    np.testing.assert_array_equal(threads.transform(frames).blocks["0e"], plain.transform(frames).blocks["0e"])
    found, expected = threads.vjp(frames, weights), plain.vjp(frames, weights)
    np.testing.assert_array_equal(found.inputs["charge"], expected.inputs["charge"])
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-12 * np.abs(expected.positions).max())
    soap = SOAP(**SMALL, inputs=inputs, **more).fit_transform(frames)
    np.testing.assert_allclose(soap, plain.transform(frames).blocks["0e"][:, 0], atol=1e-13)
