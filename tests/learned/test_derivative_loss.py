"""The gradient of the loss of values and derivatives against finite differences of the loss."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from eqkernels.learned.architectures import make_architecture
from eqkernels.learned.derivative_loss import DerivativeLoss
from eqkernels.learned.derivative_targets import DerivativeTargets
from eqkernels.learned.graph import make_graph
from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.training import Model, Packing
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch
from eqkernels.structures.elements import embedding
from tests.conftest import random_frames

KINDS = ("values", "slopes", "strains")
ARCHITECTURES = [
    {"architecture": "message_passing", "products": True},
    {"architecture": "message_passing", "products": False},
    {"architecture": "ace"},
]


def make_loss(formula="", periodic=False, mean=False, embeds=False, kinds=KINDS, missing=False, n_parts=1, **changes):
    """Make a loss of random labels, and a vector to evaluate it at."""
    random, tensor = np.random.default_rng(3), CartesianTensor(formula)
    batch = StructureBatch.from_frames(random_frames(4, n_frames=4, n_species=2, periodic=periodic))
    irreps = {str(irrep): multiplicity for multiplicity, irrep in tensor.irreps}
    n_components = sum(multiplicity * irrep.dim for multiplicity, irrep in tensor.irreps)
    values = random.normal(size=(len(batch), n_components))
    slopes = random.normal(size=(batch.n_atoms, 3, n_components))
    strains = random.normal(size=(len(batch), 3, 3))
    strains += strains.transpose(0, 2, 1)
    if missing:
        values[0], slopes[2:4], strains[1] = np.nan, np.nan, np.nan
    if formula:
        strains[:] = np.nan
    for name, labels in zip(KINDS, (values, slopes, strains), strict=True):
        if name not in kinds:
            labels[:] = np.nan
    rest = (
        np.isfinite(values).all(axis=1),
        np.array([1.0, 0.5, 2.0, 0.5]),
        {"values": 1.0, "slopes": 2.0, "strains": 0.5},
    )
    targets = DerivativeTargets(batch, tensor, irreps, values, slopes, strains, None, *rest)
    shared = {"channels": 3, "l_max": 2, "n_radial": 4, "n_layers": 2, "n_hidden": 5, "products": True, "body_order": 3}
    species, n_channels = batch.species, 2 if embeds else 0
    network = EquivariantNetwork(**{**shared, **changes})
    architecture = make_architecture(network, len(species), "+".join(irreps), n_channels)
    vectors = embedding(species, n_channels) if embeds else None
    graphs = partial(make_graph, species=species, cutoff=4.0, n_radial=4, l_max=2, embedding=vectors)
    graph = graphs(batch)
    model = Model(architecture, 0.4, {})
    weights = architecture.initial_weights(np.random.RandomState(0), graph)
    model.set_scales(weights, graph, targets.placeholders("mean" if mean else "sum"))
    for key, multiplicity in irreps.items():
        weights[f"readout:{key}"] = random.normal(size=(model.n_kinds, model.scales[key].shape[1], multiplicity))
    packing = Packing(weights)
    vector, units = packing.pack(weights), np.full(len(irreps), 1.5)
    parts = [targets.samples(picked, units) for picked in np.array_split(np.arange(len(batch)), n_parts)]
    loss = DerivativeLoss(model, packing, parts, graphs, irreps, mean, vector + 0.1, 0.01)
    return loss, vector


def assert_gradient(loss, vector):
    random = np.random.default_rng(0)
    gradient = loss(vector)[1]
    for name, part in zip(loss.packing.shapes, loss.packing.slices, strict=True):
        direction = np.zeros_like(vector)
        direction[part] = random.normal(size=part.stop - part.start)
        # Richardson's extrapolation of central differences
        steps = [(loss(vector + h * direction)[0] - loss(vector - h * direction)[0]) / (2 * h) for h in (1e-3, 5e-4)]
        expected = (4 * steps[1] - steps[0]) / 3
        size = np.linalg.norm(gradient[part]) * np.linalg.norm(direction[part])
        assert gradient @ direction == pytest.approx(expected, rel=1e-5, abs=1e-5 * size + 1e-9), name


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_of_energies(architecture, periodic):
    assert_gradient(*make_loss(periodic=periodic, **architecture))


@pytest.mark.parametrize("kinds", [("values",), ("slopes",), ("strains",)])
def test_of_each_kind(kinds):
    assert_gradient(*make_loss(kinds=kinds, periodic=True, architecture="message_passing"))


@pytest.mark.parametrize("options", [{"mean": True}, {"embeds": True}, {"missing": True}, {"n_parts": 3}], ids=str)
def test_of_options(options):
    assert_gradient(*make_loss(**options, architecture="message_passing"))


@pytest.mark.parametrize("formula", ["i", "ij=ji", "ij"])
def test_of_tensors(formula):
    assert_gradient(*make_loss(formula, missing=True, architecture="message_passing", n_layers=2))


def test_parts_add_up():
    loss, vector = make_loss(architecture="ace")
    parts, _ = make_loss(architecture="ace", n_parts=2)
    parts.weight_decay = loss.weight_decay = 0.0
    # the samples of a part are weighted as those of a whole batch
    parts.parts = [one.weighted(0.5) for one in parts.parts]
    (value, gradient), (other, other_gradient) = loss(vector), parts(vector)
    assert other == pytest.approx(value, rel=1e-12)
    assert np.abs(other_gradient - gradient).max() < 1e-6 * np.abs(gradient).max()


def test_derivatives_of_predictions():
    """Of positions and strain, against differences of the values."""
    loss, vector = make_loss(periodic=True, architecture="message_passing")
    samples, step = loss.parts[0], 1e-5
    found = loss.predictions(vector)
    random = np.random.default_rng(5)
    change, strain = random.normal(size=samples.batch.positions.shape), random.normal(size=(3, 3))
    strain += strain.T
    expected = []
    for sign in (1, -1):
        deformation = np.eye(3) + sign * step * strain
        positions = (samples.batch.positions + sign * step * change) @ deformation.T
        batch = replace(samples.batch, positions=positions, cells=samples.batch.cells @ deformation.T)
        loss.parts = [replace(samples, batch=batch)]
        expected.append(loss.predictions(vector)["values"])
    slope = np.add.reduceat(np.sum(found["slopes"] * change, axis=1), samples.batch.offsets[:-1])
    slope += np.sum(found["strains"] * strain, axis=(1, 2))
    np.testing.assert_allclose(slope, (expected[0] - expected[1]) / (2 * step), rtol=1e-6, atol=1e-7)
