import numpy as np
import pytest
from ase.build import molecule

from eqkernels import LambdaSOAP, SphericalExpansion
from eqkernels.testing import assert_equivariant, random_rotation, transformed
from tests.conftest import random_frames
from tests.naive import lambda_soap

ALL = "0e+" + "+".join(f"{l}{p}" for l in range(1, 7) for p in "eo")


@pytest.mark.parametrize("n_max", [1, 2, 4, 7, 8, 12])
def test_blocks_are_the_printed_formula(frames, n_max):
    """Channels that fill whole vectors and parts of them, of species that occur and that do not."""
    options = {"cutoff": 3.5, "n_max": n_max, "l_max": 4 if n_max < 5 else 2}
    irreps = ALL if n_max == 2 else "0e+1o+2o+2e+3o" + ("+1e+3e" if n_max > 1 else "")
    features = LambdaSOAP(**options, irreps=irreps).fit_transform(frames)
    expansion = SphericalExpansion(**options).fit_transform(frames)
    density = np.concatenate(list(expansion.blocks.values()), axis=1)
    for row in (0, len(density) - 1):
        for key, block in features.blocks.items():
            expected = lambda_soap(density[row], options["l_max"], int(key[0]), 1 if key[1] == "e" else -1)
            np.testing.assert_allclose(block[row], expected, atol=1e-13 * np.abs(density[row]).max() ** 2)


def test_equivariant(frames):
    assert_equivariant(
        LambdaSOAP(3.5, n_max=2, l_max=4, irreps=ALL + ("+0o" if len(frames[0]) > 2 else "")).fit(frames), frames
    )


def test_scalar_products_are_those_of_all_ordered_pairs(molecules):
    """Keeping each unordered pair once with its weight must not change any scalar product."""
    from eqkernels.so3 import clebsch_gordan

    features = LambdaSOAP(4.0, n_max=2, l_max=2, irreps="1o+1e+2e").fit_transform(molecules[:3])
    expansion = SphericalExpansion(4.0, n_max=2, l_max=2).fit_transform(molecules[:3])
    c = list(expansion.blocks.values())
    for key, block in features.blocks.items():
        lam, parity = int(key[0]), 1 if key[1] == "e" else -1
        full = [
            np.einsum("abm,iaq,ibp->imqp", clebsch_gordan(l1, l2, lam), c[l1], c[l2]).reshape(
                len(block), 2 * lam + 1, -1
            )
            for l1 in range(3)
            for l2 in range(3)
            if abs(l1 - l2) <= lam <= l1 + l2 and (-1) ** (l1 + l2) == parity
        ]
        # the other order differs by a sign where l1 + l2 + lam is odd: the same for both environments
        full = np.concatenate(full, axis=2)
        np.testing.assert_allclose(
            np.einsum("imf,jnf->imjn", block, block), np.einsum("imf,jnf->imjn", full, full), atol=1e-12
        )


def test_centrosymmetric_center_has_no_odd_features():
    features = LambdaSOAP(4.0, n_max=4, l_max=4, irreps="1o+2o+3o+2e").fit_transform([molecule("CO2")])
    for key in ("1o", "2o", "3o"):
        assert np.abs(features.blocks[key][0]).max() < 1e-12
    assert np.abs(features.blocks["2e"][0]).max() > 1e-3


def test_mirror_images_differ_in_pseudoscalars_and_only_in_them():
    chiral = random_frames(seed=4, n_frames=1, n_species=4, n_atoms=(5, 6))[0]
    mirrored = transformed(chiral, np.diag([1.0, 1.0, -1.0]) @ random_rotation(1))
    features = LambdaSOAP(5.0, n_max=3, l_max=3, irreps="0e+0o").fit_transform([chiral, mirrored])
    n = len(chiral)
    scalar, pseudoscalar = features.blocks["0e"], features.blocks["0o"]
    np.testing.assert_allclose(scalar[n:], scalar[:n], atol=1e-12 * np.abs(scalar).max())
    np.testing.assert_allclose(pseudoscalar[n:], -pseudoscalar[:n], atol=1e-12 * np.abs(scalar).max())
    assert np.abs(pseudoscalar).max() > 1e-4 * np.abs(scalar).max()
    # the norms of all other blocks are the same for both
    others = LambdaSOAP(5.0, n_max=3, l_max=3, irreps="1o+1e+2e+2o+3e+3o+4e+4o+5o+5e").fit_transform([chiral, mirrored])
    for block in others.blocks.values():
        grams = block @ block.transpose(0, 2, 1)
        traces = np.trace(grams, axis1=1, axis2=2)
        np.testing.assert_allclose(traces[:n], traces[n:], rtol=1e-10, atol=1e-14)


