"""``eqkernels inspect``: what is in files, before anything is learned from them."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from eqkernels import LambdaSOAP
from eqkernels.cli.console import Problem, show, table
from eqkernels.io import read_files
from eqkernels.io.label_reader import labels_of
from eqkernels.io.label_sources import LabelSource
from eqkernels.metrics import isotropic_mean
from eqkernels.so3 import cartesian_tensor
from eqkernels.so3.inference import infer_formula
from eqkernels.structures import StructureBatch, is_by_structure, read_labels
from eqkernels.symmetry import check_labels
from eqkernels.symmetry.reach import description, unreachable_parts

# Structures that are compared with each other.
_MOST_COMPARED = 2000
# Squared cosine of averaged features above which structures are nearly the same.
_DUPLICATE = 1 - 1e-8
# Deviations from the median, in units of the median deviation, beyond which a label is far out.
_FAR_OUT = 12.0
_LISTED = 5
# Labels are compared with a model for so many structures at most, of so many species.
_FEWEST_CHECKED, _MOST_CHECKED, _MOST_SPECIES = 20, 300, 8
_CUTOFFS = (3.0, 4.0, 5.0, 6.0)


def inspect(paths: list[Path], index: str = ":") -> None:
    """Print structures, species, labels, outliers and duplicates of files."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise Problem(f"there is no file {missing[0]}")
    source = LabelSource(read_files([str(path) for path in paths], index if ":" in index else f"{index}:"))
    frames, found = source.frames, source.found
    if not frames:
        raise Problem(f"there are no structures in {paths[0]}")
    StructureBatch.from_frames(frames)  # refuses what no model can read
    _show_structures(frames)
    if not found:
        show("no labels: structures only")
    for one in found:
        if not one.is_target:
            show(f"not a target: {one}")
    rows, remarks = [], []
    for one in (one for one in found if one.is_target):
        row, more = _label(source, one)
        rows.append(row)
        remarks += more
    if rows:
        table("labels", ("key", "what", "structures", "tensor", "irreps", "spread", "part of each irrep"), rows)
    for remark in remarks:
        show(remark)
    _show_duplicates(frames)


def _show_structures(frames):
    compositions = Counter(atoms.get_chemical_formula() for atoms in frames)
    periodic = sum(bool(atoms.cell.rank == 3 and atoms.pbc.any()) for atoms in frames)
    symbols = Counter(symbol for atoms in frames for symbol in atoms.get_chemical_symbols())
    sizes = np.array([len(atoms) for atoms in frames])
    show(
        f"{len(frames)} structures ({periodic} periodic) of {sizes.min()} to {sizes.max()} atoms, "
        f"{len(compositions)} compositions: {_some(compositions)}"
    )
    show(f"{len(symbols)} elements, atoms of each: {_some(symbols, 12)}")
    neighbors = ", ".join(f"{_n_neighbors(frames, cutoff):.1f} within {cutoff:g}" for cutoff in _CUTOFFS)
    show(f"neighbors of an atom on average: {neighbors} Angstrom")


