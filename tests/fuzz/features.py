"""Laws of descriptors.

Features are sums and products of a few hundred numbers of double precision, whose arguments, the vectors between atoms,
are known to 1e-15: 1e-10 of the norm of a row leaves room for the steepest of the radial functions. In single precision
the same sums are good to 1e-6 or so, and products of up to four of them to 1e-5: 1e-4.
"""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import reject
from sklearn.base import clone

from eqkernels import SOAP, EquivariantFeatures, EquivariantUnion, FeatureSelection
from eqkernels.so3 import wigner_d
from eqkernels.testing import random_rotation, transformed
from tests.fuzz.changes import derivative, kinks, moved, other_cell, other_images, strained, supercell


class Rows:
    """Features of any descriptor as blocks of rows, each with its structure and atom (-1 for whole structures)."""

    def __init__(self, descriptor, value, structures):
        if isinstance(value, EquivariantFeatures):
            self.blocks, self.owner, self.atom = value.blocks, value.structures, value.atoms
            return
        value = value.toarray() if hasattr(value, "toarray") else value
        self.blocks = {"0e": value[:, None]}
        self.owner, self.atom = np.arange(len(structures)), np.full(len(structures), -1)
        if descriptor.aggregate is None:
            is_center = [np.isin(atoms.numbers, descriptor.center_species_) for atoms in structures]
            self.owner = np.repeat(np.arange(len(structures)), [one.sum() for one in is_center])
            self.atom = np.concatenate([np.flatnonzero(one) for one in is_center])

    def of(self, k):
        """Blocks of a structure."""
        return {key: block[self.owner == k] for key, block in self.blocks.items()}


def fitted(case):
    structures = [one.atoms() for one in case.fit]
    y = None if case.labels is None else case.labels.of(structures)
    return clone(case.model).fit(structures, y), structures


def rows_of(descriptor, structures):
    return Rows(descriptor, descriptor.transform(structures), structures)


def single(descriptor):
    """Whether features are of single precision."""
    parts = [descriptor]
    if hasattr(descriptor, "steps"):
        parts = [step for _, step in descriptor.steps]
    if isinstance(descriptor, EquivariantUnion):
        parts = [one for _, one in descriptor.transformers]
    return any(getattr(one, "dtype", None) == "float32" for one in parts)


def tolerance_of(descriptor):
    return 1e-4 if single(descriptor) else 1e-10


def scales_of(descriptor, reference, structures):
    """Size of what the rows of features are made of, of all features of which a selection keeps a few."""
    if not (hasattr(descriptor, "steps") and isinstance(descriptor.steps[-1][1], FeatureSelection)):
        return row_scales(reference.blocks)
    return row_scales(rows_of(descriptor[:-1], structures).blocks)


def row_scales(blocks):
    """Size of what rows are made of: their norm, at least a part of the largest.

    Rows smaller than 1e-4 of the largest (far neighbors only) are rounding errors of the tabulated radial functions,
    which are relative to their largest value; rows of principal components may be left over from larger ones.
    """
    norms = sum((block**2).sum(axis=(1, 2), dtype=float) for block in blocks.values()) ** 0.5
    return np.maximum(norms, 1e-2 * norms.max(initial=0.0)) + 1e-280


def difference(got, expected, scales):
    """Largest difference of blocks, each row relative to its scale."""
    worst = 0.0
    for key, block in expected.items():
        assert got[key].shape == block.shape, f"block {key} has shape {got[key].shape}, expected {block.shape}"
        assert np.isfinite(block).all(), f"block {key} is not finite"
        change = np.abs(got[key].astype(float) - block).max(axis=(1, 2), initial=0.0)
        change[~np.isfinite(change)] = np.inf
        worst = max(worst, (change / scales).max(initial=0.0))
    return worst


