"""Laws of models.

Predictions multiply errors of features, 1e-14 or so, by coefficients of 1 / alpha at most: they shall be exact to 1e-8
of the spread of the labels.
"""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import reject
from sklearn.base import clone

from eqkernels import CovariantKernel
from eqkernels.testing import random_rotation, transformed
from tests.fuzz.changes import STEP, derivative, kinks, moved, other_cell, other_images, strained, supercell


def fit_options(case, n, model):
    if not case.more.get("weighted"):
        return {}
    weight = np.random.default_rng(case.seed).uniform(0.2, 3.0, size=n)
    name = f"{model.steps[-1][0]}__sample_weight" if hasattr(model, "steps") else "sample_weight"
    return {name: weight}


def fitted_model(case):
    structures = [one.atoms() for one in case.fit]
    y = case.labels.of(structures)
    model = clone(case.model)
    model.fit(structures, y, **fit_options(case, len(structures), model))
    rows = np.concatenate(y) if case.labels.per_atom else y
    spread = np.sqrt(np.mean((rows - rows.mean(axis=0)) ** 2))
    spread = spread if spread > 1e-9 * np.abs(rows).max() else np.abs(rows).max()
    tried = structures + [one.atoms() for one in case.tried]
    known = {int(z) for atoms in structures for z in atoms.numbers}
    tried = [atoms for atoms in tried if set(map(int, atoms.numbers)) <= known]
    # predictions far beyond the labels, of structures unlike the others, are not better than their own rounding
    largest = max(np.nan_to_num(np.abs(one)).max(initial=0.0) for one in predicted(model, tried, case.labels.per_atom))
    return model, tried, max(spread, 1e-4 * largest) + 1e-280


def predicted(model, structures, per_atom):
    """One array for each structure, whose first axis counts atoms (labels of atoms) or is 1."""
    values = model.predict(structures)
    return [np.asarray(one, dtype=float) if per_atom else np.asarray(one)[None] for one in values]


def turned(values, rotation, labels):
    formula = labels.formula.split("=")[0]
    letters = formula.lstrip("-")
    for axis in range(len(letters)):
        values = np.moveaxis(np.tensordot(values, rotation, axes=(1 + axis, 1)), -1, 1 + axis)
    return values * np.linalg.det(rotation) ** sum(letter in labels.axial for letter in letters)


def gap(got, expected):
    assert [one.shape for one in got] == [one.shape for one in expected]
    got, expected = np.concatenate(got), np.concatenate(expected)
    assert np.array_equal(np.isnan(got), np.isnan(expected)), "NaN in other places"
    assert not np.isinf(expected).any()
    return np.nan_to_num(np.abs(got - expected), posinf=np.inf).max(initial=0.0)


def check_symmetry_of_models(fuzz, case):
    model, structures, spread = fitted_model(case)
    labels, random = case.labels, np.random.default_rng(case.seed)
    reference = predicted(model, structures, labels.per_atom)
    for sign in (1, -1):
        rotation = sign * random_rotation(np.random.RandomState(case.seed % 2**31))
        got = predicted(model, [transformed(atoms, rotation) for atoms in structures], labels.per_atom)
        law = "rotation" if sign > 0 else "improper rotation"
        fuzz.compare(law, gap(got, [turned(one, rotation, labels) for one in reference]) / spread, 1e-8)
    changes = {
        "translation": lambda atoms: transformed(atoms, translation=random.normal(scale=5.0, size=3)),
        "choice of the cell": lambda atoms: other_cell(atoms, random),
        "images of atoms": lambda atoms: other_images(atoms, random),
    }
    for law, change in changes.items():
        got = predicted(model, [change(atoms) for atoms in structures], labels.per_atom)
        fuzz.compare(law, gap(got, reference) / spread, 1e-8)
    orders = [random.permutation(len(atoms)) for atoms in structures]
    moved = [transformed(atoms, order=order) for atoms, order in zip(structures, orders, strict=True)]
    got = predicted(model, moved, labels.per_atom)
    expected = [one[order] if labels.per_atom else one for one, order in zip(reference, orders, strict=True)]
    fuzz.compare("order of atoms", gap(got, expected) / spread, 1e-8)


def extensive(model):
    """Whether predictions grow with the structure; None where that is not known."""
    while hasattr(model, "steps") or hasattr(model, "estimator"):
        model = model.steps[-1][1] if hasattr(model, "steps") else model.estimator
    kernel = getattr(model, "kernel", None)
    aggregate = (getattr(model, "aggregate", None) or "sum") if kernel is None else kernel.aggregate
    if not isinstance(kernel, CovariantKernel | type(None)):
        return None  # products of sums grow with a power of the structure
    return aggregate == "sum"


def check_supercells_of_models(fuzz, case):
    model, structures, spread = fitted_model(case)
    grows, per_atom = extensive(case.model), case.labels.per_atom
    if grows is None and not per_atom:
        reject()
    random = np.random.default_rng(case.seed)
    reference = predicted(model, structures, per_atom)
    larger = [supercell(atoms, random) for atoms in structures]
    got = predicted(model, [atoms for atoms, _ in larger], per_atom)
    expected = [
        one[atoms.get_tags()] if per_atom else one * (times if grows else 1)
        for one, (atoms, times) in zip(reference, larger, strict=True)
    ]
    fuzz.compare("supercell", gap(got, expected) / spread, 1e-8)