def _n_neighbors(frames, cutoff):
    from ase.neighborlist import neighbor_list

    some = frames[:: max(1, len(frames) // 50)]
    return sum(len(neighbor_list("i", _plain(atoms), cutoff)) for atoms in some) / sum(len(atoms) for atoms in some)


def _plain(atoms):
    """Molecules may have periodic flags without a cell."""
    if atoms.cell.rank == 3:
        return atoms
    atoms = atoms.copy()
    atoms.pbc &= np.array([vector.any() for vector in atoms.cell])
    return atoms


def _some(counts, n=6):
    words = ", ".join(f"{name} {count}" for name, count in counts.most_common(n))
    return words + (", ..." if len(counts) > n else "")


def _label(source, one):
    """Row of the table, and remarks on a label."""
    what = " or ".join(one.guesses) or one.key
    start = (one.key, what + (" of each atom" if one.per_atom else ""), f"{one.n_present} of {one.n_structures}")
    if one.per_atom is None:
        return (*start, "vectors of the atoms, or a tensor: --per-atom or --no-per-atom", "", "", ""), []
    y, _, _ = labels_of(source, one, per_atom=one.per_atom)
    values, owners = _rows(y)
    known = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    values, owners = values[known], owners[known]
    formula = infer_formula(values) if values.ndim > 1 else ""
    tensor = cartesian_tensor(formula)
    deviations = values - isotropic_mean(values)
    norms = np.linalg.norm(deviations.reshape(len(values), -1), axis=1)
    blocks = tensor.to_irreps(tensor.project(deviations))
    total = max(float(np.sum(norms**2)), np.finfo(float).tiny)
    parts = ", ".join(f"{key} {np.sum(block**2) / total:.0%}" for key, block in blocks.items())
    row = (*start, formula or "scalar", str(tensor.irreps).replace("1x", ""), float(np.sqrt(np.mean(norms**2))), parts)
    return row, [
        *_outliers(one.key, norms, owners),
        *_forbidden(one, source.frames, y),
        *_mistakes(one, source.frames, y),
    ]


def _forbidden(one, frames, y):
    """Labels with parts that the symmetry of their structures forbids."""
    target = one.guesses[0] if len(one.guesses) == 1 else None
    batch = StructureBatch.from_frames(frames, quiet=True)
    try:
        labels = read_labels(y, np.diff(batch.offsets), target, one.per_atom)
    except ValueError:  # not of all structures
        return
    parts = list(unreachable_parts(batch, labels))
    if parts:
        yield f"{one.key}: {description(batch, labels, parts)}"


def _mistakes(one, frames, y):
    """Labels that do not follow their structures."""
    some = range(min(len(frames), _MOST_CHECKED))
    known = [k for k in some if np.isfinite(np.asarray(y[k], dtype=float)).all()]
    species = {int(number) for k in known for number in frames[k].numbers}
    if len(known) < _FEWEST_CHECKED or len(species) > _MOST_SPECIES:
        return
    target = one.guesses[0] if len(one.guesses) == 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check_labels([frames[k] for k in known], y[known], target, per_atom=one.per_atom)
    for finding in report[:_LISTED]:
        where = "all structures" if finding.structure is None else f"structure {known[finding.structure]}"
        where += "" if finding.atom is None else f", atom {finding.atom}"
        yield f"{one.key} of {where}: {finding.text}"
    if len(report) > _LISTED:
        yield f"{one.key}: {len(report) - _LISTED} more labels do not follow their structures"


def _rows(y: Any):
    """Labels one below the other, and the structure of each."""
    if not is_by_structure(y):
        return np.asarray(y, dtype=float), np.arange(len(y))
    counts = [len(one) for one in y]
    return np.concatenate([np.asarray(one, dtype=float) for one in y]), np.repeat(np.arange(len(y)), counts)


def _outliers(key, norms, owners):
    middle = np.median(norms)
    width = np.median(np.abs(norms - middle))
    far = np.flatnonzero(norms > middle + _FAR_OUT * width) if width > 0 else np.array([], dtype=int)
    if len(far):
        far = far[np.argsort(-norms[far])]
        which = list(dict.fromkeys(int(owners[k]) for k in far))
        listed = ", ".join(map(str, which[:_LISTED])) + (", ..." if len(which) > _LISTED else "")
        yield f"{key}: far from the others in {len(which)} structures: {listed} (check units, and the calculations)"


def _show_duplicates(frames):
    """Print pairs of structures with nearly the same environments."""
    some = frames[:_MOST_COMPARED]
    descriptor = LambdaSOAP(cutoff=4.0, n_max=4, l_max=2, irreps="0e", n_species_channels=None)
    if len({int(number) for atoms in some for number in atoms.numbers}) > 6:
        descriptor.set_params(compression="mu2")
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, atoms in enumerate(some):
        groups.setdefault(tuple(sorted(atoms.numbers.tolist())), []).append(k)
    rows = descriptor.fit_transform(some).invariants("sum")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = []
    for members in groups.values():
        similar = np.triu((rows[members] @ rows[members].T) ** 2 > _DUPLICATE, 1)
        pairs += [(members[i], members[j]) for i, j in np.argwhere(similar)]
    if pairs:
        listed = ", ".join(f"{i} and {j}" for i, j in pairs[:_LISTED]) + (", ..." if len(pairs) > _LISTED else "")
        show(f"{len(pairs)} pairs of structures are nearly the same: {listed} (keep them in one group when you split)")
    else:
        more = f" among the first {_MOST_COMPARED}" if len(frames) > _MOST_COMPARED else ""
        show(f"no two structures are nearly the same{more}")
