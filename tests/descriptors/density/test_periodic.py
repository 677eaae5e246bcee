"""Density descriptors with elements embedded by the periodic table."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from eqkernels import SOAP, Bispectrum, LambdaSOAP, NBodyFeatures, SphericalExpansion
from eqkernels.structures.elements import embedding

OPTIONS = {"cutoff": 4.0, "n_max": 3, "l_max": 2}
FRAMES = [molecule(name) for name in ("H2O", "CH3OH", "NH3", "CH3SH")] + [bulk("NaCl", "rocksalt", 5.64)]
UNSEEN = [molecule("SiH4"), bulk("KBr", "rocksalt", 6.6), molecule("CH3Cl")]
DESCRIPTORS = {
    "expansion": lambda **more: SphericalExpansion(**OPTIONS, **more),
    "lambda": lambda **more: LambdaSOAP(**OPTIONS, irreps="0e+1o+2e", **more),
    "optimal": lambda **more: LambdaSOAP(**OPTIONS, irreps="0e+1o", n_optimal=2, **more),
    "mu1nu1": lambda **more: LambdaSOAP(
        **OPTIONS, irreps="0e+1o", compression="mu1nu1", species_embedding="periodic", **more
    ),
    "soap": lambda **more: SOAP(**OPTIONS, **more),
    "bispectrum": lambda **more: Bispectrum(
        4.0, n_max=2, l_max=1, n_species_channels=2, species_embedding="periodic", **more
    ),
    "n-body": lambda **more: NBodyFeatures(4.0, n_max=2, l_max=1, irreps="0e+1o", **more),
}


def _arrays(features):
    return getattr(features, "blocks", {"0e": features})


def test_channels_are_the_densities_times_the_vectors():
    plain = SphericalExpansion(**OPTIONS, species_embedding=None).fit(FRAMES)
    embedded = SphericalExpansion(**OPTIONS, species_embedding="periodic", n_species_channels=3).fit(FRAMES)
    vectors = embedding(plain.neighbor_species_, 3)
    for key, block in plain.transform(FRAMES).blocks.items():
        n, d, _ = block.shape
        expected = np.einsum("idan,ak->idkn", block.reshape(n, d, len(vectors), -1), vectors).reshape(n, d, -1)
        assert np.allclose(embedded.transform(FRAMES).blocks[key], expected, atol=1e-13)


def test_an_unseen_element_is_a_density_with_its_vector():
    embedded = SphericalExpansion(**OPTIONS, handle_unknown="embed").fit(FRAMES)
    seen = embedded.neighbor_species_
    numbers = np.unique(np.concatenate([seen, [14, 35]]))
    everything = SphericalExpansion(**OPTIONS, species_embedding=None).fit([*FRAMES, *UNSEEN[:2]])
    vectors = embedding(seen, 8, everything.neighbor_species_)
    assert np.isin(numbers, everything.neighbor_species_).all()
    made = embedded.transform(UNSEEN[:2]).blocks
    for key, block in everything.transform(UNSEEN[:2]).blocks.items():
        n, d, _ = block.shape
        expected = np.einsum("idan,ak->idkn", block.reshape(n, d, len(vectors), -1), vectors).reshape(n, d, -1)
        assert np.allclose(made[key], expected, atol=1e-13)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_unseen_elements_in_any_batch_and_orientation(name):
    descriptor = DESCRIPTORS[name](handle_unknown="embed").fit(FRAMES)
    together = _arrays(descriptor.transform([*FRAMES, *UNSEEN]))
    n = sum(map(len, FRAMES))
    turn = Rotation.random(random_state=0).as_matrix()
    alone = _arrays(descriptor.transform(UNSEEN))
    turned = [atoms.copy() for atoms in UNSEEN]
    for atoms in turned:
        atoms.set_cell(atoms.cell @ turn.T, scale_atoms=False)
        atoms.positions = atoms.positions @ turn.T
    invariants = _arrays(descriptor.transform(turned))["0e"]
    for key, block in together.items():
        assert np.allclose(block[n:], alone[key], atol=1e-12 * np.abs(block).max())
    assert np.allclose(invariants, alone["0e"], atol=1e-10 * np.abs(invariants).max())
    known = _arrays(descriptor.transform(FRAMES))
    ignoring = _arrays(DESCRIPTORS[name](handle_unknown="embed").fit(FRAMES).transform(FRAMES))
    assert all(np.array_equal(known[key], ignoring[key]) for key in known)


@pytest.mark.parametrize("name", ["lambda", "optimal", "mu1nu1", "soap"])
def test_derivatives_around_unseen_elements(name):
    descriptor = DESCRIPTORS[name](handle_unknown="embed").fit(FRAMES)
    atoms = UNSEEN[2].copy()
    atoms.rattle(0.05, seed=0)
    random = np.random.default_rng(0)
    blocks = _arrays(descriptor.transform([atoms]))
    cotangents = {key: random.normal(size=block.shape) for key, block in blocks.items()}
    slopes = descriptor.vjp([atoms], cotangents if name != "soap" else cotangents["0e"]).positions
    direction, values = random.normal(size=atoms.positions.shape), []
    for step in (-2e-4, -1e-4, 1e-4, 2e-4):
        moved = atoms.copy()
        moved.positions += step * direction
        made = _arrays(descriptor.transform([moved]))
        values.append(sum(np.sum(made[key] * cotangents[key]) for key in made))
    expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-4
    assert np.sum(slopes * direction) == pytest.approx(expected, rel=1e-6)


def test_few_elements_are_channels_of_their_own():
    default = LambdaSOAP(**OPTIONS, irreps="0e+1o").fit(FRAMES)
    plain = LambdaSOAP(**OPTIONS, irreps="0e+1o", species_embedding=None).fit(FRAMES)
    assert default.contraction_ is None
    for key, block in plain.transform(FRAMES).blocks.items():
        assert np.array_equal(block, default.transform(FRAMES).blocks[key])


@pytest.mark.parametrize(("n", "channels"), [(19, 0), (20, 8)])
def test_twenty_elements_are_many(n, channels):
    frames = [Atoms([k + 1, k + 2], [[0, 0, 0], [0, 0, 1.5]]) for k in range(n - 1)]
    assert SOAP(2.0, n_max=1, l_max=0).fit(frames).periodic_channels_ == channels
    heavy = [Atoms([k + 90, 8], [[0, 0, 0], [0, 0, 1.5]]) for k in range(n - 1)]
    assert SOAP(2.0, n_max=1, l_max=0).fit(heavy).periodic_channels_ == 0  # no data of some


def test_names_of_embedded_channels():
    descriptor = SOAP(3.0, n_max=1, l_max=0, species_embedding="periodic", n_species_channels=2).fit(FRAMES)
    assert list(descriptor.get_feature_names_out()) == ["(0)0 (0)0 l0", "(0)0 (1)0 l0", "(1)0 (1)0 l0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"handle_unknown": "embed", "species_embedding": None}, "answers by the vectors of an embedding"),
        ({"handle_unknown": "embed", "n_species_channels": 2}, "answers by the vectors of an embedding"),
        ({"species_embedding": "table"}, "must be a dict from chemical symbols to vectors, 'periodic'"),
        ({"species_embedding": "periodic", "compression": "mu2"}, "leaves no species"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LambdaSOAP(**OPTIONS, **options).fit(FRAMES)


def test_unseen_elements_are_an_error_unless_asked_for():
    descriptor = LambdaSOAP(**OPTIONS, irreps="0e").fit(FRAMES)
    with pytest.raises(ValueError, match="species Si, K, Br .* was not seen at fit"):
        descriptor.transform(UNSEEN)
    with pytest.raises(ValueError, match="was set after fit, which made no embedding: fit again"):
        descriptor.set_params(handle_unknown="embed").transform(UNSEEN)


def test_a_dict_may_have_vectors_of_unseen_elements():
    vectors = {"H": [1.0, 0.0], "C": [0.0, 1.0], "Si": [0.0, 1.0]}
    descriptor = LambdaSOAP(**OPTIONS, irreps="0e", species_embedding=vectors, handle_unknown="embed")
    descriptor.fit([molecule("CH4")])
    silane = molecule("SiH4")
    as_methane = Atoms("CH4", silane.positions)
    assert np.allclose(
        descriptor.transform([silane]).block("0e"), descriptor.transform([as_methane]).block("0e"), atol=1e-14
    )
