r"""Blocks of lambda-SOAP that are made when they are needed.

Features are products of density coefficients. With s species and n radial functions there are s n channels of density,
but (s n)^2 features for each pair of degrees: what can do without features (a kernel of scalar products of features,
which follow from scalar products of densities) saves most of the time and memory. So features of
:class:`~eqkernels.descriptors.LambdaSOAP` hold the density coefficients, and make a block when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eqkernels._ranges import over_ranges
from eqkernels._types import Floats
from eqkernels.descriptors.density.expand import centers_per_range
from eqkernels.descriptors.output import allocate
from eqkernels.descriptors.products.product_blocks import product_block
from eqkernels.descriptors.products.sectors import Channels
from eqkernels.so3 import Irreps

#: what derivatives by the density have for a key, in the place of an irrep
DENSITY = "density"
# Elements of a block (2 MiB) that is made whole when some of its rows are asked for: the others soon are.
_SMALL = 2**18


class BlockMaker:
    """What makes blocks out of densities: the numbers of a fitted descriptor that matter, without the descriptor.

    Parameters
    ----------
    irreps : str
        Blocks, e.g. ``"0e+2e"``.
    l_max, n_max : int
    species : array-like of int
        Of the channels.
    n_radial : int
        Channels of each species.
    compression : str or None
    triple_contraction : ndarray or None
        As of :class:`~eqkernels.descriptors.LambdaSOAP`.
    n_jobs : int, default=None
        Threads, with joblib's meaning.
    n_far : int, default=0
        Radial functions of the fields of all atoms of each species.
    channels : dict of str to ndarray, default=None
        Channels of a density with inputs: the attributes of
        :class:`~eqkernels.descriptors.products.sectors.Channels` as arrays of integers.
    time : {1, -1}, default=1
        Sign under time reversal of all blocks but the invariants.

    Attributes
    ----------
    blocks : dict of str to ProductBlock
    """

    def __init__(
        self,
        irreps: str,
        l_max: int,
        n_max: int,
        species: ArrayLike,
        n_radial: int,
        compression: str | None,
        triple_contraction: Floats | None,
        n_jobs: int | None = None,
        n_far: int = 0,
        channels: dict[str, Any] | None = None,
        time: int = 1,
    ):
        self.irreps, self.l_max, self.n_max, self.n_radial = irreps, l_max, n_max, n_radial
        self.species, self.compression, self.triple_contraction = species, compression, triple_contraction
        self.n_jobs, self.n_far, self.channels, self.time = n_jobs, n_far, channels, time
        numbers = l_max, tuple(np.array(species).tolist()), n_radial, n_max, compression, triple_contraction, n_far
        known = None if channels is None else Channels.of_arrays(**channels)
        self.blocks = {
            str(irrep): product_block(irrep, *numbers, known, 1 if str(irrep) == "0e" else time)
            for _, irrep in Irreps(irreps)
        }
        #: whether products are those of one kind of channels alone
        self.is_natural = time == 1 and (known is None or len(known.sectors) == 1)
        self.widths = {key: block.width for key, block in self.blocks.items()}
        self.dims = {key: block.irrep.dim for key, block in self.blocks.items()}

    def fill(self, key: str, density: Floats, out: Floats) -> None:
        """Write a block (n, 2 lambda + 1, n_features) of densities (n, (l_max + 1)^2, n_channels)."""
        size = centers_per_range(density[:1].nbytes)
        over_ranges(len(density), size, lambda a, b: self.blocks[key].fill(density[a:b], out[a:b]), self.n_jobs)

    def to_dict(self) -> dict[str, Any]:
        """Arguments of the constructor, as strings, numbers and arrays."""
        return {
            "irreps": self.irreps,
            "l_max": self.l_max,
            "n_max": self.n_max,
            "species": np.array(self.species),
            "n_radial": self.n_radial,
            "compression": self.compression,
            "triple_contraction": self.triple_contraction,
            "n_jobs": self.n_jobs,
            "n_far": self.n_far,
        } | ({} if self.channels is None else {"channels": self.channels, "time": self.time})


class MadeBlocks(MutableMapping):
    """Blocks by irrep, made on access and kept then.

    Parameters
    ----------
    density : ndarray of shape (n_centers, (l_max + 1)^2, n_channels)
    maker : BlockMaker
    made : dict of str to ndarray, default=None
        Blocks that are there.
    """

    def __init__(self, density: Floats, maker: BlockMaker, made: dict[str, Floats] | None = None):
        self.density, self.maker, self.made = density, maker, {} if made is None else made
        self.seen = False

    @property
    def untouched(self) -> bool:
        """Whether no user has seen a block, and so cannot have changed it."""
        return not self.seen

    def shape(self, key: str) -> tuple[int, int, int]:
        """Shape of a block, which is not made."""
        if key == DENSITY:
            return self.density.shape
        if key in self.made:
            return self.made[key].shape
        return len(self.density), self.maker.dims[key], self.maker.widths[key]

    def block(self, key: str) -> Floats:
        """Make a block, for those who only read it."""
        if key not in self.made:
            what = f"the features of {len(self.density)} centers"
            out = allocate({key: self.shape(key)}, self.density.dtype, what)[key]
            self.maker.fill(key, self.density, out)
            self.made[key] = out
        return self.made[key]

    def rows(self, key: str, rows: Any) -> Floats:
        """Pick rows of a block, which is not made if it is not there and large."""
        if key in self.made or np.prod(self.shape(key)) <= _SMALL:
            return self.block(key)[rows]
        density = np.ascontiguousarray(self.density[rows])
        out = np.empty((len(density), *self.shape(key)[1:]), density.dtype)
        self.maker.fill(key, density, out)
        return out

    def pick(self, rows: Any) -> MadeBlocks:
        """Blocks of some rows."""
        made = {key: block[rows] for key, block in self.made.items()}
        return self._like(self.density[rows], made)

    def copy(self) -> MadeBlocks:
        """Blocks that share no array with these."""
        return self._like(self.density.copy(), {key: block.copy() for key, block in self.made.items()})

    def _like(self, density: Floats, made: dict[str, Floats]) -> MadeBlocks:
        blocks = MadeBlocks(density, self.maker, made)
        blocks.seen = self.seen
        return blocks

    def __getitem__(self, key: str) -> Floats:
        if key not in self:
            raise KeyError(key)
        self.seen = True
        return self.block(key)

    def __setitem__(self, key: str, block: Floats) -> None:
        self.seen, self.made[key] = True, block

    def __delitem__(self, key: str) -> None:
        raise TypeError("blocks that are made of densities cannot be deleted: take dict(features.blocks)")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.maker.widths, *self.made)))

    def __len__(self) -> int:
        return len(self.maker.widths | self.made)

    def __contains__(self, key: object) -> bool:
        return key in self.maker.widths or key in self.made
