"""Features of other programs, here of those in ``tests/fake_networks.py``."""

import copy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from eqkernels import (
    ChargeKernel,
    CovariantKernel,
    EquivariantFeatures,
    EquivariantUnion,
    FunctionFeatures,
    LambdaSOAP,
    MACEFeatures,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    WignerKernel,
    save_model,
)
from eqkernels.so3 import wigner_d
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames
from tests.fake_networks import FakeMACE, hidden, rows


class NotCopied(FakeMACE):
    """The same, which is not to be copied with a model."""

    def __deepcopy__(self, memo):
        raise AssertionError("a network is not copied")


def rows_by_component(frames):
    parts = [[one.transpose(0, 2, 1).reshape(len(atoms), -1) for one in hidden(atoms, 3)] for atoms in frames]
    return [np.concatenate(one, axis=1) for one in parts]


IRREPS = "3x0e+3x1o+3x2e"


@pytest.mark.parametrize(
    "descriptor", [FunctionFeatures(rows, IRREPS), MACEFeatures(FakeMACE())], ids=["function", "mace"]
)
def test_features_turn_as_ours(descriptor, frames):
    features = descriptor.fit_transform(frames)
    soap = LambdaSOAP(3.0, n_max=2, l_max=2, irreps="0e+1o").fit_transform(frames)
    for name in ("species", "structures", "atoms", "n_atoms", "positions"):
        np.testing.assert_array_equal(getattr(features, name), getattr(soap, name))
    assert descriptor.irreps_ == "0e+1o+2e"
    frames = [atoms for atoms in frames if not atoms.pbc.any()]
    if frames:
        features, rotation = descriptor.transform(frames), -random_rotation(3)
        turned = descriptor.transform([transformed(atoms, rotation) for atoms in frames])
        for key, block in features.blocks.items():
            expected = np.einsum("ab,nbf->naf", wigner_d(key, rotation), block)
            np.testing.assert_allclose(turned.blocks[key], expected, atol=1e-5 * np.abs(block).max())


def test_components_channels_and_labels(molecules):
    features = FunctionFeatures(rows, IRREPS).fit_transform(molecules)
    for k, atoms in enumerate(molecules):
        parts = hidden(atoms, 3)
        vectors = features[k].blocks["1o"]  # y, z, x
        np.testing.assert_allclose(vectors, parts[1].transpose(0, 2, 1)[:, [1, 2, 0]], atol=1e-12)
        np.testing.assert_allclose(features[k].blocks["0e"][:, 0], parts[0][:, :, 0])
    by_component = FunctionFeatures(rows_by_component, IRREPS, layout="ir_mul").fit_transform(molecules)
    ours = FunctionFeatures(lambda frames: [
        np.concatenate([features[k].blocks[key].transpose(0, 2, 1).reshape(len(a), -1) for key in features.blocks], axis=1)
        for k, a in enumerate(frames)], IRREPS, convention="eqkernels", check=False).fit(molecules).transform(molecules)  # fmt: skip
    for key, block in features.blocks.items():
        np.testing.assert_allclose(by_component.blocks[key], block, atol=1e-12)
        np.testing.assert_allclose(ours.blocks[key], block, atol=1e-12)
    terms = FunctionFeatures(lambda frames: [np.ones((len(atoms), 5)) for atoms in frames], "2x0e+0e+2x0e").fit(
        molecules
    )
    assert terms.feature_labels("0e").tolist() == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert terms.transform(molecules).labels["0e"].dtype.names == ("term", "channel")
    with pytest.raises(ValueError, match="irrep='3o' must be one of the blocks 0e"):
        terms.feature_labels("3o")


def test_layers_of_mace(molecules):
    calculator = FakeMACE(channels=2)
    whole = MACEFeatures(calculator).fit_transform(molecules)
    assert {key: block.shape[2] for key, block in whole.blocks.items()} == {"0e": 4, "1o": 2, "2e": 2}
    assert whole.labels["0e"].tolist() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    first, last = (MACEFeatures(calculator, layers=[k]).fit_transform(molecules) for k in (0, 1))
    np.testing.assert_array_equal(np.concatenate([first.blocks["0e"], last.blocks["0e"]], axis=2), whole.blocks["0e"])
    assert list(last.blocks) == ["0e"]
    swapped = MACEFeatures(calculator, layers=[1, 0]).fit_transform(molecules)
    np.testing.assert_array_equal(swapped.blocks["0e"], whole.blocks["0e"][:, :, [2, 3, 0, 1]])


