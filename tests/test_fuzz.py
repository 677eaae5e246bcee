"""Random configurations of descriptors, kernels and models against the laws that all of them obey.

``pytest tests/test_fuzz.py`` tries some of them, always the same. ``pytest -n 2 tests/test_fuzz.py --fuzz-minutes=60``
tries new ones for an hour, and prints how many of each kind were tried and the largest violation of each law. A case
that fails is printed as an expression, to be repeated with the check of its test::

    from tests.test_fuzz import *
    check_symmetry_of_features(Fuzz("again"), Case(fit=(Frame(kind='molecule', name='H2O'),), model=SOAP()))
"""

import os

import pytest

import eqkernels
from tests.fuzz.features import (
    check_batches_of_features,
    check_copies_of_features,
    check_gradients,
    check_supercells_of_features,
    check_symmetry_of_features,
)
from tests.fuzz.kernels import check_density_kernels, check_kernels
from tests.fuzz.models import (
    check_batches_of_models,
    check_copies_of_models,
    check_derivatives_of_models,
    check_forces,
    check_supercells_of_models,
    check_symmetry_of_models,
)
from tests.fuzz.runner import EXAMPLES, Fuzz
from tests.fuzz.strategies import *  # noqa: F403  # names for cases to be pasted
from tests.fuzz.strategies import Case, Frame, descriptor_cases, kernel_cases, model_cases

FEATURES = {
    "symmetry": check_symmetry_of_features,
    "supercells": check_supercells_of_features,
    "batches": check_batches_of_features,
    "copies": check_copies_of_features,
}
PREDICTIONS = {
    "symmetry": check_symmetry_of_models,
    "supercells": check_supercells_of_models,
    "batches": check_batches_of_models,
    "copies": check_copies_of_models,
}
# Those with derivatives; perfect structures stay out of their tests, for pairs at the cutoff have no derivative there.
DIFFERENTIABLE = {
    "descriptors": ("SphericalExpansion", "SOAP", "LambdaSOAP", "NBodyFeatures", "EquivariantNetwork"),
    "rattles": (1e-3, 0.05, 0.15),
}
DIFFERENTIABLE_MODELS = {
    "names": ("SparseTensorGPR", "EquivariantNetworkRegressor"),
    "rattles": (1e-3, 0.05, 0.15),
    "piped": (False,),
}
ENERGIES = {
    "names": ("SparseTensorGPR",),
    "targets": [("", "")],
    "labels": ("physical",),
    "per_atom": (False,),
    "n_atoms": 4,
    "piped": (False,),
}


@pytest.fixture
def fuzz(request, record_property):
    """A share of the time for each test, in which all workers work at once."""
    tests = [one for one in request.session.items if "fuzz" in getattr(one, "fixturenames", ())]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    minutes = request.config.getoption("--fuzz-minutes") * workers / max(1, len(tests))
    return Fuzz(request.node.name, minutes, record_property)


@pytest.mark.parametrize("law", FEATURES)
def test_features(fuzz, law):
    fuzz.run(descriptor_cases(), FEATURES[law], 2 * EXAMPLES)


def test_gradients(fuzz):
    fuzz.run(descriptor_cases(**DIFFERENTIABLE), check_gradients, 2 * EXAMPLES)


def test_kernels(fuzz):
    fuzz.run(kernel_cases(), check_kernels, 2 * EXAMPLES)


def test_density_kernels(fuzz):
    fuzz.run(kernel_cases(), check_density_kernels)


@pytest.mark.parametrize("law", PREDICTIONS)
def test_models(fuzz, law):
    fuzz.run(model_cases(), PREDICTIONS[law], 2 * EXAMPLES)


def test_derivatives_of_models(fuzz):
    fuzz.run(model_cases(**DIFFERENTIABLE_MODELS), check_derivatives_of_models)


def test_models_of_forces(fuzz):
    fuzz.run(model_cases(**ENERGIES), check_forces, EXAMPLES // 2)


class Lopsided(eqkernels.SOAP):
    """Features with a part that does not rotate."""

    def transform(self, X, out=None):
        rows = super().transform(X, out)
        rows[:, 0] += 1e-9 * sum(atoms.positions[:, 2].sum() for atoms in X)
        return rows


def test_a_broken_law_is_found():
    case = Case(fit=(Frame(kind="molecule", name="NH3", rattle=0.1),), model=Lopsided(cutoff=3.0, n_max=2, l_max=2))
    with pytest.raises(AssertionError, match="rotation"):
        check_symmetry_of_features(Fuzz("broken"), case)
    check_symmetry_of_features(Fuzz("kept"), Case(case.fit, eqkernels.SOAP(cutoff=3.0, n_max=2, l_max=2)))