def check_symmetry_of_features(fuzz, case):
    descriptor, structures = fitted(case)
    random = np.random.default_rng(case.seed)
    reference = rows_of(descriptor, structures)
    scales, tolerance = scales_of(descriptor, reference, structures), tolerance_of(descriptor)
    for sign in (1, -1):
        rotation = sign * random_rotation(np.random.RandomState(case.seed % 2**31))
        got = rows_of(descriptor, [transformed(atoms, rotation) for atoms in structures])
        expected = {key: wigner_d(key, rotation) @ block for key, block in reference.blocks.items()}
        fuzz.compare(
            "rotation" if sign > 0 else "improper rotation", difference(got.blocks, expected, scales), tolerance
        )
    shift = random.normal(scale=5.0, size=3)
    changes = {
        "translation": lambda atoms: transformed(atoms, translation=shift),
        "choice of the cell": lambda atoms: other_cell(atoms, random),
        "images of atoms": lambda atoms: other_images(atoms, random),
    }
    for law, change in changes.items():
        got = rows_of(descriptor, [change(atoms) for atoms in structures])
        fuzz.compare(law, difference(got.blocks, reference.blocks, scales), tolerance)
    orders = [random.permutation(len(atoms)) for atoms in structures]
    moved = [transformed(atoms, order=order) for atoms, order in zip(structures, orders, strict=True)]
    got = rows_of(descriptor, moved)
    for k, order in enumerate(orders):
        mine, theirs = reference.atom[reference.owner == k], got.atom[got.owner == k]
        place = {atom: row for row, atom in enumerate(mine)}
        rows = [0] if -1 in place else [place[order[atom]] for atom in theirs]
        expected = {key: block[rows] for key, block in reference.of(k).items()}
        fuzz.compare("order of atoms", difference(got.of(k), expected, scales[reference.owner == k][rows]), tolerance)


def check_supercells_of_features(fuzz, case):
    descriptor, structures = fitted(case)
    random = np.random.default_rng(case.seed)
    reference = rows_of(descriptor, structures)
    scales, tolerance = scales_of(descriptor, reference, structures), tolerance_of(descriptor)
    larger = [supercell(atoms, random) for atoms in structures]
    got = rows_of(descriptor, [atoms for atoms, _ in larger])
    for k, (atoms, times) in enumerate(larger):
        place = {atom: row for row, atom in enumerate(reference.atom[reference.owner == k])}
        rows = [0] if -1 in place else [place[tag] for tag in atoms.get_tags()[got.atom[got.owner == k]]]
        factor = times if getattr(descriptor, "aggregate", None) == "sum" and isinstance(descriptor, SOAP) else 1
        expected = {key: factor * block[rows] for key, block in reference.of(k).items()}
        within = factor * scales[reference.owner == k][rows]
        fuzz.compare("supercell", difference(got.of(k), expected, within), tolerance)


def check_batches_of_features(fuzz, case):
    descriptor, structures = fitted(case)
    tolerance = tolerance_of(descriptor)
    reference = rows_of(descriptor, structures)
    scales = scales_of(descriptor, reference, structures)
    for k, atoms in enumerate(structures):
        alone = rows_of(descriptor, [atoms]).blocks
        fuzz.compare("alone", difference(alone, reference.of(k), scales[reference.owner == k]), tolerance)
    order = np.random.default_rng(case.seed).permutation(len(structures))
    got = rows_of(descriptor, [structures[k] for k in order])
    for k, place in enumerate(np.argsort(order)):
        fuzz.compare(
            "order of structures", difference(got.of(place), reference.of(k), scales[reference.owner == k]), tolerance
        )
    jobs = [name for name in descriptor.get_params() if name.split("__")[-1] == "n_jobs"]
    y = None if case.labels is None else case.labels.of(structures)
    threaded = clone(case.model).set_params(**dict.fromkeys(jobs, 2)).fit(structures, y)
    identical = difference(rows_of(threaded, structures).blocks, reference.blocks, scales)
    fuzz.compare("n_jobs", identical, tolerance)


