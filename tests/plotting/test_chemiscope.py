import gzip
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

pytest.importorskip("chemiscope")

from eqkernels import CartesianTensor, LambdaSOAP, TensorGPR, TensorRidge  # noqa: E402
from eqkernels.plotting import to_chemiscope  # noqa: E402
from eqkernels.plotting.similarity import kernel_map  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESCRIPTOR = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)
RANDOM = np.random.default_rng(0)


def written(path, *args, **options):
    to_chemiscope(*args, path, **options)
    return json.loads(path.read_text())


def values(data, name):
    return np.array(data["properties"][name]["values"])


def test_structures_with_a_model_that_has_error_bars(waters, tmp_path):
    frames, _, matrix, _ = waters
    model = TensorGPR(descriptor=DESCRIPTOR).fit(frames[:20], matrix[:20])
    options = {"model": model, "y": matrix[20:], "name": "alpha", "unit": "a0^3"}
    data = written(tmp_path / "x.json", frames[20:], **options)
    mean, std = model.predict(frames[20:], return_std=True)
    error = np.linalg.norm(mean - matrix[20:], axis=(1, 2))
    np.testing.assert_allclose(values(data, "error of alpha"), error, rtol=1e-6)
    np.testing.assert_allclose(values(data, "error bar of alpha"), np.sqrt(np.sum(std**2, axis=(1, 2))), rtol=1e-6)
    np.testing.assert_allclose(values(data, "alpha norm, reference"), np.linalg.norm(matrix[20:], axis=(1, 2)))
    trace = np.trace(matrix[20:], axis1=1, axis2=2)
    np.testing.assert_allclose(values(data, "alpha 0e, reference"), trace / np.sqrt(3))
    traceless = matrix[20:] - trace[:, None, None] / 3 * np.eye(3)
    np.testing.assert_allclose(values(data, "alpha 2e, reference"), np.linalg.norm(traceless, axis=(1, 2)))
    coordinates, _ = kernel_map(model.descriptor_.transform(frames[20:]))
    np.testing.assert_allclose(values(data, "map 2"), coordinates[:, 1], atol=1e-10)
    assert data["properties"]["error of alpha"]["units"] == "a0^3"
    assert data["settings"]["map"]["x"] == {"property": "map 1"}


def test_ellipsoids_are_those_of_the_matrices(waters, tmp_path):
    frames, _, matrix, _ = waters
    matrix = matrix + np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])  # whose antisymmetric part is left out
    shape = written(tmp_path / "x.json", frames, y=matrix, target="ij")["shapes"]["reference"]
    assert shape["kind"] == "ellipsoid"
    ratios = []
    for one, tensor, atoms in zip(shape["parameters"]["structure"], matrix, frames, strict=True):
        axes = Rotation.from_quat(one["orientation"]).as_matrix()
        symmetric = (tensor + tensor.T) / 2
        ratio = axes @ np.diag(one["semiaxes"]) @ axes.T / symmetric  # all eigenvalues are positive
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-8)
        ratios.append(ratio[0, 0])
        np.testing.assert_allclose(one["position"], atoms.get_center_of_mass())
    np.testing.assert_allclose(ratios, ratios[0])


def test_arrows_of_atoms_some_without_prediction(tmp_path):
    frames = [molecule("H2O"), molecule("NH3"), molecule("CH4")]
    forces = [RANDOM.normal(size=(len(atoms), 3)) for atoms in frames]
    labels = [np.where(atoms.numbers[:, None] == 1, one, np.nan) for atoms, one in zip(frames, forces, strict=True)]
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, center_species=[1])
    model = TensorRidge(target="forces", descriptor=descriptor).fit(frames, labels)
    data = written(tmp_path / "x.json", frames, model=model, y=labels, name="forces")
    hydrogens = [(k, i) for k, atoms in enumerate(frames) for i in np.flatnonzero(atoms.numbers == 1)]
    assert [(one["structure"], one["center"]) for one in data["environments"]] == hydrogens
    assert len(values(data, "error of forces")) == 9
    atoms = data["shapes"]["reference"]["parameters"]["atom"]
    joined = np.nan_to_num(np.concatenate(labels))
    every = np.concatenate([joined, np.nan_to_num(np.concatenate(list(model.predict(frames))))])
    lengths = np.linalg.norm(every, axis=1)
    scale = 0.8 / np.sqrt(np.mean(lengths[lengths > 0] ** 2))
    np.testing.assert_allclose([one["vector"] for one in atoms], scale * joined, atol=2e-6)
    positions = np.concatenate([one.positions for one in frames])
    gaps = np.array([one["position"] for one in atoms]) - positions
    np.testing.assert_allclose(np.cross(gaps, joined), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(gaps, axis=1), 0.4 * (np.abs(joined).max(axis=1) > 0), atol=1e-12)
    assert data["settings"]["structure"][0]["shape"] == "predicted,reference"
    data = written(tmp_path / "y.json", frames, y_pred=model.predict(frames), y=forces, target="forces")
    assert len(data["environments"]) == 12  # an atom with a reference alone is shown, too
    assert np.isnan(values(data, "error of tensor")).sum() == 3


@pytest.mark.parametrize(("formula", "names"), [("", ["value"]), ("ijk=jik=ikj", ["norm", "1o", "3o"])])
def test_other_tensors_are_properties_without_shapes(formula, names, tmp_path):
    frames, tensor = [molecule("H2O"), molecule("CH4")], CartesianTensor(formula)
    data = written(tmp_path / "x.json", frames, y_pred=tensor.project(RANDOM.normal(size=(2, *tensor.shape))))
    assert list(data["properties"]) == [f"tensor {name}, predicted" for name in names]
    assert "shapes" not in data


def test_compressed_file_and_zero_tensors(tmp_path):
    to_chemiscope([molecule("H2O")], tmp_path / "x.json.gz", y=np.zeros((1, 3)), target="dipole")
    with gzip.open(tmp_path / "x.json.gz", "rt") as file:
        assert len(json.load(file)["structures"]) == 1


def test_what_cannot_be_written(tmp_path):
    frames = [molecule("H2O")]
    with pytest.raises(ValueError, match="pass a model, y_pred or y"):
        to_chemiscope(frames, tmp_path / "x.json")
    with pytest.raises(ValueError, match="must end with .json, .json.gz, .html"):
        to_chemiscope(frames, "x.xyz", y=np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"y_std has shape \(1,\), expected \(1, 3\)"):
        to_chemiscope(frames, tmp_path / "x.json", y_pred=np.ones((1, 3)), y_std=np.ones(1), target="dipole")
    with pytest.raises(ValueError, match="y and y_pred have different shapes"):
        to_chemiscope(frames, tmp_path / "x.json", y_pred=np.ones((1, 3, 3)), y=np.ones(1))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("per_atom", [False, True])
def test_page_opens_without_network_and_without_errors(per_atom, waters, tmp_path):
    frames, vector, *_ = waters
    y = [atoms.positions - atoms.get_center_of_mass() for atoms in frames] if per_atom else vector
    model = TensorRidge(per_atom=per_atom, target="i", descriptor=DESCRIPTOR).fit(frames[:30], y[:30])
    name = "</script><b>&"  # must not break the page
    to_chemiscope(frames[30:], tmp_path / "x.html", model=model, y=y[30:], name=name)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    options += ["--virtual-time-budget=15000", "--dump-dom", (tmp_path / "x.html").as_uri()]
    run = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=300, check=True)
    messages = re.findall(r"CONSOLE.*", run.stderr)
    assert not [one for one in messages if "GL Driver Message" not in one]  # of software rendering
    assert '<body data-state="loaded">' in run.stdout
