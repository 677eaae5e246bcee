"""Agreement with e3nn after the change of basis of ``change_to_e3nn``; runs where e3nn is installed.

Our Clebsch-Gordan coefficients are ``sqrt(2 l3 + 1) wigner_3j``, our edge harmonics e3nn's of "component" normalization,
and a coupling path with the weight w / sqrt(number of paths that end in its irrep) is e3nn's tensor product ("component"
normalization of irreps, "element" of paths) with the weight w.
"""

import numpy as np
import pytest

from eqkernels.learned import operations as op
from eqkernels.learned.coupling import coupling, slices
from eqkernels.learned.graph import edge_harmonics
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep, Irreps, change_to_e3nn, clebsch_gordan

torch = pytest.importorskip("torch")
o3 = pytest.importorskip("e3nn.o3")


def change(l):
    return change_to_e3nn(Irrep(l, (-1) ** l))


def test_edge_harmonics():
    vectors = np.random.default_rng(0).normal(size=(10, 3))
    ours = edge_harmonics(Tape(), Variable(vectors), 4).value
    theirs = o3.spherical_harmonics(range(5), torch.tensor(vectors), True, "component").numpy()
    for l in range(5):
        part = slice(l * l, (l + 1) ** 2)
        assert np.allclose(ours[:, part] @ change(l).T, theirs[:, part], atol=1e-12)


@pytest.mark.parametrize("l", range(4))
def test_clebsch_gordan(l):
    for l1 in range(4):
        for l2 in range(abs(l1 - l), min(l1 + l, 3) + 1):
            ours = np.einsum("abc,xa,yb,zc->xyz", clebsch_gordan(l1, l2, l), change(l1), change(l2), change(l))
            theirs = np.sqrt(2 * l + 1) * o3.wigner_3j(l1, l2, l, dtype=torch.float64).numpy()
            assert np.allclose(ours, theirs, atol=1e-12)


def test_convolution():
    """A convolution with given weights of every edge, path and channel."""
    inside, channels, l_max = tuple(irrep for _, irrep in Irreps("0e+1o+2e")), 3, 2
    table = coupling(inside, inside, inside)
    random = np.random.default_rng(1)
    vectors, x = random.normal(size=(6, 3)), random.normal(size=(5, 9, channels))
    edges = (np.array([0, 0, 1, 3, 4, 4]), np.array([1, 2, 0, 4, 3, 1]), np.arange(6))
    radial = random.normal(size=(6, table.n_paths, channels))
    harmonics = edge_harmonics(Tape(), Variable(vectors), l_max)
    ours = op.convolve(Tape(), Variable(x), harmonics, Variable(radial), edges, table).value

    irreps = o3.Irreps([(channels, (irrep.l, irrep.p)) for irrep in inside])
    paths = [(a, b, o) for a in range(3) for b in range(3) for o in range(3) if inside[o] in inside[a] * inside[b]]
    product = o3.TensorProduct(
        irreps,
        o3.Irreps.spherical_harmonics(l_max),
        irreps,
        [(*path, "uvu", True) for path in paths],
        irrep_normalization="component",
        path_normalization="element",
        internal_weights=False,
        shared_weights=False,
    ).to(torch.float64)

    def to_e3nn(features):  # components and channels change places, irrep by irrep
        parts = [
            (change(irrep.l) @ features[:, part]).transpose(0, 2, 1).reshape(len(features), -1)
            for irrep, part in zip(inside, slices(inside), strict=True)
        ]
        return torch.tensor(np.concatenate(parts, axis=1))

    theirs_harmonics = o3.spherical_harmonics(range(3), torch.tensor(vectors), True, "component")
    messages = product(to_e3nn(x)[edges[1]], theirs_harmonics, torch.tensor(radial.reshape(6, -1)))
    theirs = torch.zeros(5, irreps.dim, dtype=torch.float64).index_add_(0, torch.tensor(edges[0]), messages)
    assert np.allclose(to_e3nn(ours).numpy(), theirs.numpy(), atol=1e-12)
