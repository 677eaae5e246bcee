"""Three-dimensional rotations: harmonics, coupling coefficients, irreps and Cartesian tensors."""

from eqkernels.so3.cartesian import CartesianTensor, cartesian_tensor
from eqkernels.so3.clebsch_gordan import clebsch_gordan, clebsch_gordan_sparse, real_to_complex
from eqkernels.so3.conventions import (
    change_to_complex,
    change_to_e3nn,
    change_to_pyscf,
    from_spherical,
    to_spherical,
)
from eqkernels.so3.inference import infer_formula
from eqkernels.so3.irreps import Irrep, Irreps
from eqkernels.so3.principal_values import haeberlen, quadrupolar_coupling, span_skew
from eqkernels.so3.properties import PROPERTIES
from eqkernels.so3.spherical_harmonics import spherical_harmonics
from eqkernels.so3.voigt import from_voigt, to_voigt
from eqkernels.so3.wigner import wigner_d

__all__ = [
    "PROPERTIES",
    "CartesianTensor",
    "Irrep",
    "Irreps",
    "cartesian_tensor",
    "change_to_complex",
    "change_to_e3nn",
    "change_to_pyscf",
    "clebsch_gordan",
    "clebsch_gordan_sparse",
    "from_spherical",
    "from_voigt",
    "haeberlen",
    "infer_formula",
    "quadrupolar_coupling",
    "real_to_complex",
    "span_skew",
    "spherical_harmonics",
    "to_spherical",
    "to_voigt",
    "wigner_d",
]
