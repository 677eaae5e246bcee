"""Fields of all atoms: sums over images, featomic, symmetry, choice of the cell, derivatives, and models with them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.integrate import trapezoid

from eqkernels import SOAP, CovariantKernel, LambdaSOAP, SparseTensorGPR, SphericalExpansion, TensorKernelRidge
from eqkernels.io import load_model, save_model
from eqkernels.radial import GTO, LaplacianEigenstates
from eqkernels.radial.power_laws import power_at_zero, radial_transforms, smeared_power, transformed_power
from eqkernels.so3 import clebsch_gordan, spherical_harmonics
from eqkernels.structures import StructureBatch
from eqkernels.testing import assert_equivariant, transformed
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import blocks_of, difference, moved, strained

FIELD = {"cutoff": 2.5, "n_max": 2, "l_max": 2, "density": "potential", "sigma": 0.7}
NEAR = {"cutoff": 2.5, "n_max": 3, "l_max": 2, "long_range": 1, "long_range_sigma": 0.7, "long_range_n_max": 2}
DESCRIPTORS = {
    "field 1": SphericalExpansion(**FIELD),
    "field 4": SphericalExpansion(**FIELD, exponent=4, radial_basis="laplacian", center_weight=0.3),
    "field of combinations": SphericalExpansion(**FIELD, n_species_channels=2, n_optimal=1),
    "soap": SOAP(**NEAR),
    "lambda-soap": LambdaSOAP(**NEAR, irreps="0e+0o+1o+1e+2e+2o"),
    "lambda-soap 6": LambdaSOAP(**{**NEAR, "long_range": 6}, irreps="0e+1o", center_species=["C", "H"]),
    "combinations": LambdaSOAP(**NEAR, irreps="0e+1o", n_species_channels=2, n_optimal=2),
}


@pytest.fixture
def mixed():
    """Molecules and crystals in one list, three species."""
    crystals = random_frames(seed=3, n_frames=2, n_species=3, periodic=True)
    for atoms in crystals:
        atoms.pbc = True
    return [crystals[0], *random_frames(seed=4, n_frames=2, n_species=3), crystals[1]]


def crystal(seed=0, n=5):
    random = np.random.default_rng(seed)
    numbers = [1, 6, 8, *random.choice([1, 6, 8], n - 3)]
    return Atoms(numbers, random.random((n, 3)) * 4, cell=np.eye(3) * 4 + random.normal(size=(3, 3)) * 0.4, pbc=True)


def coefficients(atoms, **options):
    """All coefficients (n_atoms, lm, channels)."""
    blocks = SphericalExpansion(**{**FIELD, **options}).fit_transform([atoms]).blocks
    return np.concatenate(list(blocks.values()), axis=1)


# -- values ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exponent", [1, 3, 6])
def test_molecules_against_quadrature(exponent):
    """The field on a grid around each atom, projected on the basis."""
    atoms, basis = molecule("H2O"), GTO(2, 2.5)
    found = coefficients(atoms, exponent=exponent)
    cosines, of_cosines = np.polynomial.legendre.leggauss(40)
    phi = 2 * np.pi * np.arange(24) / 24
    sines = np.sqrt(1 - cosines**2)
    unit = np.stack([np.outer(sines, np.cos(phi)), np.outer(sines, np.sin(phi)), np.outer(cosines, np.ones(24))], 2)
    of_angles = np.outer(of_cosines, np.full(24, 2 * np.pi / 24)).ravel()
    nodes, of_nodes = np.polynomial.legendre.leggauss(200)
    r, w = 8 * (1 + nodes), 8 * of_nodes
    harmonics = spherical_harmonics(unit.reshape(-1, 3), 2) * of_angles[:, None]
    points = r[:, None, None] * unit.reshape(-1, 3)
    for i in range(3):
        for s, number in enumerate((1, 8)):
            vectors = atoms.positions[atoms.numbers == number] - atoms.positions[i]
            field = sum(smeared_power(np.linalg.norm(points - v, axis=2), exponent, 0.7) for v in vectors)
            expected = np.einsum("nr,ra,am->mn", basis.evaluate(0, r) * w * r**2, field, harmonics)
            np.testing.assert_allclose(found[i][:, 2 * s : 2 * s + 2], expected, atol=1e-7 * np.abs(found).max())


@pytest.mark.parametrize("exponent", [5, 6])
def test_tiny_crystals_against_sums_over_images(exponent):
    """Explicit images in a ball, with the integral of the field over the rest."""
    atoms, radius = (
        Atoms("HC", [(0, 0, 0), (1.3, 0.4, 0.8)], cell=[(2.1, 0, 0.2), (0.3, 2.4, 0), (0, -0.2, 2.2)], pbc=True),
        45.0,
    )
    shifts = np.stack(np.meshgrid(*[np.arange(-26, 27)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ atoms.cell.array
    options = {"exponent": exponent, "accuracy": 1e-10}
    found = coefficients(atoms, **options)
    images = np.concatenate([atoms.positions + shift for shift in shifts])
    numbers = np.tile(atoms.numbers, len(shifts))
    order = np.argsort(np.linalg.norm(images, axis=1), kind="stable")
    inside = order[: np.sum(np.linalg.norm(images, axis=1) < radius)]
    assert np.abs(images[inside[0]]).max() == 0
    ball = Atoms(numbers[inside], images[inside])
    expansion = SphericalExpansion(**FIELD, **options, center_species=[1], n_jobs=1).fit([ball])
    # the center alone, as a cluster whose other hydrogens are not described
    batch = StructureBatch.from_frames([ball])
    is_center = np.zeros(batch.n_atoms, dtype=bool)
    is_center[0] = True
    rows = []
    expansion._expansion().for_each_range(batch, is_center, lambda _, density: rows.append(density))
    expected = rows[0][0].copy()
    r = np.linspace(0, 20, 4001)
    integral = trapezoid(GTO(2, 2.5).evaluate(0, r) * r**2, r)
    rest = 4 * np.pi / abs(atoms.cell.volume) * radius ** (3 - exponent) / (exponent - 3)
    expected[0] += np.tile(np.sqrt(4 * np.pi) * rest * integral, 2)
    np.testing.assert_allclose(found[0], expected, atol=(1e-5 if exponent == 5 else 1e-6) * np.abs(found).max())


@pytest.mark.parametrize(("name", "madelung"), [("rocksalt", 1.747564594633), ("cesiumchloride", 1.762674773071)])
def test_madelung_constants(name, madelung):
    """The mean of a harmonic potential over a sphere is its value at the center: that of all other ions."""
    atoms = bulk("NaCl", name, a=5.6) if name == "rocksalt" else bulk("CsCl", name, a=4.0)
    distance = 2.8 if name == "rocksalt" else 4.0 * np.sqrt(3) / 2
    options = {"cutoff": 1.0, "n_max": 2, "l_max": 0, "sigma": 0.3, "radial_basis": "laplacian", "center_weight": 0.0}
    field = (
        SphericalExpansion(**options, density="potential").fit_transform([atoms]).blocks["0e"][:, 0].reshape(2, 2, 2)
    )
    first, second = sorted(set(atoms.numbers.tolist()))
    charges = np.array([1 if number in (11, 55) else -1 for number in (first, second)])
    total = np.einsum("inq,n->iq", field, charges)
    r = np.linspace(0, 1, 20001)
    integral = trapezoid(LaplacianEigenstates(2, 1.0).evaluate(0, r) * r**2, r)
    own = np.array([1 if number in (11, 55) else -1 for number in atoms.numbers])
    expected = -own[:, None] * madelung / distance * np.sqrt(4 * np.pi) * integral
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("exponent", range(1, 7))
def test_crystals_against_the_sum_over_wave_vectors_as_printed(exponent):
    """Twin of the formula of the module, term by term, with the transforms by quadrature."""
    atoms = crystal()
    found = coefficients(atoms, exponent=exponent, center_weight=1.0)
    cell = 2 * np.pi * np.linalg.inv(atoms.cell.array).T
    n = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    waves = (n @ cell)[np.abs(n).sum(axis=1) > 0]
    norms = np.linalg.norm(waves, axis=1)
    waves, norms = waves[norms < 9], norms[norms < 9]
    transforms = radial_transforms(GTO(2, 2.5), 2, norms)
    power = transformed_power(norms, exponent, 0.7)[0]
    harmonics = spherical_harmonics(waves, 2)
    for s, number in enumerate((1, 6, 8)):
        phase = np.exp(1j * atoms.positions @ waves.T)
        relative = phase * np.conj(phase[atoms.numbers == number].sum(axis=0))
        for lm in range(9):
            l = int(np.sqrt(lm))
            terms = 1j**l * power[:, None] * transforms[:, l] * harmonics[:, lm, None]
            expected = (4 * np.pi / atoms.cell.volume * relative @ terms).real
            if lm == 0:
                zero = radial_transforms(GTO(2, 2.5), 0, np.zeros(1))[0, 0] * power_at_zero(exponent, 0.7)
                expected += np.sqrt(4 * np.pi) / atoms.cell.volume * zero * np.sum(atoms.numbers == number)
            np.testing.assert_allclose(found[:, lm, 2 * s : 2 * s + 2], expected, atol=2e-8 * np.abs(found).max())


@pytest.mark.parametrize("exponent", range(1, 7))
@pytest.mark.parametrize("center_weight", [1.0, 0.0])
def test_coefficients_equal_those_of_featomic(exponent, center_weight):
    featomic = pytest.importorskip("featomic")
    calculator = featomic.LodeSphericalExpansion(
        density={"type": "SmearedPowerLaw", "smearing": 0.8, "exponent": exponent, "center_atom_weight": center_weight},
        k_cutoff=10.0,
        basis={"type": "TensorProduct", "max_angular": 2, "radial": {"type": "Gto", "max_radial": 1, "radius": 2.5}},
    )
    atoms = crystal()
    theirs = calculator.compute([atoms])
    ours = coefficients(atoms, exponent=exponent, sigma=0.8, center_weight=center_weight)
    for key, block in theirs.items():
        l, s = int(key["o3_lambda"]), [1, 6, 8].index(int(key["neighbor_type"]))
        found = ours[np.array(block.samples["atom"]), l * l : (l + 1) ** 2, 2 * s : 2 * s + 2]
        np.testing.assert_allclose(found, block.values, atol=1e-6)


def test_a_molecule_in_a_large_box_is_a_molecule():
    atoms = molecule("CH3OH")
    box = atoms.copy()
    box.set_cell(np.eye(3) * 40)
    box.pbc = True
    alone, periodic = coefficients(atoms, exponent=6), coefficients(box, exponent=6)
    np.testing.assert_allclose(periodic, alone, atol=1e-6 * np.abs(alone).max())


def test_blocks_of_wave_vectors_and_ranges_of_centers(mixed, monkeypatch):
    """Memory is bounded by blocks, which change nothing."""
    descriptor = LambdaSOAP(**NEAR).fit(mixed)
    before, cotangents = descriptor.transform(mixed), dict(descriptor.transform(mixed).blocks)
    derivatives = descriptor.vjp(mixed, cotangents)
    monkeypatch.setattr("eqkernels.descriptors.density.reciprocal._FUNCTIONS_AT_ONCE", 3000)
    monkeypatch.setattr("eqkernels.descriptors.density.expand._DENSITY_PER_RANGE", 2000)
    monkeypatch.setattr("eqkernels.descriptors.density.gradients._CHANGES_PER_RANGE", 10**5)
    for key, block in descriptor.transform(mixed).blocks.items():
        np.testing.assert_allclose(block, before.blocks[key], atol=1e-13 * np.abs(block).max())
    for ours, theirs in zip(descriptor.vjp(mixed, cotangents), derivatives, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12 * np.abs(theirs).max())


# -- laws -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DESCRIPTORS)
def test_equivariance(name, mixed):
    descriptor = DESCRIPTORS[name].fit(mixed)
    if name != "soap":
        assert_equivariant(descriptor, mixed, tolerance=1e-10)
        return
    rows = descriptor.transform(mixed)
    matrix = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = descriptor.transform([transformed(atoms, matrix) for atoms in mixed])
    np.testing.assert_allclose(turned, rows, atol=1e-10 * np.abs(rows).max())


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_choice_of_the_cell_and_of_the_origin(name):
    atoms = crystal()
    descriptor = DESCRIPTORS[name].fit([atoms])
    skewed, shifted = atoms.copy(), atoms.copy()
    skewed.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ atoms.cell.array)
    shifted.positions += [0.3, -7.1, 2.2]
    shifted.wrap()
    before = blocks_of(descriptor, [atoms])
    n = len(next(iter(before.values())))
    for other in (skewed, shifted, atoms.repeat((2, 1, 1)), atoms.repeat((1, 2, 2))):
        for key, block in blocks_of(descriptor, [other]).items():
            np.testing.assert_allclose(block[:n], before[key], atol=1e-10 * np.abs(before[key]).max())


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_structure_alone_or_among_others_and_threads(name, mixed):
    descriptor = DESCRIPTORS[name].fit(mixed)
    together = blocks_of(descriptor, mixed)
    alone = [blocks_of(descriptor, [atoms]) for atoms in mixed]
    for key, block in together.items():
        joined = np.concatenate([one[key] for one in alone])
        np.testing.assert_allclose(joined, block, atol=1e-12 * np.abs(block).max())
        threads = blocks_of(descriptor.set_params(n_jobs=2), mixed)[key]
        descriptor.set_params(n_jobs=None)
        np.testing.assert_array_equal(threads, block)


def test_atoms_far_apart_act_on_each_other():
    """Twice as far, half the field."""
    fields = []
    for distance in (100.0, 200.0):
        pair = Atoms("HC", [(0, 0, 0), (0, 0, distance)])
        fields.append(coefficients(pair, center_weight=0.0)[0, 0, 2:])
    np.testing.assert_allclose(fields[0], 2 * fields[1], rtol=1e-6)


# -- derivatives ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DESCRIPTORS)
def test_gradients_are_differences(name, mixed):
    descriptor = DESCRIPTORS[name].fit(mixed)
    gradients = descriptor.gradients(mixed, strain=True)
    random = np.random.default_rng(0)
    for structure in range(len(mixed)):
        atom, axis = int(random.integers(len(mixed[structure]))), int(random.integers(3))
        expected = difference(descriptor, lambda h, k=structure, i=atom, x=axis: moved(mixed, k, i, x, h))
        rows = (gradients.structures == structure) & (gradients.atoms == atom)
        for key, block in gradients.blocks.items():
            ours = np.zeros_like(expected[key])
            ours[gradients.centers[rows]] = block[rows, axis]
            np.testing.assert_allclose(ours, expected[key], atol=1e-7 * np.abs(block).max(), err_msg=key)
    for x, y in ((0, 0), (1, 2)):
        expected = difference(descriptor, lambda h, x=x, y=y: strained(mixed, x, y, h), step=1e-3)
        for key, block in gradients.strain.items():
            np.testing.assert_allclose(block[:, x, y], expected[key], atol=1e-7 * np.abs(block).max(), err_msg=key)


@pytest.mark.parametrize("l_max", [0, 1])
def test_structures_that_lack_species_and_crystals_of_one_atom(l_max):
    frames = [Atoms("He"), bulk("Cu"), molecule("H2O"), Atoms("HO", [(0, 0, 0), (1, 0, 0)], cell=[4, 4, 4], pbc=True)]
    options = {
        **NEAR,
        "l_max": l_max,
        "irreps": "0e",
        "center_species": ["O", "Cu", "He"],
        "neighbor_species": ["H", "O"],
    }
    descriptor = LambdaSOAP(**options).fit(frames)
    cotangent = np.random.default_rng(0).normal(size=descriptor.transform(frames).blocks["0e"].shape)
    gradients, found = descriptor.gradients(frames, strain=True), descriptor.vjp(frames, {"0e": cotangent})
    by_strain = np.einsum("cxymf,cmf->cxy", gradients.strain["0e"], cotangent)
    np.testing.assert_allclose(found.strain, by_strain, atol=1e-11 * np.abs(by_strain).max())
    starts, positions = np.array([0, 1, 2, 5]), np.zeros((7, 3))
    entries = np.einsum("exmf,emf->ex", gradients.blocks["0e"], cotangent[gradients.centers])
    np.add.at(positions, starts[gradients.structures] + gradients.atoms, entries)
    np.testing.assert_allclose(found.positions, positions, atol=1e-11 * np.abs(positions).max())


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_vjp_is_the_contraction_of_the_gradients(name, mixed):
    descriptor = DESCRIPTORS[name].fit(mixed)
    gradients, random = descriptor.gradients(mixed, strain=True), np.random.default_rng(0)
    weights = {key: random.normal(size=block.shape) for key, block in blocks_of(descriptor, mixed).items()}
    starts = np.concatenate([[0], np.cumsum([len(atoms) for atoms in mixed])])
    positions, strain = np.zeros((starts[-1], 3)), np.zeros((len(mixed), 3, 3))
    numbers = np.concatenate([atoms.numbers for atoms in mixed])
    structures = np.repeat(np.arange(len(mixed)), np.diff(starts))[np.isin(numbers, descriptor.center_species_)]
    for key, block in gradients.blocks.items():
        np.add.at(positions, starts[gradients.structures] + gradients.atoms,
                  np.einsum("exmf,emf->ex", block, weights[key][gradients.centers]))  # fmt: skip
        np.add.at(strain, structures, np.einsum("exymf,emf->exy", gradients.strain[key], weights[key]))
    for n_jobs in (None, 2):
        found = descriptor.set_params(n_jobs=n_jobs).vjp(mixed, weights["0e"][:, 0] if name == "soap" else weights)
        np.testing.assert_allclose(found.positions, positions, atol=1e-11 * np.abs(positions).max())
        np.testing.assert_allclose(found.strain, strain, atol=1e-11 * np.abs(strain).max())
    descriptor.set_params(n_jobs=None)


# -- products, options ------------------------------------------------------------------------------------------------------
def test_off_by_default_and_short_range_products_come_first(mixed):
    plain = {key: value for key, value in NEAR.items() if "long_range" not in key}
    ours, theirs = (LambdaSOAP(**one, irreps="0e+0o+1o").fit_transform(mixed) for one in (NEAR, plain))
    for key, block in theirs.blocks.items():
        np.testing.assert_array_equal(ours.blocks[key][:, :, : block.shape[2]], block)
    assert ours.blocks["0o"].shape == theirs.blocks["0o"].shape
    labels = LambdaSOAP(**NEAR).fit(mixed).feature_labels("1o")
    assert labels["n_2"].max() == 4
    names = SOAP(**NEAR).fit(mixed).get_feature_names_out()
    assert names[-1] == "N2 N~1 l2"
    assert len(set(names)) == len(names)


def test_products_are_couplings_of_both_expansions(mixed):
    """Scalar products of the second part are sums over couplings of all pairs of channels."""
    near = SphericalExpansion(2.5, n_max=3, l_max=2).fit_transform(mixed).blocks
    far = SphericalExpansion(**FIELD).fit_transform(mixed).blocks
    ours = LambdaSOAP(**NEAR, irreps="2e").fit(mixed).transform(mixed).blocks["2e"]
    expected = 0
    for l1 in range(3):
        for l2 in range(3):
            if abs(l1 - l2) <= 2 <= l1 + l2 and (l1 + l2) % 2 == 0:
                a, b = near[f"{l1}{'eo'[l1 % 2]}"], far[f"{l2}{'eo'[l2 % 2]}"]
                part = np.einsum("xym,ixp,iyq->impq", clebsch_gordan(l1, l2, 2), a, b).reshape(len(a), 5, -1)
                expected = expected + np.einsum("imf,jnf->ijmn", part, part)
    first = LambdaSOAP(2.5, n_max=3, l_max=2, irreps="2e").fit_transform(mixed).blocks["2e"].shape[2]
    products = np.einsum("imf,jnf->ijmn", ours[:, :, first:], ours[:, :, first:])
    np.testing.assert_allclose(products, expected, atol=1e-12 * np.abs(expected).max())


def test_single_precision(mixed):
    double, single = (LambdaSOAP(**NEAR, dtype=dtype).fit_transform(mixed) for dtype in ("float64", "float32"))
    for key, block in double.blocks.items():
        assert single.blocks[key].dtype == np.float32
        np.testing.assert_allclose(single.blocks[key], block, atol=1e-5 * np.abs(block).max())


def test_rows_of_structures_are_sums_of_rows_of_atoms(mixed):
    rows = SOAP(**NEAR).fit_transform(mixed)
    starts = np.concatenate([[0], np.cumsum([len(atoms) for atoms in mixed])])
    summed = np.add.reduceat(rows, starts[:-1])
    for options in ({}, {"sparse": True}):
        found = SOAP(**NEAR, aggregate="sum", **options).fit_transform(mixed)
        found = found.toarray() if options else found
        np.testing.assert_allclose(found, summed, atol=1e-12 * np.abs(summed).max())


def test_unknown_atoms_are_left_out(mixed):
    descriptor = LambdaSOAP(**NEAR, irreps="0e", handle_unknown="ignore").fit(mixed)
    foreign = Atoms("Xe", [(9.0, 9.0, 9.0)])
    features = descriptor.transform([mixed[1] + foreign])
    before = descriptor.transform([mixed[1]])
    np.testing.assert_allclose(features.blocks["0e"], before.blocks["0e"], rtol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        TensorKernelRidge(1e-6, kernel=CovariantKernel(zeta=2)),
        SparseTensorGPR(8, kernel=CovariantKernel(), random_state=0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_models_predict_the_same_from_files_and_from_any_cell(model, mixed, tmp_path):
    model.set_params(descriptor=LambdaSOAP(**NEAR))
    y = np.arange(len(mixed), dtype=float)
    model.fit(mixed, y)
    before = model.predict(mixed)
    save_model(model, tmp_path / "model.eqk")
    np.testing.assert_allclose(load_model(tmp_path / "model.eqk").predict(mixed), before, atol=1e-12)
    skewed = [atoms.copy() for atoms in mixed]
    for atoms in skewed:
        atoms.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    np.testing.assert_allclose(model.predict(skewed), before, atol=1e-8)


def test_forces_of_a_model_are_differences(mixed):
    model = SparseTensorGPR(8, kernel=CovariantKernel(), descriptor=LambdaSOAP(**NEAR, irreps="0e"), random_state=0)
    model.fit(mixed, np.arange(len(mixed), dtype=float))
    forces = model.predict_forces(mixed)
    step = 1e-4
    ends = [model.predict(moved(mixed, 1, 0, 2, sign * step))[1] for sign in (-1, 1)]
    np.testing.assert_allclose(forces[1][0, 2], (ends[0] - ends[1]) / (2 * step), atol=1e-5 * np.abs(ends).max())


# -- bad input --------------------------------------------------------------------------------------------------------------
SLAB = Atoms("HO", [(0, 0, 0), (0, 0, 1)], cell=[4, 4, 9], pbc=(True, True, False))
BAD = {
    "exponent 0": (lambda: SphericalExpansion(**FIELD, exponent=0).fit([molecule("H2O")]), "exponent=0 must be an integer between 1 and 6"),
    "exponent 7": (lambda: LambdaSOAP(long_range=7).fit([molecule("H2O")]), "long_range=7 must be an integer between 1 and 6, or None"),
    "fraction": (lambda: LambdaSOAP(long_range=1.5).fit([molecule("H2O")]), "long_range=1.5 must be an integer"),
    "true": (lambda: SOAP(long_range=True).fit([molecule("H2O")]), "long_range=True must be an integer"),
    "density": (lambda: SphericalExpansion(density="charge").fit([molecule("H2O")]), "density='charge' must be one of"),
    "narrow": (lambda: LambdaSOAP(long_range=1, long_range_sigma=0.01).fit([molecule("H2O")]), "long_range_sigma=0.01 must be between 0.1 and 50"),
    "narrow field": (lambda: SphericalExpansion(density="potential", sigma=0.01).fit([molecule("H2O")]), "sigma=0.01 must be between 0.1"),
    "scaling": (lambda: SphericalExpansion(density="potential", scaling_scale=2.0).fit([molecule("H2O")]), "scaling_scale has no effect"),
    "compression": (lambda: SOAP(long_range=1, compression="mu1nu1").fit([molecule("H2O")]), "compression='mu1nu1' is not available with long_range"),
    "no functions": (lambda: SOAP(long_range=1, long_range_n_max=0).fit([molecule("H2O")]), "long_range_n_max=0 must be an integer between 1 and 30, or None"),
    "slab at fit": (lambda: LambdaSOAP(**NEAR).fit([molecule("H2O"), SLAB]), "structure 1 is periodic along 2 of three directions.*vacuum"),
    "slab at transform": (lambda: SphericalExpansion(**FIELD).fit([molecule("H2O")]).transform([SLAB]), "structure 0 is periodic along 2 .*pbc = False"),
    "a molecule in a huge box": (
        lambda: LambdaSOAP(**NEAR).fit([Atoms("H", cell=[2000] * 3, pbc=True)]), "fields of all atoms of structure 0, .* wave vectors, at most .*set atoms.pbc = False",
    ),
    "atoms kilometers apart": (
        lambda: LambdaSOAP(**NEAR).fit_transform([Atoms("H2", [(0, 0, 0), (1e8, 0, 0)])]), "structure 0 has atoms 1e.08 apart.*units",
    ),
    "coincident": (lambda: SphericalExpansion(**FIELD).fit_transform([Atoms("H2", [(0, 0, 0)] * 2)]), "atoms 0 and 1 coincide"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    action, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        action()