@pytest.mark.parametrize("model", [TensorKernelRidge(), TensorGPR(), TensorRidge(), SparseTensorGPR(40, random_state=0),
                                   TensorKernelRidge(kernel=WignerKernel()),
                                   TensorKernelRidge(kernel=CovariantKernel() + ChargeKernel())])  # fmt: skip
def test_models_and_pipelines(model, waters):
    frames, dipoles, matrices, _ = waters
    descriptor = MACEFeatures(NotCopied(dtype="float64"))
    fitted = clone(model).set_params(descriptor=descriptor).fit(frames[:30], dipoles[:30])
    predicted = fitted.predict(frames[30:])
    assert fitted.score(frames[30:], dipoles[30:]) > 0.9
    pipeline = make_pipeline(clone(descriptor), clone(model)).fit(frames[:30], dipoles[:30])
    np.testing.assert_allclose(pipeline.predict(frames[30:]), predicted, rtol=0, atol=1e-6 * np.std(dipoles))
    rotation = random_rotation(1)
    turned = fitted.predict([transformed(atoms, rotation) for atoms in frames[30:]])
    np.testing.assert_allclose(turned, predicted @ rotation.T, rtol=0, atol=1e-8 * np.std(dipoles))
    with pytest.raises(TypeError, match="MACEFeatures has no derivatives"):
        fitted.predict_derivatives(frames[:1])


def test_a_target_without_features_says_so(waters):
    frames, dipoles, *_ = waters
    descriptor = FunctionFeatures(lambda frames: [one[:, :3] for one in rows(frames)], "3x0e")
    with pytest.raises(ValueError, match="X has no block 1o, only 0e"):
        TensorKernelRidge(descriptor=descriptor).fit(frames, dipoles)


def test_unions_clones_and_saving(waters, tmp_path):
    frames, dipoles, *_ = waters
    calculator = NotCopied()
    union = EquivariantUnion(
        [("mace", MACEFeatures(calculator)), ("soap", LambdaSOAP(3.0, n_max=2, l_max=2, irreps="0e+1o"))]
    )
    features = union.fit_transform(frames)
    assert list(features.parts) == ["mace", "soap"]
    assert clone(union).transformers[0][1].calculator is calculator
    model = TensorKernelRidge(descriptor=MACEFeatures(calculator)).fit(frames[:10], dipoles[:10])
    with pytest.raises(TypeError, match=r"MACEFeatures, .* does not store: it holds a function or network"):
        save_model(model, tmp_path / "model.skops")
    of_features = TensorKernelRidge().fit(features, dipoles)
    save_model(of_features, tmp_path / "model.skops")


def test_features_that_do_not_turn_are_refused(molecules):
    for descriptor in (
        FunctionFeatures(rows, IRREPS, convention="eqkernels"),
        FunctionFeatures(rows, IRREPS, layout="ir_mul"),
        FunctionFeatures(rows, "3x0e+3x2e+3x1o"),
        FunctionFeatures(lambda frames: [atoms.positions for atoms in frames if len(atoms)], "3x0e"),
    ):
        with pytest.raises(ValueError, match="do not rotate with structure .* Check irreps, convention=.* layout="):
            descriptor.fit(molecules)
        copy.copy(descriptor).set_params(check=False).fit(molecules)
    with pytest.raises(ValueError, match="the features 1e do not have their parity under the inversion of structure"):
        FunctionFeatures(rows, "3x0e+3x1e+3x2e").fit(molecules)
    periodic = random_frames(1, n_species=2, periodic=True)
    FunctionFeatures(rows, IRREPS).fit(periodic)


