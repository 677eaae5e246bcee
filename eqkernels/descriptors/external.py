r"""Features that other programs make, such as the layers of a trained network, as a descriptor.

A program says for each atom a row of numbers, and e3nn's notation which of them turn together: ``"16x0e+8x1o"`` are 16
scalars and 8 vectors, one after the other (``layout="mul_ir"``) or by components (``"ir_mul"``). Components become
ours, m = -l ... l, by the matrix of their convention (:mod:`eqkernels.so3.conventions`): with that of e3nn, vectors
(x, y, z) become (y, z, x). Terms of the same irrep are joined in one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Choice, Flag, check_parameters
from eqkernels.descriptors.features import EquivariantFeatures, row_features
from eqkernels.descriptors.interop import arrays_of, from_metatensor, is_tensor_map
from eqkernels.so3 import Irrep, Irreps, wigner_d
from eqkernels.so3.conventions import COMPONENT_CONVENTIONS
from eqkernels.structures import FramesTransformer, StructureBatch, as_list
from eqkernels.structures.places import Places

# Largest deviation of turned features, as a part of the largest feature: networks work in single precision.
_TOLERANCE = 1e-3
# A rotation without any symmetry, by which features are checked.
_ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


class OutputIrreps:
    """Irreps of a row of numbers, or the word for tensor maps."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if isinstance(value, str) and value == "metatensor":
            return None
        try:
            empty = len(Irreps(value)) == 0
        except (TypeError, ValueError) as error:
            return f"must be irreps such as '16x0e+8x1o', or 'metatensor': {error}"
        return "has no irreps" if empty else None