def test_achiral_molecule_has_no_pseudoscalar():
    features = LambdaSOAP(5.0, n_max=3, l_max=3, irreps="0o").fit_transform([molecule("CH3OH"), molecule("H2O")])
    block = features.blocks["0o"]
    # atoms off the mirror plane see a handed environment, but each has its mirror image in the same molecule
    assert np.abs(block[features.structures == 0].sum(axis=0)).max() < 1e-12 < 1e-6 < np.abs(block).max()
    assert np.abs(block[features.structures == 1]).max() < 1e-12


def test_pseudoscalars_are_the_printed_formula(molecules):
    from eqkernels.descriptors.products.channels import degree_triples, triple_channels
    from eqkernels.so3 import clebsch_gordan

    descriptor = LambdaSOAP(4.0, n_max=2, l_max=3, irreps="0o").fit(molecules)
    features = descriptor.transform(molecules).blocks["0o"]
    expansion = SphericalExpansion(4.0, n_max=2, l_max=3).fit_transform(molecules)
    c = [block[5] for block in expansion.blocks.values()]
    expected = []
    for l1, l2, l3 in degree_triples(3):
        full = np.einsum("abc,aq,bp,cr->qpr", clebsch_gordan(l1, l2, l3), c[l1], c[l2], c[l3])
        expected.append(np.sqrt(6 / (2 * l3 + 1)) * full[triple_channels(6, l1, l2, l3)])
    expected = np.concatenate(expected)
    np.testing.assert_allclose(features[5, 0], expected, atol=1e-13 * np.abs(c[0]).max() ** 3)
    assert len(descriptor.feature_labels("0o")) == len(expected)


@pytest.mark.filterwarnings("ignore:y is a list in which")
def test_labels_decide_the_irreps(waters):
    frames, vector, matrix, scalar = waters
    cases = [
        (vector, "0e+1o"),
        (matrix, "0e+2e"),
        (matrix + np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]]), "0e+1e+1o+2e"),  # or a vector of each of three atoms
        (scalar, "0e"),
        (np.einsum("na,nb,nc->nabc", vector, vector, vector), "0e+1o+3o"),
        (None, "0e+1o+2e"),
        ([np.ones((3, 3, 3)) * np.arange(9).reshape(3, 3) for _ in frames], "0e+0o+1e+1o+2e+2o+3o"),
    ]
    for y, irreps in cases:
        assert LambdaSOAP(4.0, n_max=2, l_max=2).fit(frames, y).irreps_ == irreps


def test_impossible_irreps_are_refused(molecules):
    with pytest.raises(ValueError, match="irrep 4e has no features at l_max=1"):
        LambdaSOAP(4.0, n_max=2, l_max=1, irreps="4e").fit(molecules)
    with pytest.raises(ValueError, match="must not exceed 6"):
        LambdaSOAP(4.0, n_max=2, l_max=8, irreps="7o").fit(molecules)
    with pytest.raises(ValueError, match="'vector' is not an irrep"):
        LambdaSOAP(4.0, n_max=2, l_max=1, irreps="vector").fit(molecules)


def test_labels_of_features_fit_the_blocks(molecules):
    descriptor = LambdaSOAP(4.0, n_max=3, l_max=3, irreps="0e+1e+2o").fit(molecules)
    features = descriptor.transform(molecules)
    for key, block in features.blocks.items():
        labels = descriptor.feature_labels(key)
        assert len(labels) == block.shape[2]
        assert len(np.unique(labels)) == len(labels)
        assert set(labels["species_1"]) <= {1, 6, 7}


def test_too_large_an_output_is_refused(molecules, monkeypatch):
    monkeypatch.setattr("eqkernels._memory.memory_limit", lambda: 1e6)
    features = LambdaSOAP(4.0, n_max=8, l_max=6).fit_transform(molecules)  # densities fit
    with pytest.raises(MemoryError, match="GiB: take the structures in parts"):
        features.blocks["1o"]
