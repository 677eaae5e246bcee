"""Structures, tensors and errors in chemiscope, an interactive viewer (https://chemiscope.org)."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from eqkernels._fitted import gives_std
from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.plotting.meshes import arrow_sizes, ellipsoid_axes
from eqkernels.plotting.similarity import (
    atoms_of_centers,
    features_of,
    kernel_map,
)
from eqkernels.regression.fitted_targets import is_per_atom, target_of
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import Labels, as_list, read_labels
from eqkernels.structures.paired import join_atoms

_COLORS = {"predicted": "#ff7f0e", "reference": "#1f77b4"}
# Length in Angstrom of arrows and of the longest semiaxes, in root mean square: on atoms, and at the center of mass.
_ON_ATOM, _AT_CENTER = {1: 0.8, 2: 0.5}, 1.2
# Arrows begin so far from the center of an atom, in Angstrom: outside of its ball.
_GAP = 0.4
# Shapes that vanish get this size, for chemiscope expects a shape for each atom.
_INVISIBLE = 1e-6
_ENDINGS = (".json", ".json.gz", ".html")


def to_chemiscope(
    frames: Iterable[Atoms],
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    y: ArrayLike | None = None,
    y_pred: ArrayLike | None = None,
    y_std: ArrayLike | None = None,
    target: str | CartesianTensor | None = None,
    per_atom: bool | None = None,
    features: EquivariantFeatures | None = None,
    kernel: TensorKernel | None = None,
    name: str = "tensor",
    unit: str = "",
    cutoff: float = 5.0,
) -> None:
    """Write structures with predicted and reference tensors for chemiscope.

    Vectors become arrows, and tensors of rank 2 the ellipsoids of their symmetric parts, whose semiaxes are the moduli
    of the eigenvalues: shapes named "predicted" and "reference", on atoms or at the centers of mass. What does not
    depend on the lab frame becomes properties for the map: the Frobenius norm, the size of each irrep (its norm; with
    the sign for scalars), the norm of the error, and as error bar the root of the sum of the variances of all
    components.

    Parameters
    ----------
    frames : sequence of ase.Atoms
    path : str or path-like
        Ends with ``.json`` or ``.json.gz``, for https://chemiscope.org, or with ``.html``: a page with the viewer in
        it, which a browser opens without a network.
    model : fitted estimator, or pipeline or search of one, default=None
        Predicts what is not passed: y_pred, y_std (if it can) and features.
    y, y_pred, y_std : array-like, default=None
        Reference and predicted tensors and standard deviations, as for ``fit`` and of ``predict``.
    target : str or CartesianTensor, default=None
        Name of the property or index symmetry; None: that of the model, or found from the tensors.
    per_atom : bool, default=None
        Whether the tensors belong to atoms; None: as the model or the target says, or the only way that is possible.
    features : EquivariantFeatures, default=None
        Of which kernel principal components are the axes of the map; None: those of the model.
    kernel : kernel, default=None
        For the map, as for :class:`KernelMapDisplay`.
    name : str, default="tensor"
        What the tensors are.
    unit : str, default=""
        Of the tensors.
    cutoff : float, default=5.0
        Radius of the environments that are shown around atoms, in Angstrom.

    Raises
    ------
    ImportError
        If chemiscope is not installed.
    ValueError
        If there are no tensors, they do not fit the structures, or the path ends in another way.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> to_chemiscope(data.frames[:5], "dipoles.html", y=data.dipole[:5], name="dipole", unit="e a0")  # doctest: +SKIP
    """
    try:
        import chemiscope
    except ImportError as error:
        raise ImportError('chemiscope is not installed: pip install "eqkernels[chemiscope]"') from error
    if not os.fspath(path).endswith(_ENDINGS):
        raise ValueError(f"path={os.fspath(path)!r} must end with {', '.join(_ENDINGS)}")
    frames = as_list(frames)
    if model is not None:
        y_pred, y_std = _predictions(model, frames, y_pred, y_std)
        target = target_of(model) if target is None else target
        per_atom = is_per_atom(model) if per_atom is None else per_atom
        features = features_of(model, frames) if features is None else features
    labels = _labels(frames, {"predicted": y_pred, "reference": y}, target, per_atom)
    points = _Points(frames, labels)
    properties = points.properties(labels, y_std, name, unit)
    if features is not None:
        properties |= points.map_properties(features, kernel)
    shapes, scale = points.shapes(labels)
    data = chemiscope.create_input(
        frames,
        metadata={"name": name, "description": _description(labels, name, unit, scale)},
        properties={key: {"target": points.target, **one} for key, one in properties.items()},
        environments=[(*one, cutoff) for one in points.environments] if points.per_atom else None,
        shapes=shapes or None,
        settings=_settings(chemiscope, properties, shapes, points.target),
    )
    _write(data, os.fspath(path), name)


class _Points:
    """Points of the map: structures, or the atoms that have any tensor."""

    def __init__(self, frames: list[Atoms], labels: dict[str, Labels]):
        first = next(iter(labels.values()))
        self.frames, self.per_atom = frames, first.per_atom
        self.target = "atom" if self.per_atom else "structure"
        counts = first.n_atoms
        self.n = counts.sum() if self.per_atom else len(frames)
        self.shown = np.unique(np.concatenate([self._rows(one) for one in labels.values()]))
        structures, starts = np.repeat(np.arange(len(frames)), counts), np.cumsum(counts) - counts
        self.environments = [(int(structures[k]), int(k - starts[structures[k]])) for k in self.shown if self.per_atom]

    def _rows(self, labels):
        """Index of each tensor among all structures or atoms."""
        return np.arange(self.n) if labels.atoms is None else labels.atoms

    def _all(self, labels):
        """Tensors of all structures or atoms, NaN where there is none."""
        values = np.full((self.n, *labels.values.shape[1:]), np.nan)
        values[self._rows(labels)] = labels.values
        return values

    def properties(self, labels, y_std, name, unit):
        """Numbers that do not depend on the lab frame, by the names in the viewer."""
        columns: dict[str, Floats] = {}
        full = {kind: self._all(one) for kind, one in labels.items()}
        for kind, values in full.items():
            columns |= {f"{name} {what}, {kind}": one for what, one in _invariants(values, labels[kind].tensor).items()}
        if len(full) == 2:
            columns[f"error of {name}"] = _norms(full["predicted"] - full["reference"])
        if y_std is not None:
            std = join_atoms(y_std, "y_std")[0] if self.per_atom else np.asarray(y_std, dtype=float)
            expected = next(iter(full.values())).shape
            if std.shape != expected:
                raise ValueError(f"y_std has shape {std.shape}, expected {expected}, standard deviations of y_pred")
            columns[f"error bar of {name}"] = _norms(std)
        return {key: {"values": one[self.shown], "units": unit} for key, one in columns.items()}

    def map_properties(self, features, kernel):
        """Coordinates on the map."""
        if len(features) != len(self.frames):
            raise ValueError(f"features has {len(features)} structures, frames has {len(self.frames)}")
        rows = atoms_of_centers(features) if self.per_atom else np.arange(self.n)
        coordinates = np.full((self.n, 2), np.nan)
        coordinates[rows], shares = kernel_map(features.split_centers() if self.per_atom else features, kernel)
        text = "kernel principal component, {:.0%} of the variance"
        return {
            f"map {k + 1}": {"values": coordinates[self.shown, k], "description": text.format(shares[k])}
            for k in (0, 1)
        }

    def shapes(self, labels):
        """Arrows or ellipsoids, and the length in Angstrom of a tensor of size 1."""
        rank = next(iter(labels.values())).tensor.rank
        if rank not in (1, 2):
            return {}, 1.0
        full = {kind: np.nan_to_num(self._all(one)) for kind, one in labels.items()}
        full = full if rank == 1 else {kind: (one + one.swapaxes(1, 2)) / 2 for kind, one in full.items()}
        sizes = np.concatenate([_sizes(one) for one in full.values()])
        mean = np.sqrt(np.mean(sizes[sizes > 0] ** 2)) if sizes.any() else 1.0
        scale = (_ON_ATOM[rank] if self.per_atom else _AT_CENTER) / mean
        centers = [atoms.positions if self.per_atom else atoms.get_center_of_mass()[None] for atoms in self.frames]
        made = {}
        for kind, values in full.items():
            places = np.concatenate(centers)
            if rank == 1 and self.per_atom:
                places = places + _GAP * values / np.maximum(_sizes(values), 1e-300)[:, None]
            parameters = [(_arrow if rank == 1 else _ellipsoid)(scale * one) for one in values]
            for one, place in zip(parameters, places, strict=True):
                one["position"] = place.tolist()
            made[kind] = {
                "kind": "arrow" if rank == 1 else "ellipsoid",
                "parameters": {"global": {"color": _COLORS[kind]}, self.target: parameters},
            }
        return made, scale


def _predictions(model, frames, y_pred, y_std):
    """Predicted tensors and, of models that have them, standard deviations, where they are not passed."""
    if y_pred is not None:
        return y_pred, y_std
    if y_std is None and gives_std(model):
        return model.predict(frames, return_std=True)
    return model.predict(frames), y_std


def _labels(frames, tensors, target, per_atom) -> dict[str, Labels]:
    """Predicted and reference tensors, checked, of one rank and both of structures or of atoms."""
    n_atoms = np.array([len(atoms) for atoms in frames])
    labels = {kind: read_labels(one, n_atoms, target, per_atom) for kind, one in tensors.items() if one is not None}
    if not labels:
        raise ValueError("there are no tensors: pass a model, y_pred or y")
    if len({(one.per_atom, one.tensor.rank) for one in labels.values()}) > 1:
        raise ValueError(
            "y and y_pred have different shapes: both must be tensors of one rank, of structures or of atoms"
        )
    return labels


def _norms(values: Floats) -> Floats:
    return np.linalg.norm(values.reshape(len(values), -1), axis=1)


def _sizes(values: Floats) -> Floats:
    """Lengths of vectors, or the largest moduli of the eigenvalues of symmetric matrices."""
    return np.linalg.norm(values, axis=1) if values.ndim == 2 else np.linalg.norm(values, ord=2, axis=(1, 2))


def _invariants(values: Floats, tensor: CartesianTensor) -> dict[str, Floats]:
    """Norm of tensors, and size of each irrep if there are several."""
    if tensor.rank == 0:
        return {"value": values}
    blocks = tensor.to_irreps(values)
    sizes = {key: block[:, 0, 0] if block.shape[1:] == (1, 1) else _norms(block) for key, block in blocks.items()}
    return {"norm": _norms(values), **(sizes if len(sizes) > 1 else {})}


def _arrow(vector: Floats) -> dict[str, Any]:
    length = float(np.linalg.norm(vector))
    stem, head, head_length = arrow_sizes(max(length, _INVISIBLE))
    vector = vector if length > _INVISIBLE else np.array([0.0, 0.0, _INVISIBLE])
    return {"vector": vector.tolist(), "baseRadius": stem, "headRadius": head, "headLength": head_length}


def _ellipsoid(matrix: Floats) -> dict[str, Any]:
    values, vectors = ellipsoid_axes(matrix)
    semiaxes = np.maximum(np.abs(values), _INVISIBLE).tolist()
    return {"semiaxes": semiaxes, "orientation": Rotation.from_matrix(vectors).as_quat().tolist()}


def _description(labels, name, unit, scale):
    rank = next(iter(labels.values())).tensor.rank
    what = {1: "An arrow of 1 Å", 2: "A semiaxis of 1 Å"}.get(rank)
    return f"{', '.join(labels)} {name}." + (f" {what} is {1 / scale:.3g} {unit}".rstrip() + "." if what else "")


def _settings(chemiscope, properties, shapes, target):
    """Choose what the viewer shows first: the map, or else norms and errors."""
    names = list(properties)
    error = next((one for one in names if one.startswith("error of ")), names[0])
    axes = {"x": "map 1", "y": "map 2"} if "map 1" in names else {"x": names[0], "y": error}
    # of two ellipsoids at one place only the first, which would hide the other
    arrows = all(one["kind"] == "arrow" for one in shapes.values())
    structure = {"shape": ",".join(shapes if arrows else list(shapes)[:1])} if shapes else {}
    return chemiscope.quick_settings(**axes, map_color=error, target=target, structure_settings=structure)


def _write(data: dict[str, Any], path: str, name: str) -> None:
    if path.endswith(".json.gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            json.dump(data, file)
    else:
        Path(path).write_text(_page(data, name) if path.endswith(".html") else json.dumps(data), encoding="utf-8")


def _page(data, name):
    """Page with the viewer and the data in it."""
    import html

    import chemiscope

    viewer = Path(chemiscope.__file__).parent / "sphinx" / "static" / "chemiscope.min.js"
    return (
        _PAGE.replace("$TITLE", html.escape(name))
        .replace("$DATA", json.dumps(data).replace("</", "<\\/"))
        .replace("$VIEWER", viewer.read_text(encoding="utf-8").replace("</script", "<\\/script"))
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$TITLE</title>
<style>
body { margin: 0; font-family: sans-serif; }
#viewer { display: flex; height: 100vh; }
#viewer > div { flex: 1; display: flex; flex-direction: column; min-width: 0; padding: 8px; }
#map, #structure { flex: 1; position: relative; min-height: 0; }
</style>
</head>
<body>
<div id="viewer">
<div><div id="meta"></div><div id="map"></div></div>
<div><div id="structure"></div><div id="info"></div></div>
</div>
<script>$VIEWER</script>
<script>
const data = $DATA;
const config = { map: "map", info: "info", meta: "meta", structure: "structure" };
Chemiscope.DefaultVisualizer.load(config, data, new Chemiscope.Warnings()).then(
  () => { document.body.dataset.state = "loaded"; },
  (error) => { document.body.dataset.state = "failed"; console.error(error); }
);
</script>
</body>
</html>
"""
