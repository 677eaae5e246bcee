"""Every pullback against finite differences, and the products against dense Clebsch-Gordan coefficients."""

import numpy as np
import pytest
from ase.build import bulk

from eqkernels.learned import graph as graphs
from eqkernels.learned import operations as op
from eqkernels.learned.coupling import coupling, position, slices
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep, clebsch_gordan, wigner_d
from eqkernels.structures import StructureBatch, find_neighbors
from eqkernels.testing import random_rotation
from tests.conftest import random_frames

IRREPS = tuple(Irrep.parse(key) for key in ("0e", "0o", "1o", "1e", "2e"))
HARMONICS = tuple(Irrep.parse(key) for key in ("0e", "1o", "2e"))
MIXED = (IRREPS[4], Irrep(1, 1), Irrep(1, -1))
DIM, N, C = 13, 5, 3
SPECIES = [slice(0, 2), slice(2, 5)]
EDGES = (np.array([0, 0, 1, 3, 4, 4]), np.array([1, 2, 0, 4, 3, 1]), np.array([0, 1, 0, 3, 3, 2]))
TABLE = coupling(IRREPS, IRREPS, IRREPS)
MESSAGES = coupling(IRREPS, HARMONICS, IRREPS)
SEGMENTS = np.array([0, 0, -1, 1, 1])

