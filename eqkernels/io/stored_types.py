"""Which objects may be in a saved model, under which names: a list, and two walks through skops' schema.

The schema is nested JSON. Every object in it is a dict with the module and name of its class and the ``__loader__``
that makes it. On the way out, classes get their public names, which later versions keep, and what depends on versions
of numpy is replaced; on the way in, everything that is not listed here is refused before skops sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

_ESTIMATORS = (
    "Bispectrum",
    "ChargeKernel",
    "CovariantKernel",
    "EquivariantNetwork",
    "EquivariantNetworkRegressor",
    "EquivariantPCA",
    "EquivariantUnion",
    "FeatureSelection",
    "LambdaSOAP",
    "MultiScale",
    "NBodyFeatures",
    "SOAP",
    "SparseTensorGPR",
    "SphericalExpansion",
    "TensorCommittee",
    "TensorGPR",
    "TensorKernelRidge",
    "TensorRidge",
    "AutoTensorRegressor",
    "TensorVotingRegressor",
    "TholePolarizability",
    "WignerKernel",
)
#: classes by the module that makes them public
CLASSES = {
    "eqkernels": _ESTIMATORS,
    "eqkernels.kernels": ("AtomicDipoleKernel", "Product", "Restricted", "Scaled", "Sum"),
    "eqkernels.learned": ("Readout",),
    "eqkernels.regression": ("SparseFieldGPR",),
    "eqkernels.so3": ("CartesianTensor", "Irrep", "Irreps"),
    "sklearn.pipeline": ("Pipeline",),
}
TRUSTED = [f"{module}.{name}" for module, names in CLASSES.items() for name in names]
_NUMBERS = [f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)]
#: what each of skops' loaders may make
_ALLOWED = {
    "ObjectNode": set(TRUSTED),
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "JsonNode": {"builtins.str"},
    "TypeNode": {"builtins.str", "builtins.int"},
    "NdArrayNode": {"numpy.ndarray", "numpy.bool_", "numpy.str_", *(f"numpy.{name}" for name in _NUMBERS)},
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
}
#: why some objects are not stored, and what to do
_REASONS = dict.fromkeys(
    ("eqkernels.descriptors.external.FunctionFeatures", "eqkernels.descriptors.mace_features.MACEFeatures"),
    "it holds a function or network of another program. Fit the model to descriptor.fit_transform(frames), save it, "
    "and predict from features",
)
_ADVICE = "joblib.dump stores any model, for your own use with the same versions"


def portable_schema(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Put public names into a schema, which is then the same for the same model.

    Parameters
    ----------
    schema : dict
        As skops writes it.

    Returns
    -------
    schema : dict
    arrays : dict of str to str
        The names that skops gave to the members with arrays, by their new names.

    Raises
    ------
    TypeError
        That names what is in the model that cannot be stored.
    """
    public = _public_names()
    files: dict[str, str] = {}
    for where, node in _nodes(schema, "the model"):
        name = _name(node)
        name = "numpy.bool_" if name == "numpy.bool" else public.get(name, name)
        if name not in _ALLOWED.get(node["__loader__"], ()):
            kind = _described(name, node["__loader__"])
            raise TypeError(f"{where} is {kind}, which save_model does not store: {_REASONS.get(name, _ADVICE)}")
        node["__module__"], _, node["__class__"] = name.rpartition(".")
        if node.get("type") == "numpy":
            node["file"] = files.setdefault(node["file"], f"{len(files)}.npy")
            node["__id__"] = int(node["file"].partition(".")[0]) + 1
        else:
            node.pop("__id__", None)
    return schema, {new: old for old, new in files.items()}


def check_schema(schema: Any) -> None:
    """Refuse a schema with anything that is not listed here.

    Parameters
    ----------
    schema : dict

    Raises
    ------
    ValueError
        That names what is not known, and where it is.
    """
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise ValueError("its schema is not that of a model")
    for where, node in _nodes(schema, "the model"):
        name, loader = _name(node), node["__loader__"]
        if not isinstance(loader, str) or name not in _ALLOWED.get(loader, ()):
            raise ValueError(f"{where} is {_described(name, loader)}, which is not loaded: it may run code")
        # skops would load objects that refer to each other by id any number of times
        if "__id__" in node and node.get("type") != "numpy":
            raise ValueError(f"{where} has an id, which only arrays have")
        if loader == "ObjectNode":
            _check_parameters(where, name, node)


def _check_parameters(where, name, node):
    """Refuse parameters that were added after this version: what they do is not known here."""
    module, _, class_name = name.rpartition(".")
    cls = getattr(import_module(module), class_name)
    if not hasattr(cls, "_get_param_names"):
        return
    parameters = {key for key in node["content"]["content"] if not key.startswith("_") and not key.endswith("_")}
    unknown = parameters - set(cls._get_param_names())
    if unknown:
        raise ValueError(f"{where} has the parameter {min(unknown)}, which {class_name} has not: update eqkernels")


def _nodes(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all objects with the place where they are."""
    if isinstance(node, list):
        for k, one in enumerate(node):
            yield from _nodes(one, f"{where}[{k}]")
    elif isinstance(node, dict):
        if "__loader__" in node:
            yield where, node
            where = f"{where} ({node['__class__']})" if node["__loader__"] == "ObjectNode" else where
        for key, one in node.items():
            yield from _nodes(one, where if key in ("content", "key_types") else f"{where}.{key}")


def _name(node):
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _public_names():
    """Public name of each class by the name under which skops finds it."""
    names = {}
    for module, classes in CLASSES.items():
        for name in classes:
            cls = getattr(import_module(module), name)
            names[f"{cls.__module__}.{cls.__qualname__}"] = f"{module}.{name}"
    return names


def _described(name, loader):
    kinds = {"FunctionNode": "function", "TypeNode": "class", "MethodNode": "method", "PartialNode": "partial function"}
    return f"a {kinds[loader]} ({name})" if loader in kinds else f"of type {name}"
