import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.morse import MorsePotential
from sklearn.utils import check_random_state

from eqkernels import LambdaSOAP, SparseTensorGPR
from eqkernels.regression.sparse.displaced import DisplacedSource
from eqkernels.regression.sparse.source import Source
from eqkernels.structures.inputs import input_kinds, with_inputs

SOAP = LambdaSOAP(cutoff=3.5, n_max=4, l_max=3, sigma=0.4)


def clusters(n, seed=0):
    """Rattled molecules with the energies and forces of a pair potential."""
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = molecule("C2H6")
        atoms.positions += 0.1 * random.normal(size=atoms.positions.shape)
        atoms.calc = MorsePotential(r0=1.5, epsilon=1.0, rho0=3.0)
        frames.append(atoms)
    return frames, [a.get_potential_energy() for a in frames], [a.get_forces() for a in frames]


def as_read(frames, origin, quiet):
    return frames


def test_more_points_than_environments_describe_forces_better():
    frames, energies, forces = clusters(40)

    def fit(displacement):
        one = SparseTensorGPR(1000, displacement=displacement, descriptor=SOAP, random_state=0)
        return one.fit(frames[:10], energies[:10], forces=forces[:10])

    def error(one):
        return np.sqrt(np.mean((np.array(one.predict_forces(frames[10:])) - forces[10:]) ** 2))

    plain, displaced = fit(None), fit(0.05)
    assert len(plain.points_["species"]) == 80
    assert len(displaced.points_["species"]) == 240
    assert error(displaced) < 0.8 * error(plain)
    assert displaced.log_marginal_likelihood_value_ > plain.log_marginal_likelihood_value_
    np.testing.assert_array_equal(fit(0.05).predict(frames), displaced.predict(frames))


def test_copies_are_displaced_by_the_standard_deviation_and_frames_stay():
    frames, _, _ = clusters(50)
    before = np.array([a.positions for a in frames])
    for batches in (True, False):
        source = Source(frames) if batches else Source(frames, as_read)
        source = DisplacedSource(source, SOAP, 0.2, check_random_state(0))
        part = source[np.arange(50)]
        positions = part.positions if batches else np.concatenate([a.positions for a in part])
        moves = positions - np.concatenate(before)
        assert abs(moves.std() - 0.2) < 0.02
    np.testing.assert_array_equal([a.positions for a in frames], before)


def test_inputs_of_copies_have_all_directions():
    frames, _, _ = clusters(60)
    for atoms in frames:
        atoms.info["electric_field"] = np.array([1.0, 0.0, 0.0])
        atoms.info["strain"] = 0.1 * np.eye(3)
        atoms.arrays["charge"] = np.full(len(atoms), 0.5)
    descriptor = LambdaSOAP(inputs={"electric_field": "1o", "strain": "0e+2e", "charge": "0e"})
    copies = DisplacedSource(Source(frames, as_read), descriptor, 0.2, check_random_state(0))[np.arange(60)]
    moves = np.array([a.info["electric_field"] for a in copies]) - [1.0, 0.0, 0.0]
    np.testing.assert_allclose(moves.std(axis=0), np.sqrt(1 / 3), rtol=0.25)
    strains = np.array([a.info["strain"] for a in copies])
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    assert abs(np.std([a.arrays["charge"] for a in copies]) - 0.5) < 0.1
    assert (frames[0].info["electric_field"] == [1.0, 0.0, 0.0]).all()
    # batches change by the same
    kinds = input_kinds(descriptor.inputs)
    read = Source(frames, lambda some, origin, quiet: with_inputs(some, kinds, origin, quiet))
    batch = DisplacedSource(read, descriptor, 0.2, check_random_state(0))[np.arange(60)]
    expected = with_inputs(copies, kinds)
    np.testing.assert_allclose(batch.positions, expected.positions)
    for name in kinds:
        np.testing.assert_allclose(batch.inputs[name].values, expected.inputs[name].values, atol=1e-12)


def test_features_cannot_be_displaced():
    frames, energies, _ = clusters(4)
    with pytest.raises(TypeError, match="displacement needs X to be frames"):
        SparseTensorGPR(10, displacement=0.1).fit(SOAP.fit(frames).transform(frames), energies)
    with pytest.raises(ValueError, match="displacement"):
        SparseTensorGPR(10, displacement=-0.1, descriptor=SOAP).fit(frames, energies)
