import hashlib
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import joblib
import numpy as np
import pytest
from ase.calculators.emt import EMT
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import eqkernels
from eqkernels import CalculatorBaseline, LambdaSOAP, TensorGPR, TensorKernelRidge, TensorRidge, TensorVotingRegressor
from eqkernels.io import load_header, load_model, save_model
from eqkernels.io.stored_types import CLASSES, TRUSTED
from tests.io.make_golden import GOLDEN, structures
from tests.io.models import MAKERS, WATER, fitted, others, outcomes

skops_io = pytest.importorskip("skops.io")
GOLDEN_FILES = sorted(GOLDEN.glob("*/*.eqk"))


@cache
def model_of(name):
    return fitted(name)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.eqk"
    save_model(model_of("ridge"), path)
    return path


def changed(path, change):
    """The file with other members, and a checksum that fits: what somebody makes who knows the format."""
    with ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment
    change(members)
    with ZipFile(path, "w") as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content)
    return sealed(path)


def sealed(path):
    content = path.read_bytes()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


def with_schema(path, change):
    def of_members(members):
        schema = json.loads(members["schema.json"])
        change(schema)
        members["schema.json"] = json.dumps(schema).encode()

    return changed(path, of_members)


def assert_refused(path, reason):
    for load in (load_model, load_header):
        with pytest.raises(ValueError, match=reason) as error:
            load(path)
        assert str(error.value).startswith(f"{path} cannot be loaded: ")


# -- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_predictions_are_the_same_to_the_last_bit(name, tmp_path):
    model, frames = model_of(name), others(name)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert type(loaded) is type(model)
    assert re.sub("at 0x.*?\\)", "", repr(loaded)) == re.sub("at 0x.*?\\)", "", repr(model))
    expected, found = outcomes(model, frames), outcomes(loaded, frames)
    assert set(found) == set(expected)
    for what in expected:
        np.testing.assert_array_equal(found[what], expected[what], err_msg=what)