OPERATIONS = {
    "mix": (lambda t, x, w: op.mix(t, x, w, IRREPS, SPECIES), [(N, DIM, C), (2, 5, C, 4)]),
    "mix_onto": (
        lambda t, b, x, w: op.mix_onto(t, op.scale(t, b, 1.0), IRREPS, x, w, MIXED, SPECIES),
        [(N, DIM, 4), (N, 11, C), (2, 3, C, 4)],
    ),
    "dense": (lambda t, x, w: op.dense(t, x, w, 0.7), [(N, C), (C, 2)]),
    "embed": (lambda t, w: op.embed(t, w, SPECIES, N), [(2, C)]),
    "add_irreps": (
        lambda t, x, y: op.add_irreps(t, op.scale(t, x, 1.0), y, IRREPS, (IRREPS[2], Irrep(3, -1))),
        [(N, DIM, C), (N, 10, C)],
    ),
    "take": (lambda t, x: op.take(t, x, slice(2, 5)), [(N, DIM, C)]),
    "join": (lambda t, x, y: op.join(t, [x, y, x]), [(N, 2, C), (N, 2, 1)]),
    "reshape": (lambda t, x: op.reshape(t, x, (C, N)), [(N, C)]),
    "segment_sum": (
        lambda t, x: op.segment_sum(t, x, SEGMENTS, np.array([0, 1, 1, 0, 1]), 2, np.arange(5.0), 3),
        [(N, 4, C)],
    ),
    "product": (lambda t, x, y, w: op.product(t, x, y, w, TABLE), [(N, DIM, C), (N, DIM, C), (TABLE.n_paths, C)]),
    "product with itself": (lambda t, x, w: op.product(t, x, x, w, TABLE), [(N, DIM, C), (TABLE.n_paths, C)]),
    "convolve": (
        lambda t, x, y, r: op.convolve(t, x, y, r, EDGES, MESSAGES),
        [(N, DIM, C), (6, 9), (4, MESSAGES.n_paths, C)],
    ),
    "density": (
        lambda t, y, r: op.density(t, y, r, EDGES[0], EDGES[2], np.array([0, 2, 2, 0, 0, 2]), N, 4),
        [(6, 9), (4, 2)],
    ),
    "silu": (op.silu, [(N, C)]),
    "gate": (lambda t, x, g: op.gate(t, x, g, IRREPS), [(N, DIM, C), (N, 5, C)]),
    "edge_harmonics": (lambda t, v: graphs.edge_harmonics(t, v, 4), [(6, 3)]),
    "radial_basis": (lambda t, v: graphs.radial_basis(t, v, 6.0, 5), [(6, 3)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_pullback_is_the_derivative(name):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    values = [random.normal(size=shape) for shape in shapes]
    directions = [random.normal(size=shape) for shape in shapes]
    tape, inputs = Tape(), [Variable(value) for value in values]
    output = operation(tape, *inputs)
    output.gradient = weight = random.normal(size=output.value.shape)
    tape.backward()
    step = 1e-5
    for k, direction in enumerate(directions):
        moved = []
        for sign in (1, -1):
            arguments = [Variable(v + sign * step * direction if i == k else v) for i, v in enumerate(values)]
            moved.append(np.sum(weight * operation(Tape(recording=False), *arguments).value))
        expected = (moved[0] - moved[1]) / (2 * step)
        assert np.sum(inputs[k].gradient * direction) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def naive_product(x, y, weights, left, right, output):
    """The formula of the module, irrep by irrep, with dense coefficients."""
    out, path = np.zeros((len(x), sum(irrep.dim for irrep in output), x.shape[2])), 0
    counts = {o: sum(o in a * b for a in left for b in right) for o in output}
    for a in left:
        for b in right:
            for o in output:
                if o in a * b:
                    part = np.einsum(
                        "nac,nbc,abo,c->noc",
                        x[:, position(left, a)],
                        y[:, position(right, b)],
                        clebsch_gordan(a.l, b.l, o.l) / np.sqrt(counts[o]),
                        weights[path],
                    )
                    out[:, position(output, o)] += part
                    path += 1
    return out


def test_product_is_the_clebsch_gordan_product():
    random = np.random.default_rng(1)
    x, y, w = (random.normal(size=shape) for shape in ((N, DIM, C), (N, DIM, C), (TABLE.n_paths, C)))
    got = op.product(Tape(), Variable(x), Variable(y), Variable(w), TABLE).value
    assert np.allclose(got, naive_product(x, y, w, IRREPS, IRREPS, IRREPS), atol=1e-12)


def test_convolution_sums_products_with_harmonics():
    random = np.random.default_rng(2)
    x, y, r = (random.normal(size=shape) for shape in ((N, DIM, C), (6, 9), (4, MESSAGES.n_paths, C)))
    expected = np.zeros((N, DIM, C))
    for e, (i, j, pair) in enumerate(zip(*EDGES, strict=True)):
        edge = np.repeat(y[e : e + 1, :, None], C, axis=2)
        expected[i] += naive_product(x[j : j + 1], edge, r[pair], IRREPS, HARMONICS, IRREPS)[0]
    got = op.convolve(Tape(), Variable(x), Variable(y), Variable(r), EDGES, MESSAGES).value
    assert np.allclose(got, expected, atol=1e-12)


def test_mixing_onto_adds_to_the_irreps_that_both_have():
    random = np.random.default_rng(4)
    base, x, w = (random.normal(size=shape) for shape in ((N, DIM, 4), (N, 11, C), (2, 3, C, 4)))
    expected = base.copy()
    for k, rows in enumerate(SPECIES):
        for i, irrep in enumerate(MIXED):
            expected[rows, position(IRREPS, irrep)] += x[rows, position(MIXED, irrep)] @ w[k, i]
    got = op.mix_onto(Tape(), Variable(base), IRREPS, Variable(x), Variable(w), MIXED, SPECIES).value
    assert np.allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["mix", "product", "gate"])
def test_operations_commute_with_rotations(name):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(3)
    rotation = -random_rotation(3)
    matrix = np.zeros((DIM, DIM))
    for irrep, part in zip(IRREPS, slices(IRREPS), strict=True):
        matrix[part, part] = wigner_d(irrep, rotation)
    values = [random.normal(size=shape) for shape in shapes]
    turned = [np.einsum("ab,nbc->nac", matrix, v) if v.shape[:2] == (N, DIM) else v for v in values]
    before, after = (operation(Tape(), *map(Variable, arrays)).value for arrays in (values, turned))
    assert np.allclose(after, np.einsum("ab,nbc->nac", matrix, before), atol=1e-12)


def test_density_is_the_sum_over_neighbors():
    batch = StructureBatch.from_frames([*random_frames(1, n_species=3), bulk("Si")])
    species = batch.species
    graph = graphs.make_graph(batch, species, 3.5, 4, 2)
    numbers = batch.numbers[graph.order]
    got = graph.density(Tape()).value
    expected = np.zeros((batch.n_atoms, 9, len(species), 4))
    for e, (i, j, pair) in enumerate(zip(*graph.edges, strict=True)):
        column = np.flatnonzero(species == numbers[j])[0]
        expected[i, :, column] += np.outer(graph.harmonics.value[e], graph.radial.value[pair])
    assert np.allclose(got, expected.reshape(got.shape), atol=1e-12)


def test_both_directions_of_an_edge_are_one_pair():
    batch = StructureBatch.from_frames([*random_frames(2, n_species=3, periodic=True), bulk("Si")])
    found = find_neighbors(batch, 5.0)
    representatives, pairs = graphs.undirected_pairs(found.offsets, found.neighbors, found.vectors)
    assert np.allclose(found.distances[representatives][pairs], found.distances, atol=1e-12)
    assert np.array_equal(pairs[representatives], np.arange(len(representatives)))
    assert 2 * len(representatives) == len(pairs)
    # the two edges of a pair join the same atoms
    ends = np.sort(np.stack([found.centers, found.neighbors]), axis=0)
    assert np.array_equal(ends[:, representatives][:, pairs], ends)
    sign = np.where(representatives[pairs] == np.arange(len(pairs)), 1.0, -1.0)
    assert np.allclose(sign[:, None] * found.vectors[representatives][pairs], found.vectors, atol=1e-12)


def test_an_edge_without_its_reverse_is_left_alone():
    offsets, neighbors, vectors = np.array([0, 2, 3, 4]), np.array([1, 2, 0, 1]), np.zeros((4, 3))
    vectors[:, 0] = 1.0, 2.0, -1.0, 3.0
    representatives, pairs = graphs.undirected_pairs(offsets, neighbors, vectors)
    assert np.array_equal(pairs, [0, 1, 0, 2])
    assert np.array_equal(representatives, [0, 1, 3])


def test_radial_functions_are_bessel_functions_with_a_cutoff():
    r = np.linspace(0.5, 6.0, 30)
    n, x = np.arange(1, 21), r[:, None] / 6.0
    u = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    expected = 1.5 * np.sqrt(2 / 6.0) * np.sin(n * np.pi * x) / r[:, None] * u
    got = graphs.radial_basis(Tape(), Variable(r[:, None] * [[0.6, 0.0, 0.8]]), 6.0, 20).value
    assert np.allclose(got, expected, atol=1e-13)


def test_radial_functions_end_smoothly():
    vectors = np.array([[5.999999, 0.0, 0.0]])
    assert np.abs(graphs.radial_basis(Tape(), Variable(vectors), 6.0, 8).value).max() < 1e-14