def check_copies_of_features(fuzz, case):
    descriptor, structures = fitted(case)
    reference = rows_of(descriptor, structures).blocks
    again = clone(descriptor)
    y = None if case.labels is None else case.labels.of(structures)
    renewed = clone(case.model)
    renewed.set_params(**{k: v for k, v in renewed.get_params(deep=False).items() if k != "steps"})
    objects = np.empty(len(structures), dtype=object)
    objects[:] = structures
    read_only = [atoms.copy() for atoms in structures]
    for atoms in read_only:
        atoms.positions.flags.writeable = False
    values = {
        "clone": (again.fit(structures, y), structures),
        "set_params": (renewed.fit(structures, y), structures),
        "pickle": (pickle.loads(pickle.dumps(descriptor)), structures),
        "tuple": (descriptor, tuple(structures)),
        "object array": (descriptor, objects),
        "read-only positions": (descriptor, read_only),
    }
    for law, (other, given_structures) in values.items():
        blocks = Rows(other, other.transform(given_structures), structures).blocks
        same = all(np.array_equal(blocks[key], block) for key, block in reference.items())
        fuzz.compare(law, 0.0 if same else np.inf, 1e-300)


def check_gradients(fuzz, case):
    descriptor, structures = fitted(case)
    parts = [descriptor]
    if isinstance(descriptor, EquivariantUnion):
        parts = [one for _, one in descriptor.transformers]
    if single(descriptor) or kinks(structures, parts):
        reject()
    random = np.random.default_rng(case.seed)
    reference = rows_of(descriptor, structures)
    moves = [random.normal(size=atoms.positions.shape) for atoms in structures]
    strains = [random.normal(size=(3, 3)) for _ in structures]
    by_moves = derivative(lambda h: rows_of(descriptor, moved(structures, moves, h)).blocks)
    by_strains = derivative(lambda h: rows_of(descriptor, strained(structures, strains, h)).blocks)
    sizes = {
        key: max(np.abs(by_moves[key]).max(initial=0.0), np.abs(by_strains[key]).max(initial=0.0),
                 np.abs(block).max(initial=0.0))
        for key, block in reference.blocks.items()
    }  # fmt: skip
    largest = max(sizes.values(), default=0.0) + 1e-280
    if hasattr(descriptor, "vjp"):
        cotangents = {key: random.normal(size=block.shape) for key, block in reference.blocks.items()}
        passed = cotangents["0e"][:, 0] if isinstance(descriptor, SOAP) else cotangents
        vjp = descriptor.vjp(structures, passed)
        size = sum(np.linalg.norm(block) for block in cotangents.values()) * largest
        for law, got, expected in (
            ("vjp by positions", np.sum(vjp.positions * np.concatenate(moves)), by_moves),
            ("vjp by strain", np.sum(vjp.strain * np.array(strains)), by_strains),
        ):
            expected = sum(np.sum(cotangents[key] * block) for key, block in expected.items())
            fuzz.compare(law, abs(got - expected) / size, 1e-6)
    aggregated = isinstance(descriptor, SOAP) and descriptor.aggregate is not None
    if not hasattr(descriptor, "gradients") or isinstance(descriptor, EquivariantUnion) or aggregated:
        return
    gradients = descriptor.gradients(structures, strain=True)
    for key, expected in by_moves.items():
        got = np.zeros(expected.shape)
        flat = np.concatenate(moves)
        first = np.cumsum([0, *(len(atoms) for atoms in structures)])
        along = np.einsum("exdf,ex->edf", gradients.blocks[key], flat[first[gradients.structures] + gradients.atoms])
        np.add.at(got, gradients.centers, along)
        fuzz.compare("gradients by positions", np.abs(got - expected).max(initial=0.0) / largest, 1e-6)
        got = np.einsum("ixydf,ixy->idf", gradients.strain[key], np.array(strains)[reference.owner])
        fuzz.compare("gradients by strain", np.abs(got - by_strains[key]).max(initial=0.0) / largest, 1e-6)
