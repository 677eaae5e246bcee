"""The command line as a user meets it: the way from files to predictions, and messages of one line."""

import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from eqkernels import CartesianTensor, TensorGPR
from eqkernels.cli.app import run
from eqkernels.datasets import load_water_clusters
from eqkernels.io import load_header, load_model
from eqkernels.metrics import frobenius_rmse
from eqkernels.so3 import haeberlen, quadrupolar_coupling, span_skew, to_voigt


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("water")
    data = load_water_clusters()
    frames = [atoms.copy() for atoms in data.frames[:60]]
    for atoms, dipole, alpha in zip(frames, data.dipole, data.polarizability, strict=False):
        atoms.info = {"mu": dipole, "alpha": alpha.ravel(), "name": "water"}
        atoms.calc = SinglePointCalculator(atoms, energy=float(np.trace(alpha)), forces=0.1 * atoms.positions)
    ase.io.write(folder / "train.xyz", frames[:45], format="extxyz")
    ase.io.write(folder / "test.xyz", frames[45:], format="extxyz")
    return folder


@pytest.fixture(scope="module")
def model(files):
    end("train", files / "train.xyz", "--target", "dipole", "-o", files / "model.eqk")
    return files / "model.eqk"


def end(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        run([str(one) for one in arguments])
    return caught.value.code


def test_four_commands(files, model, capsys):
    assert end("inspect", files / "train.xyz") == 0
    printed = capsys.readouterr().out
    assert "45 structures (0 periodic)" in printed
    assert all(word in printed for word in ("mu", "dipole", "ij=ji", "0e+2e", "not a target: name"))
    assert load_header(model)["notes"]["key"] == "mu"
    page, pictures = files / "report.html", files / "pictures"
    assert end("evaluate", model, files / "test.xyz", "--html", page, "--plots", pictures) == 0
    printed = capsys.readouterr().out
    test = ase.io.read(files / "test.xyz", ":")
    true, predicted = np.array([atoms.info["mu"] for atoms in test]), load_model(model).predict(test)
    assert f"{frobenius_rmse(true, predicted):.4g}" in printed
    assert "within one standard deviation" in printed
    assert {path.name for path in pictures.iterdir()} == {"parity.png", "calibration.png", "learning_curve.png"}
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")
    assert end("predict", model, files / "test.xyz", "-o", files / "out.xyz") == 0
    out = ase.io.read(files / "out.xyz", ":")
    np.testing.assert_allclose([atoms.info["predicted_dipole"] for atoms in out], predicted, atol=1e-12)
    assert all((atoms.info["predicted_dipole_std"] > 0).all() for atoms in out)


def test_inspection_finds_labels_that_do_not_follow_their_structures(files, capsys):
    frames = ase.io.read(files / "train.xyz", ":")
    frames[7].info["mu"] = -frames[7].info["mu"]
    ase.io.write(files / "faulty.xyz", [*frames, frames[3]], format="extxyz")
    assert end("inspect", files / "faulty.xyz") == 0
    printed = capsys.readouterr().out
    assert "mu of structure 7: the sign is reversed" in printed
    assert "3 and 45" in printed  # nearly the same


def test_the_expected_error_is_that_of_new_structures(files, model, capsys):
    capsys.readouterr()
    expected = load_header(model)["notes"]["expected_error"]["rmse"]
    test = load_water_clusters()
    predicted = load_model(model).predict(test.frames[45:160])
    assert 0.5 < frobenius_rmse(test.dipole[45:160], predicted) / expected < 2.0


def test_energies_learn_from_forces(files, capsys):
    path = files / "energy.eqk"
    config = files / "sparse.yaml"
    config.write_text("model: sparse\nn_points: 30\ndescriptor: {cutoff: 4.0, n_max: 4, l_max: 2}\n")
    arguments = ("train", files / "train.xyz", "-t", "energy", "-o", path, "--config", config)
    assert end(*arguments) == 0
    captured = capsys.readouterr()
    assert "forces found" in captured.err
    assert "forces" in captured.out
    loaded = load_model(path)
    assert loaded.n_points == 30
    assert loaded.descriptor.cutoff == 4.0
    assert end(*arguments, "--no-forces", "--no-error") == 0
    assert "forces found" not in capsys.readouterr().err


def test_networks_learn_from_forces(files, capsys):
    path, config = files / "energy.eqk", files / "network.yaml"
    config.write_text("model: network\ncutoff: 4.0\nchannels: 3\nmax_iter: 3\n")
    assert end("train", files / "train.xyz", "-t", "energy", "-o", path, "--config", config, "--no-error") == 0
    assert "forces found" in capsys.readouterr().err
    assert "0e" in load_model(path).descriptor_.readout_


def test_structures_without_energies_have_no_forces_to_learn_from(files, capsys, monkeypatch):
    frames = ase.io.read(files / "train.xyz", ":")[:12]
    frames[3].calc = None
    ase.io.write(files / "gaps.xyz", frames, format="extxyz")
    config = files / "small.yaml"
    config.write_text("model: sparse\nn_points: 10\ndescriptor: {cutoff: 4.0, n_max: 3, l_max: 2}\n")
    seen, read = [], ase.io.iread
    monkeypatch.setattr(ase.io, "iread", lambda *args, **options: seen.append(args) or read(*args, **options))
    path = files / "gaps.eqk"
    assert end("train", files / "gaps.xyz", "-t", "energy", "-o", path, "--config", config, "--no-error") == 0
    told = capsys.readouterr().err
    assert "1 of 12 structures have no label 'energy'" in told
    assert "forces found" in told
    assert load_model(path).n_structures_fit_ == 11
    assert len(seen) <= 1  # the file is read once


def test_minutes_without_effect_are_told(files, capsys):
    options = ["--model", "ridge", "--minutes", "3", "--no-error"]
    assert end("train", files / "train.xyz", "-t", "mu", "-o", files / "ridge.eqk", *options) == 0
    assert "--minutes 3 has no effect: TensorRidge" in capsys.readouterr().err


def test_minutes_are_for_a_search(files, capsys):
    path = files / "found.eqk"
    assert end("train", files / "train.xyz", "-t", "mu", "-o", path, "--minutes", "0.3") == 0
    out, told = capsys.readouterr()
    assert "expected error on new structures" in out
    assert "LambdaSOAP(cutoff=" in told
    assert load_header(path)["model"].startswith("AutoTensorRegressor")
    assert end("predict", path, files / "test.xyz", "-o", files / "of_search.xyz") == 0
    assert "predicted_dipole_std" in ase.io.read(files / "of_search.xyz").info


def test_networks_are_evaluated(files, capsys):
    path = files / "evaluated.eqk"
    options = ["--model", "network", "--minutes", "0.02", "--no-error"]
    assert end("train", files / "train.xyz", "-t", "mu", "-o", path, *options) == 0
    capsys.readouterr()
    assert end("evaluate", path, files / "test.xyz") == 0
    assert "half of the structures have errors below" in capsys.readouterr().out
    assert end("predict", path, files / "test.xyz", "-o", files / "of_network.xyz") == 0
    assert ase.io.read(files / "of_network.xyz").info["predicted_dipole"].shape == (3,)


def test_models_by_name_and_minutes(files):
    path = files / "network.eqk"
    assert end("train", files / "train.xyz", "-t", "mu", "-o", path, "--model", "network", "--minutes", "0.02",
               "--no-error") == 0  # fmt: skip
    assert load_header(path)["model"].startswith("EquivariantNetworkRegressor")


@pytest.mark.parametrize("to", ["irreps", "e3nn", "pyscf", "complex", "voigt"])
def test_conversion_and_back(files, to):
    there, back = files / f"{to}.xyz", files / f"{to}_back.xyz"
    assert end("convert", files / "train.xyz", "-t", "alpha", "--to", to, "-o", there) == 0
    parts = ase.io.read(there, 0).info
    stem = {"irreps": "alpha_2e", "complex": "alpha_complex_2e_imag", "voigt": "alpha_voigt"}.get(to, f"alpha_{to}_2e")
    assert len(parts[stem]) == (6 if to == "voigt" else 5)
    del parts
    stripped = ase.io.read(there, ":")
    for atoms in stripped:
        del atoms.info["alpha"]
    ase.io.write(there, stripped)
    assert end("convert", there, "-t", "polarizability", "--key", "alpha", "--to", "cartesian", "-o", back) == 0
    for one, other in zip(ase.io.read(files / "train.xyz", ":"), ase.io.read(back, ":"), strict=True):
        np.testing.assert_allclose(other.info["alpha"].ravel(), one.info["alpha"].ravel(), atol=1e-7)


@pytest.mark.parametrize(("kind", "shape"), [("compliance", (3, 3, 3, 3)), ("piezoelectric_d", (3, 3, 3))])
def test_conversion_to_voigt_with_factors(tmp_path, kind, shape):
    target = "elastic" if len(shape) == 4 else "piezoelectric"
    value = CartesianTensor(target).project(np.random.default_rng(0).normal(size=shape))
    atoms = ase.Atoms("H", cell=[3, 3, 3], pbc=True, info={"label": value.ravel()})
    ase.io.write(tmp_path / "in.xyz", atoms)
    common = ["-t", target, "--key", "label", "--kind", kind]
    assert end("convert", tmp_path / "in.xyz", "--to", "voigt", "-o", tmp_path / "out.xyz", *common) == 0
    written = ase.io.read(tmp_path / "out.xyz")
    np.testing.assert_allclose(np.ravel(written.info.pop("label_voigt")), to_voigt(value, kind).ravel(), atol=1e-7)
    assert end("convert", tmp_path / "out.xyz", "--to", "cartesian", "-o", tmp_path / "back.xyz", *common) == 0
    np.testing.assert_allclose(ase.io.read(tmp_path / "back.xyz").info["label"].ravel(), value.ravel(), atol=1e-7)


def test_conversion_to_parameters_of_spectra(tmp_path):
    value = np.random.default_rng(0).normal(size=(3, 3, 3))
    atoms = ase.Atoms("OHH", np.eye(3), info={})
    atoms.arrays["sigma"] = value.reshape(3, 9)
    ase.io.write(tmp_path / "in.xyz", atoms)
    common = ["convert", tmp_path / "in.xyz", "-t", "shielding", "--key", "sigma", "-o", tmp_path / "out.xyz"]
    assert end(*common, "--to", "haeberlen") == 0
    arrays = ase.io.read(tmp_path / "out.xyz").arrays
    for name, expected in haeberlen(value)._asdict().items():
        np.testing.assert_allclose(arrays[f"sigma_{name}"], expected, atol=1e-7)
    assert end(*common, "--to", "span-skew") == 0
    np.testing.assert_allclose(ase.io.read(tmp_path / "out.xyz").arrays["sigma_skew"], span_skew(value).skew, atol=1e-7)
    assert end(*common, "--to", "quadrupolar", "--moments", "H=0.00286") == 0
    coupling = ase.io.read(tmp_path / "out.xyz").arrays["sigma_coupling"]
    assert np.isnan(coupling[0])
    np.testing.assert_allclose(coupling[1:], quadrupolar_coupling(value[1:], 0.00286).coupling, atol=1e-7)


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
@pytest.mark.parametrize("per_atom", [False, True])
def test_descriptors(files, ending, per_atom, monkeypatch):
    from eqkernels import SOAP
    from eqkernels.cli import describing

    monkeypatch.setattr(describing, "_BYTES_PER_PART", 2**16)  # several parts
    path = files / f"soap{ending}"
    more = ["--per-atom"] if per_atom else []
    assert end("descriptors", files / "train.xyz", "-o", path, "--n-max", "4", "--l-max", "2", *more) == 0
    frames = ase.io.read(files / "train.xyz", ":")
    soap = SOAP(n_max=4, l_max=2, aggregate=None if per_atom else "mean").fit(frames)
    expected = soap.transform(frames)
    if ending == ".npz":
        with np.load(path) as arrays:
            found, names = arrays["features"], list(arrays["feature_names"])
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        names = [name for name in table.column_names if name not in ("structure", "atom")]
        found = np.stack([table[name].to_numpy() for name in names], axis=1)
        assert table["structure"].to_pylist()[-1] == len(frames) - 1
    assert names == list(soap.get_feature_names_out())
    np.testing.assert_array_equal(found, expected)


def test_equivariant_descriptors(files):
    from eqkernels import LambdaSOAP

    path = files / "blocks.npz"
    options = ["--irreps", "0e+1o", "--n-max", "3", "--l-max", "2"]
    assert end("descriptors", files / "train.xyz", "-o", path, *options) == 0
    frames = ase.io.read(files / "train.xyz", ":")
    expected = LambdaSOAP(irreps="0e+1o", n_max=3, l_max=2).fit_transform(frames)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["1o"], expected.blocks["1o"])
        np.testing.assert_array_equal(arrays["n_atoms"], expected.n_atoms)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nothing.xyz"], "there is no file nothing.xyz"),
        (["train", "{train}", "-t", "quadrupole", "-o", "x"], "no label for --target 'quadrupole'"),
        (["train", "{train}", "-t", "alpah", "-o", "x"], "did you mean 'alpha'"),
        (["train", "{train}", "-t", "mu", "-o", "x", "--model", "magic"], "there is no model 'magic'"),
        (["train", "{train}", "-o", "x"], "write --key "),
        (["train", "{train}", "-t", "mu", "-o", "nowhere/x"], "there is no directory nowhere"),
        (["predict", "{model}", "{train}", "-o", "nowhere/x"], "there is no directory nowhere"),
        (["evaluate", "{model}", "{train}", "--html", "nowhere/x"], "there is no directory nowhere"),
        (["descriptors", "{train}", "-o", "nowhere/x.npz"], "there is no directory nowhere"),
        (["convert", "{train}", "-t", "alpha", "-o", "nowhere/x"], "there is no directory nowhere"),
        (["train", "{train}", "-t", "name", "-o", "x"], "numbers are needed"),
        (["train", "{train}", "-t", "mu", "-o", "x", "--minutes", "-1"], "minutes=-1.0 must be a positive number"),
        (["train", "{train}", "-t", "mu", "-o", "x", "--forces"], "forces are derivatives of energies"),
        (["train", "{train}", "-t", "mu", "-o", "{folder}"], "is a directory"),
        (["train", "{train}", "-t", "mu", "-o", "x", "--config", "{wrong}"], "TensorGPR has no parameter 'depth'"),
        (["evaluate", "{train}", "{train}"], "train.xyz"),
        (["predict", "nothing.eqk", "{train}", "-o", "x.xyz"], "eqkernels train"),
        (["predict", "{model}", "{copper}", "-o", "x.xyz"], "species Cu"),
        (["descriptors", "{train}", "-o", "x.csv"], "must end with .npz"),
        (["convert", "{train}", "-t", "beta", "--to", "voigt", "-o", "x.xyz"], "beta"),
        (["convert", "{train}", "-t", "alpha", "--to", "quadrupolar", "-o", "x.xyz"], "--moments H=0.00286"),
        (["convert", "{train}", "-t", "mu", "--to", "haeberlen", "-o", "x.xyz"], "tensors of two indices"),
        (["convert", "{train}", "-t", "mu", "--to", "voigt", "-o", "x.xyz"], "no Voigt notation"),
        (["convert", "{train}", "-t", "alpha", "--to", "dalton", "-o", "x.xyz"], "take irreps, e3nn"),
    ],
)
def test_messages_of_one_line(files, model, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("model: gpr\ndepth: 3\n")
    ase.io.write(tmp_path / "copper.xyz", ase.Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]]))
    names = {"train": files / "train.xyz", "folder": tmp_path, "wrong": tmp_path / "wrong.yaml", "model": model,
             "copper": tmp_path / "copper.xyz"}  # fmt: skip
    assert end(*[one.format(**names) for one in arguments]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert message in printed[printed.index("error: ") :]


def test_ctrl_c(files, monkeypatch, capsys):
    from eqkernels.cli import inspecting

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(inspecting, "inspect", interrupted)
    assert end("inspect", files / "train.xyz") == 130
    assert "stopped" in capsys.readouterr().err


def test_warmup(capsys):
    assert end("warmup") == 0
    assert "compiled in" in capsys.readouterr().err


def test_the_module_runs(files):
    done = subprocess.run([sys.executable, "-m", "eqkernels", "versions"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("eqkernels ")
    done = subprocess.run([sys.executable, "-m", "eqkernels", "train"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr


def test_loaded_models_are_the_recommended(model):
    assert isinstance(load_model(model), TensorGPR)
