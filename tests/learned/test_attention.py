"""Attention: pullbacks against differences, scores and weights against dense formulas, smoothness at the cutoff."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels import EquivariantNetwork
from eqkernels.learned import attention
from eqkernels.learned.attention import HEADS, head_of_channel, number_of_heads
from eqkernels.learned.coupling import coupling, position
from eqkernels.learned.graph import make_graph
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep, clebsch_gordan, wigner_d
from eqkernels.structures import StructureBatch
from eqkernels.testing import random_rotation
from tests.learned.test_kinds import with_large_keys

IRREPS = tuple(Irrep.parse(key) for key in ("0e", "1o", "1e", "2e"))
HARMONICS = tuple(Irrep.parse(key) for key in ("0e", "1o", "2e"))
KEYS = coupling(IRREPS, HARMONICS, IRREPS)
DIM, N, C, HEADS_HERE = 12, 4, 5, 2
EDGES = (np.array([0, 0, 1, 3, 3, 2]), np.array([1, 2, 0, 2, 3, 3]), np.array([0, 1, 0, 2, 3, 2]))
SHAPES = [(N, DIM, C), (N, DIM, C), (6, 9), (4, KEYS.n_paths, C)]

OPERATIONS = {
    "scores": (lambda t, q, x, y, r: attention.scores(t, q, x, y, r, EDGES, KEYS, HEADS_HERE), SHAPES),
    "softmax": (lambda t, s, u: attention.softmax(t, s, u, EDGES[0], N), [(6, HEADS_HERE), (6,)]),
    "weigh": (lambda t, r, a: attention.weigh(t, r, a, EDGES[2]), [(4, 3, C), (6, HEADS_HERE)]),
    "envelope": (lambda t, v: attention.envelope(t, v, 4.0), [(6, 3)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_pullback_is_the_derivative(name):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    values, directions = ([np.abs(random.normal(size=shape)) for shape in shapes] for _ in range(2))
    tape, inputs = Tape(), [Variable(value) for value in values]
    output = operation(tape, *inputs)
    output.gradient = weight = random.normal(size=output.value.shape)
    tape.backward()
    for k, direction in enumerate(directions):
        moved = []
        for step in (1e-5, -1e-5):
            arguments = [Variable(v + step * direction if i == k else v) for i, v in enumerate(values)]
            moved.append(np.sum(weight * operation(Tape(recording=False), *arguments).value))
        expected = (moved[0] - moved[1]) / 2e-5
        assert np.sum(inputs[k].gradient * direction) == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_scores_are_products_of_queries_and_keys():
    random = np.random.default_rng(1)
    queries, x, harmonics, radial = (random.normal(size=shape) for shape in SHAPES)
    expected, heads = np.zeros((6, HEADS_HERE)), head_of_channel(HEADS_HERE, C)
    counts = {o: sum(o in a * b for a in IRREPS for b in HARMONICS) for o in IRREPS}
    for e, (i, j, pair) in enumerate(zip(*EDGES, strict=True)):
        key, path = np.zeros((DIM, C)), 0
        for a in IRREPS:
            for b in HARMONICS:
                for o in IRREPS:
                    if o in a * b:
                        couples = clebsch_gordan(a.l, b.l, o.l) / np.sqrt(counts[o])
                        edge = harmonics[e, b.l**2 : (b.l + 1) ** 2]
                        coupled = np.einsum("ac,b,abo->oc", x[j, position(IRREPS, a)], edge, couples)
                        key[position(IRREPS, o)] += radial[pair, path] * coupled
                        path += 1
        np.add.at(expected[e], heads, np.sum(queries[i] * key, axis=0))
    got = attention.scores(Tape(), *map(Variable, (queries, x, harmonics, radial)), EDGES, KEYS, HEADS_HERE)
    assert np.allclose(got.value, expected, atol=1e-12)


def test_scores_are_invariant():
    random, rotation = np.random.default_rng(2), -random_rotation(2)
    queries, x, harmonics, radial = (random.normal(size=shape) for shape in SHAPES)

    def turned(array, irreps):
        out = array.copy()
        for irrep in irreps:
            part = position(irreps, irrep)
            out[:, part] = np.einsum("ab,nb...->na...", wigner_d(irrep, rotation), array[:, part])
        return out

    before = attention.scores(Tape(), *map(Variable, (queries, x, harmonics, radial)), EDGES, KEYS, HEADS_HERE)
    moved = turned(queries, IRREPS), turned(x, IRREPS), turned(harmonics, HARMONICS), radial
    after = attention.scores(Tape(), *map(Variable, moved), EDGES, KEYS, HEADS_HERE)
    assert np.allclose(after.value, before.value, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_weights_are_a_softmax_with_the_cutoff_function(size):
    random = np.random.default_rng(3)
    logits, u = size * random.normal(size=(6, 2)), random.random(6)
    got = attention.softmax(Tape(), Variable(logits), Variable(u), EDGES[0], N).value
    logits = 3 * np.tanh(logits / 3)
    for i in range(N):
        rows = EDGES[0] == i
        largest = np.maximum(logits[rows].max(axis=0, initial=0.0), 0.0)
        weights = u[rows, None] * np.exp(logits[rows] - largest)
        assert np.allclose(got[rows], weights / (np.exp(-largest) + weights.sum(axis=0)), atol=1e-14)
    assert np.isfinite(got).all()


def test_channels_are_split_into_heads():
    assert np.array_equal(head_of_channel(2, 5), [0, 0, 0, 1, 1])
    assert number_of_heads(True, 16) == HEADS
    assert number_of_heads(np.bool_(True), 2) == 2
    assert number_of_heads(False, 16) == 0
    assert number_of_heads(3, 16) == 3


def test_equal_logits_without_a_cutoff_weigh_all_neighbors_alike():
    weights = attention.softmax(Tape(), Variable(np.zeros((6, 1))), Variable(np.ones(6)), EDGES[0], N).value
    assert np.allclose(weights[:, 0], [1 / 3, 1 / 3, 1 / 2, 1 / 3, 1 / 3, 1 / 2])


@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_derivatives_are_continuous_where_an_atom_enters(architecture):
    """Also where the last neighbor of an atom leaves, whose share a plain softmax would keep at 1."""
    frames = [molecule(name) for name in ("H2O", "NH3", "HF")]
    options = {"cutoff": 3.0, "channels": 4, "n_radial": 4, "attention": 2, "architecture": architecture}
    network = with_large_keys(EquivariantNetwork(**options, irreps="0e+1o+2e", random_state=0).fit(frames))
    for others in ([], [[0.0, 1.0, 0.2]], [[0.0, 2.9, 0.2], [-1.0, 0.0, 0.0]]):
        derivatives, features = [], []
        for distance in (3.0 - 1e-6, 3.0 + 1e-6):
            atoms = Atoms("O" + "H" * (len(others) + 1), positions=[[0, 0, 0], *others, [distance, 0, 0]])
            blocks = network.transform([atoms]).blocks
            weights = {key: np.ones(block.shape) for key, block in blocks.items()}
            derivatives.append(network.vjp([atoms], weights).positions)
            features.append(np.concatenate([block.ravel() for block in blocks.values()]))
        assert np.allclose(*features, atol=1e-10 * np.abs(features).max())
        # those of a smooth function change by the step
        assert np.allclose(*derivatives, atol=1e-4 * max(1.0, np.abs(derivatives).max()))


def test_a_density_of_equal_weights_is_that_of_all_neighbors_over_their_number():
    batch = StructureBatch.from_frames([molecule("CH3OH"), molecule("H2O")])
    graph = make_graph(batch, batch.species, 50.0, 3, 2)
    shapes = attention.shapes_of_density(3, 4, 3, 5)
    weights = {name: Variable(np.zeros(shape)) for name, shape in shapes.items()}
    got = attention.attended_density(Tape(), graph, weights, 2).value.reshape(batch.n_atoms, 9, 3, 2, 3)
    envelope = graph.envelope(Tape()).value
    expected = np.zeros((batch.n_atoms, 9, 3, 3))
    for e, (i, j, pair) in enumerate(zip(*graph.edges, strict=True)):
        share = envelope[e] / (1 + envelope[graph.edges[0] == i].sum())
        expected[i, :, graph.species_of_atom[j]] += share * np.outer(graph.harmonics.value[e], graph.radial.value[pair])
    for head in range(2):
        assert np.allclose(got[:, :, :, head], expected, atol=1e-12)