def test_what_is_refused(molecules):
    n = len(molecules)

    def returning(change):
        return FunctionFeatures(lambda frames: change(rows(frames)), IRREPS)

    def wrong(made):
        made[-1] = made[-1][:, :-1]
        return made

    def infinite(made):
        made[-1][0, 0] = np.nan
        return made

    with pytest.raises(ValueError, match="function must return an array for each of 1 structures, got 0 of them"):
        returning(lambda made: made[1:]).fit(molecules)
    with pytest.raises(ValueError, match="for each of 1 structures, got NoneType"):
        returning(lambda made: None).fit(molecules)
    for change, message in (
        (wrong, r"shape \(\d, 26\) for structure {}, expected \(\d, 27\)"),
        (infinite, "NaN .* structure {}"),
    ):
        with pytest.raises(ValueError, match=message.format(0)):
            returning(change).fit(molecules[:1])
        broken = FunctionFeatures(
            lambda frames, change=change: change(rows(frames)) if len(frames) == n else rows(frames), IRREPS
        )
        with pytest.raises(ValueError, match=message.format(n - 1)):
            broken.fit(molecules).transform(molecules)
    for irreps, message in (("3y", "must be irreps"), ("", "has no irreps"), (7, "must be irreps")):
        with pytest.raises((ValueError, TypeError), match=message):
            FunctionFeatures(rows, irreps).fit(molecules)
    with pytest.raises((ValueError, TypeError), match="convention='mace'"):
        FunctionFeatures(rows, IRREPS, convention="mace").fit(molecules)
    with pytest.raises(TypeError, match="function=3 must be a function"):
        FunctionFeatures(3, IRREPS).fit(molecules)
    with pytest.raises(TypeError, match="calculator=list must be a MACECalculator"):
        MACEFeatures([]).fit(molecules)
    with pytest.raises(ValueError, match="calculator has 2 networks"):
        MACEFeatures(FakeMACE(n_models=2)).fit(molecules)
    for layers in ([2], [0, 0], [], 1, [-1], ["0"]):
        with pytest.raises(ValueError, match="must be None or different numbers from 0 to 1"):
            MACEFeatures(FakeMACE(), layers=layers).fit(molecules)
    with pytest.raises(ValueError, match=r"returned an array of shape \(\d, 40\), but its layers have the irreps"):
        MACEFeatures(FakeMACE(hidden_irreps="{0}x0e+{0}x1o")).fit(molecules)


def without_species(metatensor, tensor_map):
    """Tensor map without center_type among its samples, their last column."""
    blocks = []
    for block in tensor_map.blocks():
        samples = metatensor.Labels(["system", "atom"], np.asarray(block.samples.values)[:, :2])
        blocks.append(metatensor.TensorBlock(block.values, samples, block.components, block.properties))
    return metatensor.TensorMap(tensor_map.keys, blocks)


def test_tensor_maps(molecules):
    metatensor = pytest.importorskip("metatensor")
    expected = FunctionFeatures(rows, IRREPS).fit_transform(molecules)

    def model(frames):
        return FunctionFeatures(rows, IRREPS, check=False).fit_transform(frames).to_metatensor()

    found = FunctionFeatures(model, "metatensor").fit_transform(molecules)
    for key, block in expected.blocks.items():
        np.testing.assert_allclose(found.blocks[key], block)
    np.testing.assert_array_equal(found.positions, expected.positions)
    bare = without_species(metatensor, model(molecules).keys_to_samples("center_type"))
    again = EquivariantFeatures.from_metatensor(bare, frames=molecules)
    np.testing.assert_array_equal(again.species, expected.species)
    np.testing.assert_allclose(again.blocks["2e"], expected.blocks["2e"])
    with pytest.raises(ValueError, match="does not say the species of the centers .* pass the frames"):
        EquivariantFeatures.from_metatensor(bare)
    with pytest.raises(ValueError, match=r"has the sample system \d+, atom 0, which the frames do not have"):
        EquivariantFeatures.from_metatensor(bare, frames=molecules[:2])
    scalars = np.concatenate([one[:, :3] for one in rows(molecules)])
    samples = np.stack([expected.structures, expected.atoms], axis=1)
    block = metatensor.TensorBlock(scalars, metatensor.Labels(["system", "atom"], samples.astype(np.int32)), [],
                                   metatensor.Labels.range("feature", 3))  # fmt: skip
    of_scalars = metatensor.TensorMap(metatensor.Labels(["_"], np.array([[0]], dtype=np.int32)), [block])
    again = EquivariantFeatures.from_metatensor(of_scalars, frames=molecules)
    np.testing.assert_array_equal(again.blocks["0e"][:, 0], scalars)
    with pytest.raises(TypeError, match="function must return a metatensor.TensorMap .* got list"):
        FunctionFeatures(rows, "metatensor").fit(molecules)


def test_the_real_mace():
    calculators = pytest.importorskip("mace.calculators")
    try:
        calculator = calculators.mace_off("small", default_dtype="float64")
    except Exception as error:  # no network to download it from
        pytest.skip(f"no model: {error}")
    frames = random_frames(0, n_frames=3, n_species=4)
    assert MACEFeatures(calculator).fit_transform(frames).blocks["0e"].shape[0] == sum(map(len, frames))
