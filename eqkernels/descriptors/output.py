"""Where descriptors write: new arrays or those of the user, checked against the memory that there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqkernels._memory import check_memory
from eqkernels._types import Floats


def allocate(shapes: Mapping[Any, tuple[int, ...]], dtype: Any, what: str, out: Any = None) -> dict[Any, Floats]:
    """Make new arrays, or take those passed as ``out``, to be written range by range."""
    if out is not None:
        return _checked_out(shapes, np.dtype(dtype), out)
    bytes_of = {key: np.dtype(dtype).itemsize * np.prod(shape, dtype=float) for key, shape in shapes.items()}
    if bytes_of:
        largest = max(bytes_of, key=bytes_of.__getitem__)
        size = " x ".join(f"{length:,}" for length in shapes[largest])
        what = f"{what} (block {largest}: {size} = {bytes_of[largest] / 1e9:.1f} GB)"
    remedy = (
        "take the structures in parts (iter_transform), smaller n_max or l_max, fewer irreps, n_species_channels for "
        "fewer species, or dtype='float32'"
    )
    check_memory(sum(bytes_of.values()), what, remedy)
    return {key: np.empty(shape, dtype) for key, shape in shapes.items()}


def _checked_out(shapes, dtype, out):
    out = getattr(out, "blocks", out)
    if not isinstance(out, Mapping):
        raise TypeError(
            f"out must be EquivariantFeatures or a dict of arrays, such as an earlier result, got {type(out).__name__}"
        )
    for key, shape in shapes.items():
        array = out.get(key)
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"out[{key!r}] must be an array of {dtype} with shape {shape}, got {found}")
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"out[{key!r}] must be C-contiguous and writeable")
    return {key: out[key] for key in shapes}