def check_batches_of_models(fuzz, case):
    model, structures, spread = fitted_model(case)
    per_atom = case.labels.per_atom
    reference = predicted(model, structures, per_atom)
    alone = [predicted(model, [atoms], per_atom)[0] for atoms in structures]
    fuzz.compare("alone", gap(alone, reference) / spread, 1e-8)
    many = predicted(model, structures[::-1] * 40, per_atom)
    fuzz.compare("in a large batch", gap(many[-len(structures) :][::-1], reference) / spread, 1e-8)


def check_copies_of_models(fuzz, case):
    model, structures, _ = fitted_model(case)
    per_atom = case.labels.per_atom
    reference = predicted(model, structures, per_atom)
    train = [one.atoms() for one in case.fit]
    y = case.labels.of(train)
    options = fit_options(case, len(train), case.model)
    renewed = clone(case.model)
    renewed.set_params(**{k: v for k, v in renewed.get_params(deep=False).items() if k != "steps"})
    objects = np.empty(len(train), dtype=object)
    objects[:] = train
    values = {
        "clone": (clone(model).fit(train, y, **options), structures),
        "set_params": (renewed.fit(train, y, **options), structures),
        "fit on an object array": (clone(model).fit(objects, y, **options), structures),
        "fit on a tuple": (clone(model).fit(tuple(train), y, **options), tuple(structures)),
        "pickle": (pickle.loads(pickle.dumps(model)), structures),
    }
    for law, (other, X) in values.items():
        got = predicted(other, X, per_atom)
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(got, reference, strict=True))
        fuzz.compare(law, 0.0 if same else np.inf, 1e-300)


def check_derivatives_of_models(fuzz, case):
    model, structures, spread = fitted_model(case)
    normalized = any(name.endswith("normalize") and value is True for name, value in model.get_params().items())
    # normalized blocks jump where they vanish by symmetry
    if normalized and case.labels.formula or kinks(structures, [getattr(model, "descriptor_", None) or model]):
        reject()
    random, per_atom = np.random.default_rng(case.seed), case.labels.per_atom
    moves = [random.normal(size=atoms.positions.shape) for atoms in structures]
    strains = [random.normal(size=(3, 3)) for _ in structures]

    def values(X):
        return {"y": np.concatenate(predicted(model, X, per_atom))}

    by_moves = derivative(lambda h: values(moved(structures, moves, h)))["y"]
    by_strains = derivative(lambda h: values(strained(structures, strains, h)))["y"]
    if np.isnan(by_moves).any():
        reject()
    shapes = [one.shape for one in predicted(model, structures, per_atom)]
    cotangents = [random.normal(size=shape) for shape in shapes]
    vjp = model.vjp(structures, cotangents if per_atom else np.concatenate(cotangents))
    size = max(np.abs(by_moves).max(), np.abs(by_strains).max(), spread) * np.sqrt(by_moves.size)
    expected = np.sum(np.concatenate(cotangents) * by_moves)
    fuzz.compare("vjp by positions", abs(np.sum(vjp.positions * np.concatenate(moves)) - expected) / size, 1e-5)
    expected = np.sum(np.concatenate(cotangents) * by_strains)
    fuzz.compare("vjp by strain", abs(np.sum(vjp.strain * np.array(strains)) - expected) / size, 1e-5)


def check_forces(fuzz, case):
    """A model fitted to energies, forces and stress of a pair potential: symmetries, and forces are derivatives."""
    structures = [one.atoms() for one in case.fit]
    model = clone(case.model)
    y = case.labels.of(structures)
    zeros = [np.zeros(atoms.positions.shape) for atoms in structures]

    def energies(X):
        return {"y": case.labels.of(X)}

    forces = []
    for k, atoms in enumerate(structures):
        rows = np.zeros(atoms.positions.shape)
        for index in np.ndindex(rows.shape):
            direction = zeros[k].copy()
            direction[index] = 1.0
            rows[index] = -derivative(lambda h, a=atoms, d=direction: energies(moved([a], [d], h)))["y"][0]
        forces.append(rows)
    model.fit(structures, y, forces=forces, **fit_options(case, len(structures), model))
    spread = max(np.std(y), 1e-9 * np.abs(y).max()) + 1e-280
    random = np.random.default_rng(case.seed)
    reference = predicted(model, structures, False)
    rotation = random_rotation(np.random.RandomState(case.seed % 2**31))
    turned_structures = [transformed(atoms, rotation) for atoms in structures]
    fuzz.compare("rotation", gap(predicted(model, turned_structures, False), reference) / spread, 1e-8)
    alone = [predicted(model, [atoms], False)[0] for atoms in structures]
    fuzz.compare("alone", gap(alone, reference) / spread, 1e-8)
    f, turned_f = model.predict_forces(structures), model.predict_forces(turned_structures)
    # differences of energies are no better than their rounding, however small the forces
    size = max(np.abs(np.concatenate(forces)).max(), spread, 1e-6 * np.abs(y).max())
    fuzz.compare("rotation of forces", gap(turned_f, [one @ rotation.T for one in f]) / size, 1e-8)
    if not kinks(structures, [model.descriptor_]):
        moves = [random.normal(size=atoms.positions.shape) for atoms in structures]
        slopes, finer = (
            derivative(lambda h: {"y": model.predict(moved(structures, moves, h))}, step)["y"]
            for step in (STEP, STEP / 3)
        )
        got = np.array([-np.sum(one * move) for one, move in zip(f, moves, strict=True)])
        # coefficients that cancel multiply the error of a difference, too: what it is, another step shows
        gap_of_slopes = np.maximum(np.abs(got - finer) - np.abs(slopes - finer), 0.0).max()
        fuzz.compare("forces are derivatives", gap_of_slopes / max(size, np.abs(slopes).max()), 1e-5)
