"""Tensors on a molecule, in three dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from eqkernels._numeric import check_positive
from eqkernels._types import Blocks, Floats
from eqkernels.plotting._matplotlib import pyplot
from eqkernels.plotting.meshes import (
    arrow,
    ellipsoid,
    faces,
    harmonics_signal,
    longitudinal_signal,
    revolved,
    unit_directions,
)
from eqkernels.regression.fitted_targets import is_per_atom, target_of
from eqkernels.so3 import CartesianTensor, Irrep
from eqkernels.structures import read_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# View of matplotlib, and angle between that of molecules and the axis in which they are thinnest, all in degrees.
_VIEW, _TILT, _FEWEST_TO_TURN = (30, -60), 20.0, 3
_KINDS = ("auto", "arrows", "ellipsoids", "surfaces", "longitudinal")
# Radii of drawn atoms relative to covalent ones, and of bonds in Angstrom; bonds are at most this much longer than the
# sum of covalent radii.
_ATOM, _BOND, _LONGEST_BOND = 0.45, 0.08, 1.2
# Extents of the largest shape, in Angstrom; at the center of mass at least.
_ARROW_ON_ATOM, _SHAPE_ON_ATOM, _AT_CENTER = 1.5, 0.9, 1.5
# Of ellipsoids and surfaces, through which atoms are seen.
_OPACITY = 0.55
# Faces from pole to pole; with more shapes than this, meshes are coarser.
_FINE, _COARSE, _MANY = 36, 12, 20
_LIGHT = np.array([-0.4, -0.6, 0.7])


class TensorDisplay:
    """A structure with its tensor at the center of mass, or with a tensor on each atom.

    Vectors are arrows (on atoms, from the surface of the atom on), symmetric matrices ellipsoids, everything else
    surfaces, see :mod:`eqkernels.plotting.meshes`. Negative parts have another color. A rotated structure with the
    rotated tensor gives the rotated picture.

    Parameters
    ----------
    atoms : ase.Atoms
    tensors : array-like of shape (3, ..., 3) or (n_atoms, 3, ..., 3), or dict of str to array-like
        One tensor, or one for each atom (a row of NaN: none). Or coefficients of spherical harmonics by irrep, of shape
        (2 l + 1,) or (n_atoms, 2 l + 1): ``{"3o": ...}``.
    target : str or CartesianTensor, default=None
        Name of the property or index symmetry; needed where both readings are possible, as for three vectors.
    per_atom : bool, default=None
        Whether each atom has a tensor; None: as the target says, or the only way that is possible.
    kind : {"auto", "arrows", "ellipsoids", "surfaces", "longitudinal"}, default="auto"
        ``"surfaces"`` draw the components in the orthonormal basis as coefficients of harmonics, ``"longitudinal"`` the
        component that has all indices along each direction, which is what auto takes where an irrep occurs twice.
    unit : str, default=""
        Unit of the tensors, for the scale below the picture.
    scale : float, default=None
        Length in Angstrom of a tensor (a surface) of size 1; None: so that shapes are as large as atoms or structure.
    color, negative_color : str
        Colors of matplotlib.

    Attributes
    ----------
    ax_ : matplotlib Axes3D
    figure_ : matplotlib Figure
    scale_ : float
    shapes_ : list of tuple (ndarray of shape (p, q, 3), ndarray of shape (p, q))
        Points of each shape where it is drawn, and the values whose signs are the colors.
    faces_ : matplotlib Poly3DCollection
        Of atoms, bonds and shapes.

    Examples
    --------
    >>> from ase.build import molecule
    >>> display = TensorDisplay.from_predictions(molecule("H2O"), [0.0, 0.0, -0.73], target="dipole", unit="e a0")
    >>> tip = display.shapes_[0][0][-1, 0] - molecule("H2O").get_center_of_mass()
    >>> bool(tip[2] < 0)
    True
    """

    def __init__(
        self,
        atoms: Atoms,
        tensors: ArrayLike | Mapping[str, ArrayLike],
        target: str | CartesianTensor | None = None,
        *,
        per_atom: bool | None = None,
        kind: str = "auto",
        unit: str = "",
        scale: float | None = None,
        color: str = "tab:orange",
        negative_color: str = "tab:blue",
    ):
        self.atoms = atoms
        self.tensors = tensors
        self.target = target
        self.per_atom = per_atom
        self.kind = kind
        self.unit = unit
        self.scale = scale
        self.color = color
        self.negative_color = negative_color

    @classmethod
    def from_predictions(
        cls, atoms: Atoms, tensors: ArrayLike | Mapping[str, ArrayLike], *, ax: Axes | None = None, **options: Any
    ) -> TensorDisplay:
        """Draw tensors.

        Parameters
        ----------
        atoms : ase.Atoms
        tensors : array-like or dict
        ax : matplotlib Axes3D, default=None
            Where to draw; None: a new figure.
        **options
            The other parameters of the class.

        Returns
        -------
        TensorDisplay

        Raises
        ------
        ValueError
            If the tensors do not fit the structure or the kind of picture, or can be read in several ways.
        """
        return cls(atoms, tensors, **options).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, atoms: Atoms, *, ax: Axes | None = None, **options: Any) -> TensorDisplay:
        """Draw what a fitted model predicts for a structure; parameters as for :meth:`from_predictions`."""
        options = {"target": target_of(estimator), **options}
        return cls(atoms, estimator.predict([atoms])[0], per_atom=is_per_atom(estimator), **options).plot(ax)

    def plot(self, ax: Axes | None = None) -> TensorDisplay:
        """Draw atoms, bonds and tensors.

        Parameters
        ----------
        ax : matplotlib Axes3D, default=None

        Returns
        -------
        self
        """
        tensors, centers, kind = self._read()
        if ax is None:
            ax = pyplot().subplots(figsize=(4.6, 4.6), layout="constrained", subplot_kw={"projection": "3d"})[1]
        if not hasattr(ax, "set_zlim"):
            raise ValueError("ax must be three-dimensional: plt.subplots(subplot_kw={'projection': '3d'})")
        self.ax_: Any = ax
        self.figure_ = ax.figure
        directions = unit_directions(_FINE if len(tensors) <= _MANY else _COARSE)
        extents = [np.linalg.norm(_mesh(kind, one, directions)[0], axis=-1).max(initial=0.0) for one in tensors]
        largest = max(extents, default=0.0)
        self.scale_ = self.scale or (self._size(kind, len(centers)) / largest if largest > 0 else 1.0)
        self.shapes_: list[tuple[Floats, Floats]] = []
        for center, one, extent in zip(centers, tensors, extents, strict=True):
            if extent > 0:
                points, values = _mesh(kind, _scaled(one, self.scale_), directions)
                self.shapes_.append((center + points, values))
        self._draw(kind)
        space: Any = ax
        if (space.elev, space.azim) == _VIEW:  # else the caller chose one
            space.view_init(*_clear_view(self.atoms))
        return self

    def _read(self) -> tuple[list[Any], Floats, str]:
        """Tensors as arrays or dicts, where they are drawn, and the kind of picture."""
        if self.kind not in _KINDS:
            raise ValueError(f"kind={self.kind!r} must be {', '.join(map(repr, _KINDS[:-1]))} or {_KINDS[-1]!r}")
        if self.scale is not None:
            check_positive(self.scale, "scale")
        n = len(self.atoms)
        if isinstance(self.tensors, Mapping):
            blocks, per_atom = _checked_blocks(self.tensors, n)
            tensors = [{key: one[k] for key, one in blocks.items()} for k in range(n if per_atom else 1)]
            rows = np.arange(n) if per_atom else None
            kind = "surfaces" if self.kind == "auto" else self.kind
            if kind != "surfaces":
                raise ValueError(f"kind={self.kind!r} is for Cartesian tensors, of coefficients there are surfaces")
        else:
            labels = self._labels(n)
            kind, rows = _kind(self.kind, labels.tensor), labels.atoms
            tensors = list(labels.values)
            if kind == "surfaces":
                blocks = labels.tensor.to_irreps(labels.values)
                tensors = [{key: one[k][:, 0] for key, one in blocks.items()} for k in range(len(labels.values))]
        if rows is None:
            return tensors, self.atoms.get_center_of_mass()[None], kind
        centers = self.atoms.positions[rows]
        if kind == "arrows":  # they begin at the surface of the atom, in which short ones would hide
            vectors = np.array(tensors)
            lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-300)
            centers = centers + (_ATOM * covalent_radii[self.atoms.numbers[rows]] / lengths)[:, None] * vectors
        return tensors, centers, kind

    def _labels(self, n):
        """Check Cartesian tensors, and find the one way in which they can be read."""
        try:
            return read_labels([np.asarray(self.tensors, dtype=float)], np.array([n]), self.target, self.per_atom)
        except ValueError as error:
            raise ValueError(f"tensors, here called y: {error}") from error

    def _size(self, kind, n_shapes):
        """Extent of the largest shape, in Angstrom."""
        on_atoms = n_shapes != 1 or self.per_atom
        if on_atoms:
            return _ARROW_ON_ATOM if kind == "arrows" else _SHAPE_ON_ATOM
        return max(
            _AT_CENTER, 0.7 * np.linalg.norm(self.atoms.positions - self.atoms.get_center_of_mass(), axis=1).max()
        )

    def _draw(self, kind):
        from matplotlib.colors import to_rgba
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        parts, colors = _structure(self.atoms)
        pair = np.array(
            [to_rgba(one, 1.0 if kind == "arrows" else _OPACITY) for one in (self.color, self.negative_color)]
        )
        for points, values in self.shapes_:
            quadrilaterals, means = faces(points, values)
            parts.append(quadrilaterals)
            colors.append(pair[(means < 0).astype(int)])
        joined = np.concatenate(parts)
        options = {"facecolors": _shaded(joined, np.concatenate(colors)), "linewidths": 0, "antialiaseds": False}
        # one collection: matplotlib sorts faces by their depth only within one
        self.faces_ = self.ax_.add_collection3d(Poly3DCollection(joined, **options))
        corners = _draw_cell(self.ax_, self.atoms)
        _equal_limits(self.ax_, np.concatenate([corners, joined.reshape(-1, 3)]))
        self._legend(kind, (pair[:, :3] if any((values < 0).any() for _, values in self.shapes_) else None))

    def _legend(self, kind, colors):
        """Say what a length means, and what the colors."""
        what = {"arrows": "arrow", "ellipsoids": "semiaxis"}.get(kind, "radius")
        if self.shapes_:
            text = f"{what} of 1 Å: {1 / self.scale_:.3g} {self.unit}"
            self.ax_.text2D(0.5, 0.02, text, transform=self.ax_.transAxes, ha="center", fontsize=8)
        if colors is not None:
            from matplotlib.patches import Patch

            handles = [Patch(color=one, label=name) for one, name in zip(colors, ("positive", "negative"), strict=True)]
            place = {"loc": "center", "bbox_to_anchor": (0.5, -0.04), "ncols": 2}
            self.ax_.legend(handles=handles, fontsize=8, frameon=False, **place)


def _checked_blocks(tensors: Mapping[str, Any], n_atoms: int) -> tuple[Blocks, bool]:
    """Coefficients by irrep, (1 or n_atoms, 2 l + 1), and whether they belong to atoms."""
    blocks = {str(Irrep.parse(key)): np.asarray(one, dtype=float) for key, one in tensors.items()}
    if not blocks:
        raise ValueError("tensors is an empty dict: give coefficients of at least one irrep, e.g. {'2e': ...}")
    per_atom = all(one.ndim == 2 for one in blocks.values())
    for key, one in blocks.items():
        expected = ((n_atoms,) if per_atom else ()) + (Irrep.parse(key).dim,)
        if one.shape != expected:
            raise ValueError(
                f"tensors[{key!r}] has shape {one.shape}, expected {(Irrep.parse(key).dim,)} for the structure or, in "
                f"all blocks alike, {(n_atoms, Irrep.parse(key).dim)} for its atoms"
            )
        if not np.isfinite(one).all():
            raise ValueError(f"tensors[{key!r}] has NaN or infinity")
    return {key: one.reshape(-1, one.shape[-1]) for key, one in blocks.items()}, per_atom


def _kind(kind: str, tensor: CartesianTensor) -> str:
    """Kind of picture, which the tensor must allow."""
    degrees = [irrep.l for _, irrep in tensor.irreps]
    single = all(multiplicity == 1 for multiplicity, _ in tensor.irreps)
    symmetric = tensor.rank == 2 and set(degrees) <= {0, 2}
    if kind == "auto":
        if tensor.rank == 1:
            return "arrows"
        return "ellipsoids" if symmetric else "surfaces" if single else "longitudinal"
    wrong = {
        "arrows": tensor.rank != 1 and "for vectors",
        "ellipsoids": not symmetric and "for symmetric matrices",
        "surfaces": not single and "for tensors in which no irrep occurs twice (pass one copy of it as a dict)",
        "longitudinal": False,
    }[kind]
    if wrong:
        raise ValueError(f"kind={kind!r} is {wrong}, {tensor.formula!r} has the irreps {tensor.irreps}")
    return kind


def _mesh(kind: str, tensor: Any, directions: Floats) -> tuple[Floats, Floats]:
    """Points around the origin, and the values at them; both grow in proportion to the tensor."""
    if kind == "arrows":
        points = arrow(tensor) if np.any(tensor) else np.zeros((1, 1, 3))
        return points, np.ones(points.shape[:2])
    if kind == "ellipsoids":
        return ellipsoid(tensor, directions)
    values = (harmonics_signal if kind == "surfaces" else longitudinal_signal)(tensor, directions)
    return np.abs(values)[..., None] * directions, values


def _scaled(tensor, factor):
    return {key: factor * one for key, one in tensor.items()} if isinstance(tensor, dict) else factor * tensor


def _structure(atoms: Atoms) -> tuple[list[Floats], list[Floats]]:
    """Faces of atoms and bonds, and their colors."""
    radii, sphere = covalent_radii[atoms.numbers], unit_directions(_COARSE)
    parts = [faces(position + _ATOM * r * sphere)[0] for position, r in zip(atoms.positions, radii, strict=True)]
    colors = [
        np.tile([*jmol_colors[number], 1.0], (len(one), 1)) for number, one in zip(atoms.numbers, parts, strict=True)
    ]
    distances = cdist(atoms.positions, atoms.positions)
    for i, j in np.argwhere(np.triu(distances < _LONGEST_BOND * (radii[:, None] + radii), 1)):
        bond = atoms.positions[j] - atoms.positions[i]
        body = revolved(bond, np.array([0.0, distances[i, j]]), np.full(2, _BOND), 12)
        parts.append(faces(atoms.positions[i] + body)[0])
        colors.append(np.tile([0.6, 0.6, 0.6, 1.0], (len(parts[-1]), 1)))
    return parts, colors


def _shaded(quadrilaterals, colors):
    """Colors, darker where a face is turned away from the light."""
    normals = np.cross(quadrilaterals[:, 2] - quadrilaterals[:, 0], quadrilaterals[:, 3] - quadrilaterals[:, 1])
    lengths = np.maximum(np.linalg.norm(normals, axis=1), 1e-300)
    brightness = 0.8 + 0.2 * (normals @ _LIGHT) / (lengths * np.linalg.norm(_LIGHT))
    return np.column_stack([colors[:, :3] * brightness[:, None], colors[:, 3]])


def _draw_cell(ax, atoms):
    """Edges of the cell of a periodic structure; its corners are returned."""
    if not atoms.pbc.any():
        return np.zeros((0, 3))
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    for a in range(8):
        for b in range(a):
            if np.abs(corners[a] - corners[b]).sum() == 1:
                ax.plot(*(corners[[a, b]] @ atoms.cell.array).T, color="0.5", linewidth=0.8)
    return corners @ atoms.cell.array


def _clear_view(atoms):
    """Elevation and azimuth in degrees from which the fewest atoms of a molecule hide others."""
    if len(atoms) < _FEWEST_TO_TURN or atoms.cell.rank > 0:
        return _VIEW
    centered = atoms.positions - atoms.positions.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    # nearly along the axis in which the molecule is thinnest, so that its depth is still seen
    x, y, z = axes[:, 0] + np.tan(np.radians(_TILT)) * axes[:, 1]
    sign = -1.0 if z < 0 else 1.0
    return np.degrees(np.arctan2(sign * z, np.hypot(x, y))), np.degrees(np.arctan2(sign * y, sign * x))


def _equal_limits(ax, points):
    """Make the axes a cube around a sphere that has all points, without ticks, in parallel projection."""
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    half = np.linalg.norm(points - center, axis=1).max()
    ax.set(xlim=center[0] + [-half, half], ylim=center[1] + [-half, half], zlim=center[2] + [-half, half])
    ax.set_box_aspect((1, 1, 1), zoom=1.45)
    ax.set_proj_type("ortho")
    ax.set_axis_off()