class ExternalFeatures(FramesTransformer, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class: subclasses have ``_terms``, what a row is made of, and ``_rows``, which makes them."""

    convention: str
    layout: str
    check: bool

    _constraints: dict[str, Any] = {"layout": Choice("mul_ir", "ir_mul"), "check": Flag()}  # noqa: RUF012

    def _terms(self) -> list[tuple[int, Irreps]] | None:
        """Irreps of the numbers of an atom with a label for each term; None: rows are tensor maps."""
        raise NotImplementedError

    def _rows(self, frames: list[Atoms]) -> Any:
        """Arrays (n_atoms, dim) of all structures, or a tensor map of them."""
        raise NotImplementedError

    #: field of the labels that says which term of the irreps, or layer, a feature belongs to
    _field = "term"

    @property
    def _takes_batches(self) -> bool:
        return False

    def __sklearn_clone__(self):
        """Copy without the network, which both use."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms], y: Any = None) -> Any:
        """Make the features of a structure, and check that they rotate with it. Nothing is learned.

        Parameters
        ----------
        X : sequence of ase.Atoms
            The first structure of more than one atom is used.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the features have another shape, or do not rotate with the structure.
        """
        check_parameters(self)
        frames = as_list(X)
        StructureBatch.from_frames(frames)  # all are checked
        number = next((k for k, atoms in enumerate(frames) if len(atoms) > 1), 0)
        features = self._features(frames[number : number + 1], number)
        if self.check:
            self._check_turns(frames[number], features, number)
        self.irreps_ = "+".join(features.blocks)
        self.widths_ = {key: block.shape[2] for key, block in features.blocks.items()}
        return self

    def transform(self, X: Iterable[Atoms]) -> EquivariantFeatures:
        """Features of all atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        EquivariantFeatures
        """
        check_fitted(self)
        features = self._features(as_list(X), 0)
        widths = {key: block.shape[2] for key, block in features.blocks.items()}
        if widths != self.widths_ and len(features.species):
            raise ValueError(f"the features have the numbers of channels {widths}, at fit they had {self.widths_}")
        return features

    def feature_labels(self, irrep: str) -> NDArray[Any]:
        """Which term of the irreps, or which layer, each feature belongs to, and its number there.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``.

        Returns
        -------
        structured ndarray of shape (n_features,)
        """
        terms = self._terms()
        if terms is None:
            raise ValueError("labels of tensor maps are those of their properties: see transform(X).labels")
        labels = self._labels(terms)
        if irrep not in labels:
            raise ValueError(f"irrep={irrep!r} must be one of the blocks {', '.join(labels)}")
        return labels[irrep]

    def _labels(self, terms):
        channels: dict[str, list] = {}
        for label, irreps in terms:
            first: dict[str, int] = {}
            for multiplicity, irrep in irreps:
                start = first.get(str(irrep), 0)
                numbers = range(start, start + multiplicity)
                channels.setdefault(str(irrep), []).extend((label, number) for number in numbers)
                first[str(irrep)] = start + multiplicity
        fields = [(self._field, np.int64), ("channel", np.int64)]
        return {key: np.array(one, dtype=fields) for key, one in channels.items()}

    def _features(self, frames, origin):
        batch = StructureBatch.from_frames(frames, origin=origin)
        terms, made = self._terms(), self._rows(frames)
        if terms is None:
            return _of_tensor_map(made, frames, batch)
        dim = sum(irreps.dim for _, irreps in terms)
        table = self._table(made, frames, dim, origin)
        blocks: dict[str, list] = {}
        start = 0
        for _, irreps in terms:
            for multiplicity, irrep in irreps:
                part = table[:, start : start + multiplicity * irrep.dim]
                start += multiplicity * irrep.dim
                blocks.setdefault(str(irrep), []).append(self._block(part, multiplicity, irrep))
        joined = {key: np.ascontiguousarray(np.concatenate(parts, axis=2)) for key, parts in blocks.items()}
        return row_features(joined, batch, np.ones(batch.n_atoms, dtype=bool), self._labels(terms))

    def _block(self, part, multiplicity, irrep):
        """Numbers of one term as (n_atoms, 2 l + 1, multiplicity) in our components."""
        change = COMPONENT_CONVENTIONS[self.convention](irrep)
        if self.layout == "ir_mul":
            return np.einsum("em,nef->nmf", change, part.reshape(len(part), irrep.dim, multiplicity))
        return np.einsum("em,nfe->nmf", change, part.reshape(len(part), multiplicity, irrep.dim))

    def _table(self, made, frames, dim, origin):
        """Rows of all atoms below each other, checked."""
        if not isinstance(made, Sequence | np.ndarray) or len(made) != len(frames):
            count = f"{len(made)} of them" if hasattr(made, "__len__") else type(made).__name__
            raise ValueError(f"{self._maker} must return an array for each of {len(frames)} structures, got {count}")
        rows = []
        for k, (one, atoms) in enumerate(zip(made, frames, strict=True)):
            array = arrays_of(one)
            if array.shape != (len(atoms), dim):
                raise ValueError(
                    f"{self._maker} returned an array of shape {array.shape} for structure {origin + k}, expected "
                    f"({len(atoms)}, {dim}): a row for each atom, of the irreps {self._described()}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{self._maker} returned NaN or infinity for structure {origin + k}")
            rows.append(array.astype(float))
        return np.concatenate([np.zeros((0, dim)), *rows])

    def _described(self):
        return " and ".join(str(irreps) for _, irreps in self._terms() or [])

    @property
    def _maker(self):
        return "function"

    def _check_turns(self, atoms, features, number):
        """Refuse features that do not rotate as their irreps say, with rotation and inversion."""
        for rotation, parity in ((_ROTATION, 1), (np.eye(3), -1)):
            turned = atoms.copy()
            turned.set_cell(atoms.cell.array @ rotation.T)  # the lattice is its own image under inversion
            turned.positions = parity * atoms.positions @ rotation.T
            found = self._features([turned], number)
            size = max(np.abs(block).max(initial=0.0) for block in features.blocks.values())
            for key, block in features.blocks.items():
                irrep = Irrep.parse(key)
                d = wigner_d(irrep, parity * rotation)
                deviation = np.abs(found.blocks[key] - np.einsum("ab,nbf->naf", d, block)).max(initial=0.0)
                if deviation > _TOLERANCE * size:
                    how = "rotate with" if parity == 1 else "have their parity under the inversion of"
                    raise ValueError(
                        f"the features {key} do not {how} structure {number}: they deviate by {deviation / size:.1%} "
                        f"of the largest. Check irreps, convention={self.convention!r} and layout={self.layout!r}, or "
                        "set check=False where something beside the structure has a direction, such as a field"
                    )


class FunctionFeatures(ExternalFeatures, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Features that a function makes, of a trained network or any other program, for kernels and other models.

    Parameters
    ----------
    function : callable
        Takes a list of frames, and returns for each of them an array (n_atoms, dim): a row for each atom.
    irreps : str or Irreps
        What a row consists of, in e3nn's notation, e.g. ``"16x0e+8x1o+4x2e"``. ``"metatensor"``: the function returns
        a ``metatensor.TensorMap``, which says it (:meth:`EquivariantFeatures.from_metatensor`).
    convention : {"e3nn", "eqkernels", "pyscf"}, default="e3nn"
        Order of the components, see :func:`~eqkernels.so3.to_spherical`: vectors are x, y, z in that of e3nn.
    layout : {"mul_ir", "ir_mul"}, default="mul_ir"
        Whether all components of a channel stand together, as in e3nn, or all channels of a component.
    check : bool, default=True
        Whether ``fit`` rotates and inverts a structure, and refuses features that do not rotate with it.

    Attributes
    ----------
    irreps_ : str
        The irreps of the blocks.
    widths_ : dict of str to int
        Features of each block.

    See Also
    --------
    MACEFeatures : Those of MACE.

    Notes
    -----
    Features should not depend on the other structures of the list. They have no derivatives by positions. Clones share
    the function. :func:`~eqkernels.save_model` does not store functions: save the model that was fitted to the
    features, not the pipeline.

    Examples
    --------
    Sums over neighbors that turn as vectors, x, y, z:

    >>> from ase.build import molecule
    >>> def pull(frames):
    ...     return [(atoms.positions.mean(axis=0) - atoms.positions) for atoms in frames]
    >>> FunctionFeatures(pull, "1o").fit_transform([molecule("H2O")])
    EquivariantFeatures(1 structures, 3 centers, blocks: 1o (3, 3, 1))
    """

    _constraints = {  # noqa: RUF012
        **ExternalFeatures._constraints,
        "irreps": OutputIrreps(),
        "convention": Choice("e3nn", "eqkernels", "pyscf"),
    }

    def __init__(
        self,
        function: Callable[[list[Atoms]], Any],
        irreps: str | Irreps,
        *,
        convention: str = "e3nn",
        layout: str = "mul_ir",
        check: bool = True,
    ):
        self.function = function
        self.irreps = irreps
        self.convention = convention
        self.layout = layout
        self.check = check

    def _terms(self):
        if isinstance(self.irreps, str) and self.irreps == "metatensor":
            return None
        return [(k, Irreps([term])) for k, term in enumerate(Irreps(self.irreps))]

    def _rows(self, frames):
        if not callable(self.function):
            raise TypeError(f"function={self.function!r:.60} must be a function of a list of frames")
        return self.function([atoms.copy() for atoms in frames])


def _of_tensor_map(made, frames, batch):
    """Features of what a function returned as a tensor map."""
    if not is_tensor_map(made):
        raise TypeError(
            f"function must return a metatensor.TensorMap with irreps='metatensor', got {type(made).__name__}"
        )
    arrays = from_metatensor(made, frames=frames)
    features = EquivariantFeatures(**arrays)
    rows = batch.offsets[features.structures] + features.atoms
    features.places, features.origin = Places.of_batch(batch, rows), batch.origin
    return features