@pytest.mark.parametrize("name", ["kernel_ridge", "gpr", "sparse_gpr", "network", "committee_of_pipelines"])
def test_a_loaded_model_gives_the_same_file(name, tmp_path):
    """Also after predictions, which are not part of the model."""
    paths = [tmp_path / "first", tmp_path / "second"]
    save_model(model_of(name), paths[0])
    loaded = load_model(paths[0])
    outcomes(loaded, others(name))
    save_model(loaded, paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("path", GOLDEN_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_earlier_versions(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_model(path)
    found = outcomes(model, structures(path.stem))
    with np.load(path.with_suffix(".npz")) as expected:
        assert set(found) == set(expected.files)
        for what in expected.files:
            # variances are small differences of large numbers
            tolerance = 1e-6 if what == "std" else 1e-12
            atol = tolerance * np.abs(expected[what]).max()
            np.testing.assert_allclose(found[what], expected[what], rtol=0, atol=atol, err_msg=what)


def test_there_are_files_of_earlier_versions():
    assert {path.parent.name for path in GOLDEN_FILES} >= {"numpy-1", "numpy-2"}
    assert set(MAKERS) == {path.stem for path in GOLDEN_FILES if path.parent.name == "numpy-2"}
    assert max(path.stat().st_size for path in GOLDEN_FILES) < 100_000


def test_a_loaded_model_is_fitted_anew(tmp_path):
    save_model(model_of("kernel_ridge"), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    loaded.set_params(lambdasoap__cutoff=2.5)
    frames = WATER.frames[:10]
    with pytest.raises(NotFittedError):
        loaded.predict(frames)
    expected = make_pipeline(LambdaSOAP(2.5, n_max=2, l_max=2, irreps="0e+1o"), TensorKernelRidge())
    loaded.fit(frames, WATER.dipole[:10])
    np.testing.assert_array_equal(loaded.predict(frames), expected.fit(frames, WATER.dipole[:10]).predict(frames))


# -- the header -----------------------------------------------------------------------------------------------------


def test_header(tmp_path):
    path = tmp_path / "model.eqk"
    save_model(model_of("kernel_ridge_of_atoms"), path, units="ppm")
    header = load_header(path)
    assert header["format"] == 1
    assert header["versions"]["eqkernels"] == eqkernels.__version__
    assert header["versions"]["numpy"] == np.__version__
    wanted = {
        "target": "ij",
        "axial": "",
        "per_atom": True,
        "irreps": "0e+1e+2e",
        "units": "ppm",
        "species": ["H", "O"],
    }
    assert {key: header[key] for key in wanted} == wanted
    with ZipFile(path) as archive:  # as unzip -p
        assert archive.namelist()[0] == "header.json"
        assert json.loads(archive.read("header.json")) == header
    save_model(model_of("network"), path)
    assert load_header(path)["target"] == {"dipole": "i", "forces": "i"}


def test_units_are_text(tmp_path):
    with pytest.raises(TypeError, match="units=3 must be a string"):
        save_model(model_of("ridge"), tmp_path / "model", units=3)


# -- saving ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_saved_is_named(tmp_path):
    path, frames, y = tmp_path / "model", WATER.frames[:6], WATER.dipole[:6]
    with pytest.raises(NotFittedError):
        save_model(TensorRidge(), path)
    model = TensorGPR(descriptor=LambdaSOAP(3.0, n_max=1, l_max=1), optimizer=_no_optimizer).fit(frames, y)
    with pytest.raises(TypeError, match=r"the model \(TensorGPR\).optimizer is a function \(.*_no_optimizer\), which"):
        save_model(model, path)
    pipeline = make_pipeline(LambdaSOAP(3.0, n_max=1, l_max=1), FunctionTransformer(np.copy, check_inverse=False))
    with pytest.raises(
        TypeError, match=r"the model \(Pipeline\).steps\[1\]\[1\] is of type sklearn.*FunctionTransformer"
    ):
        save_model(pipeline.fit(frames, y), path)
    with pytest.raises(TypeError, match="is of type .*_OwnRidge, which save_model does not store: joblib.dump"):
        save_model(_OwnRidge(descriptor=LambdaSOAP(3.0, n_max=1, l_max=1)).fit(frames, y), path)
    search = GridSearchCV(TensorRidge(1e-3, descriptor=LambdaSOAP(3.0, n_max=1, l_max=1)), {"alpha": [1e-3]}, cv=2)
    with pytest.raises(TypeError, match="a GridSearchCV is not stored: save its best_estimator_"):
        save_model(search.fit(frames, y), path)
    assert not os.listdir(tmp_path)


def _no_optimizer(function, theta, bounds):
    return theta, 0.0


class _OwnRidge(TensorRidge):
    pass


def test_a_failure_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="no space left"):
        save_model(model_of("gpr"), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_files_are_replaced_as_joblib_does(saved):
    link = saved.parent / "link"
    link.symlink_to(saved)
    save_model(model_of("kernel_ridge"), link)
    assert link.is_symlink()
    assert load_header(saved)["target"] == "i"
    ordinary = saved.parent / "ordinary"
    ordinary.write_bytes(b"")
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        save_model(model_of("ridge"), saved.parent)


def test_a_path_may_be_a_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(model_of("ridge"), "model")
    assert load_header("model")["target"] == "ij=ji"


def test_without_skops(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for call in (lambda: load_model(saved), lambda: save_model(model_of("ridge"), saved)):
        with pytest.raises(ImportError, match=r"python -m pip install 'eqkernels\[skops\]'"):
            call()
    assert load_header(saved)["target"] == "ij=ji"


# -- damage ---------------------------------------------------------------------------------------------------------


def test_every_flipped_byte_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    positions = np.random.default_rng(0).integers(0, len(content), 150).tolist()
    for position in [*positions, *range(30), *range(len(content) - 140, len(content), 3)]:
        content[position] ^= 0x10
        saved.write_bytes(content)
        content[position] ^= 0x10
        with pytest.raises(ValueError, match="cannot be loaded: it is "):
            load_header(saved)
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    assert_refused(saved, "it is damaged, or was changed after it was saved")


@pytest.mark.parametrize("part", [1e-3, 0.5, 0.99, -1, -64, -100])
def test_truncated(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content)) if part > 0 else int(part)])
    assert_refused(saved, "truncated or damaged")


def test_empty(saved):
    saved.write_bytes(b"")
    assert_refused(saved, "it is empty")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "model")


# -- other files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_renamed_pickle(saved, protocol):
    saved.write_bytes(pickle.dumps(model_of("ridge"), protocol=protocol))
    assert_refused(saved, "it is a pickle, .* can run any code, load only your own, with joblib.load")


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_files_of_joblib(saved, compress):
    joblib.dump(model_of("ridge"), saved, compress=compress)
    assert_refused(saved, "with joblib.load" if compress else "it is a pickle")


def test_other_kinds_of_files(saved):
    np.savez(saved.parent / "arrays.npz", a=np.zeros(3))
    assert_refused(saved.parent / "arrays.npz", "it is an archive of numpy arrays")
    np.save(saved.parent / "array.npy", np.zeros(3))
    assert_refused(saved.parent / "array.npy", "an array in numpy's format")
    skops_io.dump(model_of("ridge"), saved)
    assert_refused(saved, "it is a file of skops, .* load it with skops.io.load")
    saved.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert_refused(saved, "it is an HDF5 file")
    saved.write_text("alpha: 3")
    assert_refused(saved, "it is no file that save_model wrote")
    with ZipFile(saved, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert_refused(saved, "it is another kind of zip archive, of archive/data.pkl")


def test_a_file_from_the_future(saved):
    def newer(members):
        header = json.loads(members["header.json"])
        header["format"], header["versions"]["eqkernels"] = 2, "9.1"
        members["header.json"] = json.dumps(header).encode()

    changed(saved, newer)
    assert_refused(saved, "it was saved by eqkernels 9.1 in format 2; .* reads up to format 1: update eqkernels")


def test_a_parameter_of_a_later_version(saved):
    with_schema(saved, lambda schema: schema["content"]["content"].update(curvature=_json(3.0)))
    with pytest.raises(ValueError, match="has the parameter curvature, which TensorRidge has not: update eqkernels"):
        load_model(saved)


def _json(value):
    content = json.dumps(value)
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": content, "is_json": True}


@pytest.mark.parametrize(
    "header", ["[]", "{}", '{"format": "1"}', '{"format": true}', '{"format": 0}', "{", "[" * 10**5]
)
def test_a_header_that_is_none(saved, header):
    changed(saved, lambda members: members.update({"header.json": header.encode()}))
    assert_refused(saved, "has no number of a format|damaged|Expecting")


# -- files that were made to harm -----------------------------------------------------------------------------------


def test_ten_gigabytes_announced_by_the_archive(saved):
    """In the directory of the archive, for the first array."""
    content = bytearray(saved.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"0.npy"))
    for start in (entry + 20, entry + 24):
        content[start : start + 4] = (10**9 * 4).to_bytes(4, "little")
    saved.write_bytes(content)
    assert_refused(sealed(saved), "it announces 4000.* bytes of content, but has only")


def test_ten_gigabytes_announced_by_an_array(saved):
    def large(members):
        header = members["0.npy"][:128]
        place = header.index(b"(")
        new = header[:place] + b"(1250000000,), }"
        members["0.npy"] = new + (127 - len(new)) * b" " + b"\n" + members["0.npy"][128:]

    changed(saved, large)
    assert_refused(saved, r"0.npy announces an array of shape \(1250000000,\) and type .*, but has \d+ bytes")


def test_a_bomb(saved):
    with ZipFile(saved) as archive:
        members, comment = {name: archive.read(name) for name in archive.namelist()}, archive.comment
    with ZipFile(saved, "w", ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content + (bytes(10**7) if name == "0.npy" else b""))
    assert saved.stat().st_size < 10**5
    assert_refused(sealed(saved), "it announces 1.* bytes of content, but has only")


def test_compressed_members(saved):
    with ZipFile(saved) as archive:
        members, comment = {name: archive.read(name) for name in archive.namelist()}, archive.comment
    with ZipFile(saved, "w") as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content, ZIP_DEFLATED if name == "0.npy" else None)
    assert_refused(sealed(saved), "0.npy is compressed or encrypted")


