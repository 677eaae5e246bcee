"""Several descriptors side by side: their blocks, their names, and what is refused."""

import numpy as np
import pytest

from eqkernels import EquivariantUnion, LambdaSOAP
from eqkernels.descriptors.union import NamedDescriptors


def test_blocks_are_those_of_the_descriptors(molecules):
    union = EquivariantUnion([("a", LambdaSOAP(3.0, n_max=2, l_max=2)), ("b", LambdaSOAP(5.0, n_max=2, l_max=2))])
    union.set_params(b__n_max=3)
    both = union.fit(molecules).transform(molecules)
    a = LambdaSOAP(3.0, n_max=2, l_max=2).fit_transform(molecules)
    np.testing.assert_array_equal(both.blocks["2e"][:, :, : a.blocks["2e"].shape[2]], a.blocks["2e"])


def test_parts_are_found_by_name(molecules):
    near, far = LambdaSOAP(3.0, n_max=2, l_max=2), LambdaSOAP(5.0, n_max=3, l_max=2)
    both = EquivariantUnion([("near", near), ("far", far)]).fit_transform(molecules)
    for name, descriptor in (("near", near), ("far", far)):
        for key, block in descriptor.fit_transform(molecules).blocks.items():
            np.testing.assert_array_equal(both.part(name).blocks[key], block)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "at least one"),
        ("ab", "at least one"),
        ([("a",)], "which is not a pair"),
        ([(1, LambdaSOAP())], "which is not a pair"),
        ([("a", 1)], "expected a descriptor"),
        ([("a", LambdaSOAP())], None),
    ],
)
def test_what_is_a_list_of_named_descriptors(value, message):
    problem = NamedDescriptors().problem(value)
    assert problem is None if message is None else message in problem
