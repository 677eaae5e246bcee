import numpy as np
import pytest

from eqkernels.so3 import CartesianTensor, Irreps
from eqkernels.symmetry.target_spaces import target_space


@pytest.mark.parametrize(
    ("target", "irreps", "shape", "per_atom"),
    [
        ("dipole", "1o", (3,), False),
        ("gyration", "0o+2o", (3, 3), False),
        ("shielding", "0e+1e+2e", (3, 3), True),
        (CartesianTensor("ij", axial="j"), "0o+1o+2o", (3, 3), False),
        ("2e+4e", "2e+4e", (14,), False),
        (Irreps("2x1o"), "2x1o", (6,), False),
        ("", "0e", (), False),
    ],
)
def test_targets(target, irreps, shape, per_atom):
    space = target_space(target)
    assert (space.irreps, space.shape, space.per_atom) == (Irreps(irreps), shape, per_atom)
    assert space.rows.shape == (space.irreps.dim, len(space.names))
    np.testing.assert_allclose(space.rows @ space.rows.T, np.eye(space.irreps.dim), atol=1e-12)


def test_names_and_titles():
    assert target_space("i").names == ("x", "y", "z")
    assert target_space("1o+0e").names == ("1o,-1", "1o,0", "1o,1", "0e,0")
    assert target_space("2x0e").names == ("0e (1),0", "0e (2),0")
    assert target_space(CartesianTensor("ij", axial="j")).name == "ij (j axial)"
    assert target_space("").name == "scalar"
    assert target_space("dipole", per_atom=True).per_atom
    with pytest.raises(TypeError, match="target must be"):
        target_space(3)