@pytest.mark.parametrize("name", ["../evil.npy", "code.py", "0.npz", "a.npy", "0.npy/0.npy"])
def test_other_members(saved, name):
    changed(saved, lambda members: members.update({name: b""}))
    assert_refused(saved, "members are not those of a saved model")


def test_a_large_header(saved):
    changed(saved, lambda members: members.update({"header.json": b" " * 2**21}))
    assert_refused(saved, "its header has 2097152 bytes, more than any")


def test_arrays_of_objects(saved):
    def objects(members):
        np.save(saved.parent / "objects.npy", np.array([print], dtype=object))
        members["0.npy"] = (saved.parent / "objects.npy").read_bytes()

    changed(saved, objects)
    assert_refused(saved, "0.npy is an array of Python objects, which are not loaded")


ATTACKS = {
    "FunctionNode": ("os", "system"),
    "TypeNode": ("subprocess", "Popen"),
    "MethodNode": ("eqkernels", "TensorRidge"),
    "PartialNode": ("functools", "partial"),
    "OperatorFuncNode": ("operator", "methodcaller"),
    "ConstructorFromReduceNode": ("subprocess", "Popen"),
    "ObjectNode": ("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
    "NdArrayNode": ("os", "system"),
    "DictNode": ("collections", "OrderedDict"),
    "TupleNode": ("eqkernels.learned.trained", "Known"),
    "ReduceNode": ("sklearn.tree._tree", "Tree"),
    "CachedNode": ("builtins", "dict"),
    "JsonNode": ("builtins", "eval"),
    "Unknown": ("builtins", "dict"),
}


@pytest.mark.parametrize("loader", ATTACKS)
@pytest.mark.parametrize("place", ["attribute", "model", "key"])
def test_nothing_else_is_loaded(saved, loader, place):
    module, name = ATTACKS[loader]
    node = {"__class__": name, "__module__": module, "__loader__": loader, "content": {}}

    def attack(schema):
        if place == "model":
            schema.update(node)
        elif place == "key":
            schema["content"]["key_types"]["content"][0] = node
        else:
            schema["content"]["content"]["species_"] = node

    with_schema(saved, attack)
    with pytest.raises(ValueError, match=rf"the model.* is .*{name}\)?, which is not loaded: it may run code"):
        load_model(saved)


def test_nothing_in_a_file_is_run(saved, tmp_path):
    """A file that skops would be asked to trust, in a process that would show it."""
    mark = tmp_path / "run"
    command = {"__class__": "system", "__module__": "os", "__loader__": "ConstructorFromReduceNode"}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}
    command["content"] = {**arguments, "content": [_json(f"touch {mark}")]}
    with_schema(saved, lambda schema: schema["content"]["content"].update(species_=command))
    code = f"from eqkernels.io import load_model; load_model({str(saved)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "of type os.system, which is not loaded" in done.stderr
    assert not mark.exists()


