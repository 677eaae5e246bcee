import numpy as np
import pytest

from eqkernels.symmetry.group_algebra import closure
from eqkernels.symmetry.group_names import CRYSTAL_CLASSES, generators_of, hermann_mauguin_of, read_name, schoenflies_of
from eqkernels.testing import random_rotation

# International Tables for Crystallography A, table 10.1.2.4 and 10.1.4.3: both symbols, and the order.
TABLE = """
1 C1 1, -1 Ci 2, 2 C2 2, m Cs 2, 2/m C2h 4, 222 D2 4, mm2 C2v 4, mmm D2h 8, 4 C4 4, -4 S4 4, 4/m C4h 8, 422 D4 8, 4mm C4v 8,
-42m D2d 8, 4/mmm D4h 16, 3 C3 3, -3 S6 6, 32 D3 6, 3m C3v 6, -3m D3d 12, 6 C6 6, -6 C3h 6, 6/m C6h 12, 622 D6 12,
6mm C6v 12, -6m2 D3h 12, 6/mmm D6h 24, 23 T 12, m-3 Th 24, 432 O 24, -43m Td 24, m-3m Oh 48, 235 I 60, m-3-5 Ih 120,
5 C5 5, -5 S10 10, 52 D5 10, 5m C5v 10, -5m D5d 20, -10m2 D5h 20, -10 C5h 10, 8/mmm D8h 32, -8 S8 8, -82m D4d 16
"""


@pytest.mark.parametrize("row", [row.split() for row in TABLE.replace("\n", " ").split(",")], ids=lambda row: row[0])
def test_names_and_orders(row):
    international, schoenflies, number = row
    assert read_name(international)[0] == read_name(schoenflies)[0] == schoenflies
    assert hermann_mauguin_of(schoenflies) == international
    turn = random_rotation(6)
    matrices = turn @ closure(generators_of(schoenflies)) @ turn.T
    assert len(matrices) == int(number)
    assert schoenflies_of(matrices) == schoenflies


def test_all_classes():
    assert len(set(CRYSTAL_CLASSES)) == 32


@pytest.mark.parametrize(
    ("name", "schoenflies"),
    [("C3i", "S6"), ("c_{2v}", "C2v"), ("Coov", "Cinfv"), ("D*h", "Dinfh"), ("D∞h", "Dinfh"), ("∞m", "Cinfv"), ("C_inf_v", "Cinfv"),
     ("m3m", "Oh"), ("4 / m m m", "D4h"), ("S2", "Ci"), ("D2D", "D2d"), ("−43m", "Td"), ("∞∞m", "Kh"), ("infm", "Cinfv")],
)  # fmt: skip
def test_other_spellings(name, schoenflies):
    assert read_name(name)[0] == schoenflies


@pytest.mark.parametrize("name", ["", "7/m7", "C0", "D1x", "Fd-3m"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="is no point group"):
        read_name(name)
    with pytest.raises(TypeError, match="by its name"):
        read_name(3)


def test_continuous_groups_have_generators():
    assert len(generators_of("Kh")) == 3
    for name in ("Cinfv", "Dinfh", "Cinf", "Dinf", "Cinfh"):
        for matrix in generators_of(name):
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
            np.testing.assert_allclose(np.abs(matrix[2, 2]), 1)
