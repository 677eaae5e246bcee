"""Random structures on which every property is tried: molecules and crystals, with 1 to 4 species."""

import os

import numpy as np
import pytest
from ase import Atoms

# the same results whatever the machine, and no fight for cores under pytest-xdist
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SPECIES = (1, 6, 7, 8)


def pytest_addoption(parser):
    text = "minutes for the fuzz tests, shared among them, with new random seeds; 0: few cases, always the same"
    parser.addoption("--fuzz-minutes", type=float, default=0.0, help=text)


def pytest_terminal_summary(terminalreporter, config):
    """What the fuzz tests tried, and the largest violation of each property, from all workers."""
    if not config.getoption("--fuzz-minutes"):
        return
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    lines = [value for one in reports if one.when == "call" for name, value in one.user_properties if name == "fuzz"]
    terminalreporter.section("fuzz")
    for line in sorted(lines):
        terminalreporter.write_line(line)


def random_frames(seed, n_frames=4, n_species=2, periodic=False, n_atoms=(2, 6)):
    """Structures without close contacts; the first ones contain all species."""
    random = np.random.default_rng(seed)
    frames = []
    for k in range(n_frames):
        n = max(n_species, int(random.integers(*n_atoms)) + 1) if k == 0 else int(random.integers(*n_atoms)) + 1
        numbers = random.choice(SPECIES[:n_species], size=n)
        if k == 0:
            numbers[:n_species] = SPECIES[:n_species]
        positions = np.zeros((0, 3))
        while len(positions) < n:
            new = random.uniform(-2.2, 2.2, size=3)
            if len(positions) == 0 or np.linalg.norm(positions - new, axis=1).min() > 0.7:
                positions = np.vstack([positions, new])
        # skewed cells, some of them smaller than the cutoffs in use
        cell = np.diag(random.uniform(3.5, 5.0, size=3)) + random.normal(scale=0.5, size=(3, 3)) if periodic else None
        pbc = [(True, True, True), (True, True, False), (False, True, False)][k % 3] if periodic else False
        frames.append(Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc))
    return frames


@pytest.fixture(params=[(1, False), (2, False), (4, False), (1, True), (3, True)], ids=lambda p: f"{p[0]}sp-{p[1]}")
def frames(request):
    n_species, periodic = request.param
    return random_frames(seed=n_species, n_species=n_species, periodic=periodic)


@pytest.fixture
def molecules():
    return random_frames(seed=7, n_frames=12, n_species=3)


@pytest.fixture
def waters():
    """Distorted water molecules in random orientation with a vector, a matrix and a scalar that turn with them."""
    return water_set(40, seed=0)


def water_set(n, seed):
    random = np.random.default_rng(seed)
    frames, vectors = [], []
    for _ in range(n):
        r1, r2 = random.uniform(0.9, 1.1, size=2)
        angle = random.uniform(1.6, 2.1)
        local = np.array([[0, 0, 0], [r1, 0, 0], [r2 * np.cos(angle), r2 * np.sin(angle), 0]])
        q, _ = np.linalg.qr(random.normal(size=(3, 3)))
        positions = local @ (q * np.sign(np.linalg.det(q))).T
        frames.append(Atoms("OH2", positions=positions))
        a, b = positions[1] - positions[0], positions[2] - positions[0]
        vectors.append((a, b))
    a, b = np.array(vectors).transpose(1, 0, 2)
    r1, r2 = np.linalg.norm(a, axis=1)[:, None], np.linalg.norm(b, axis=1)[:, None]
    vector = a * r1**0.5 + b * r2**0.5
    matrix = np.einsum("na,nb->nab", a, a) + np.einsum("na,nb->nab", b, b) + 2 * np.eye(3)
    scalar = (r1 + r2)[:, 0] ** 2
    return frames, vector, matrix, scalar


@pytest.fixture(scope="session")
def cluster():
    """Client of a Dask cluster of two worker processes, which restart when they are killed."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client