def test_objects_that_refer_to_each_other(saved):
    """A list of twice the same list of twice the same ..., which would take forever."""

    def nest(schema):
        node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [], "__id__": 1}
        schema["content"]["content"]["species_"] = node

    with_schema(saved, nest)
    with pytest.raises(ValueError, match="has an id, which only arrays have"):
        load_model(saved)


def test_a_deeply_nested_schema(saved):
    changed(saved, lambda members: members.update({"schema.json": b'{"__loader__":' * 10**4 + b"1" + b"}" * 10**4}))
    with pytest.raises(ValueError, match="cannot be loaded: it is damaged"):
        load_model(saved)


@pytest.mark.parametrize("key", ["content", "__class__", "protocol"])
def test_a_schema_that_lacks_something(saved, key):
    with_schema(saved, lambda schema: schema.pop(key))
    with pytest.raises(ValueError, match="cannot be loaded: "):
        load_model(saved)


# -- the list of types ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_skops_finds_no_other_type(name, tmp_path):
    save_model(model_of(name), tmp_path / "model")
    assert set(skops_io.get_untrusted_types(file=tmp_path / "model")) <= set(TRUSTED)


@pytest.mark.parametrize("baseline", [lambda frames: np.zeros((len(frames), 3, 3)), np.sum, CalculatorBaseline(EMT())])
def test_baselines_that_are_programs_are_refused(baseline, tmp_path):
    """They would have to be run to be loaded."""
    model = TensorRidge(1e-3, descriptor=LambdaSOAP(n_max=1, l_max=2)).fit(WATER.frames[:3], WATER.polarizability[:3])
    model.baseline = model.baseline_model_ = baseline
    with pytest.raises(TypeError, match=r"baseline=.* cannot be saved, for it is a program"):
        save_model(model, tmp_path / "model")
    voting = TensorVotingRegressor([("a", model)])
    voting.estimators_ = [model]
    with pytest.raises(TypeError, match="cannot be saved, for it is a program"):
        save_model(voting, tmp_path / "model")


def test_every_public_estimator_can_be_saved():
    public = {name for name in eqkernels.__all__ if hasattr(getattr(eqkernels, name), "get_params")}
    public -= {"FunctionFeatures", "MACEFeatures", "CalculatorBaseline"}  # they hold what other programs made
    assert public <= {name for names in CLASSES.values() for name in names}


def test_kernels_can_be_saved():
    kernels = {
        name
        for name in eqkernels.kernels.__all__
        if hasattr(getattr(eqkernels.kernels, name), "get_params") and name != "TensorKernel"
    }
    assert kernels <= {name for names in CLASSES.values() for name in names}


def test_public_names_are_those_of_the_classes():
    for name in TRUSTED:
        module, _, class_name = name.rpartition(".")
        assert isinstance(getattr(sys.modules[module], class_name), type), name


def test_golden_files_have_public_names_alone():
    for path in GOLDEN_FILES:
        text = ZipFile(path).read("schema.json").decode()
        assert "._" not in text.replace('"_', ""), path
        assert str(Path.home()) not in text, path
