"""Derivatives of the invariants some centers at a time are those of all at once."""

import numpy as np
import pytest

from eqkernels import EquivariantUnion, LambdaSOAP, NBodyFeatures
from eqkernels.descriptors.streamed_gradients import (
    check_differentiable,
    features_vjp,
    iter_gradients,
    scalars_only,
)
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 1}


@pytest.mark.parametrize("memory", [1.0, 1e5, 1e9])
def test_steps_make_up_the_whole(memory):
    frames = random_frames(2, n_frames=3, n_species=2)
    descriptor = LambdaSOAP(**SMALL, irreps="0e+1o").fit(frames)
    gradients = descriptor.gradients(frames)
    offsets = np.cumsum([0, *map(len, frames)])
    expected = np.zeros((offsets[-1], offsets[-1], 3, gradients.n_features["0e"]))
    np.add.at(
        expected, (gradients.centers, offsets[gradients.structures] + gradients.atoms), gradients.blocks["0e"][:, :, 0]
    )
    found = np.zeros_like(expected)
    for part in iter_gradients(descriptor, frames, memory):
        rows = part.centers[:, None], part.targets[:, None], slice(None), part.columns
        np.add.at(found, rows, np.swapaxes(part.values[:, :, 0], 1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_unions_sum_up_their_descriptors():
    frames = random_frames(2, n_frames=2, n_species=2)
    parts = [("a", LambdaSOAP(**SMALL, irreps="0e")), ("b", LambdaSOAP(**{**SMALL, "cutoff": 4.0}, irreps="0e"))]
    union = EquivariantUnion(parts).fit(frames)
    block = union.transform(frames).blocks["0e"]
    cotangent = np.random.default_rng(0).normal(size=block.shape)
    width, expected = 0, 0.0
    for _, member in union.transformers_:
        n = member.transform(frames).blocks["0e"].shape[2]
        expected = expected + member.vjp(frames, {"0e": cotangent[:, :, width : width + n]}).positions
        width += n
    np.testing.assert_allclose(features_vjp(union, frames, {"0e": cotangent}).positions, expected, atol=1e-13)
    assert list(scalars_only(union).transform(frames).blocks) == ["0e"]


def test_descriptors_without_derivatives_are_refused():
    check_differentiable(LambdaSOAP(), forward=True)
    check_differentiable(NBodyFeatures(), forward=False)
    with pytest.raises(TypeError, match="be fitted to forces, stress or other"):
        check_differentiable(NBodyFeatures(), forward=True)
