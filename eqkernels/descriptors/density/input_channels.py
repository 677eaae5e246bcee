r"""Channels of the density that come from inputs: which there are, and how they transform.

A tensor x of degree L and parity p makes

- of a center (its own, or that of its structure) one channel, which is x itself at l = L and nothing at other degrees;
- of the neighbors, for each channel (a n) of the density and each shift :math:`\delta = -L .. L`, the channel

.. math:: c^{\delta}_{anlm} = \sum_{m'M} \langle l'm'\, LM | lm \rangle
          \sum_{j \in a} x_{jM}\, f_{cut}(r_{ij})\, I_{nl'}(r_{ij})\, Y_{l'm'}(\hat{\mathbf r}_{ij}), \quad
          l' = l + \delta .

Its parity at the degree l is :math:`\sigma (-1)^l`, with :math:`\sigma = p (-1)^L` for the center and
:math:`\sigma = p (-1)^\delta` for the neighbors. Channels of the same :math:`\sigma` and the same sign under time
reversal are a *sector*, and stand side by side; the density itself belongs to the first one, (+1, +1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqkernels.structures.inputs import InputKind

NATURAL = (1, 1)
# Labels: species of channels that are made of inputs count down from here.
FIRST_LABEL = -2
# That of the sum over all species.
SUMMED = -1


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are made of one irrep of an input in one way.

    Attributes
    ----------
    name : str
        Of the input.
    part : slice
        Its components among those of all inputs.
    degree : int
        L.
    shift : int or None
        Of neighbors; None: the center's own.
    sector : (int, int)
        Sign sigma, and sign under time reversal.
    first : int
        First of the channels.
    width : int
        How many they are.
    """

    name: str
    part: slice
    degree: int
    shift: int | None
    sector: tuple[int, int]
    first: int = 0
    width: int = 1

    @property
    def channels(self):
        """Where the channels stand."""
        return slice(self.first, self.first + self.width)

    def degrees(self, l_max):
        """Pairs (l, l') of degrees of the channels and of the neighbor densities that they are made of."""
        if self.shift is None:
            return [(self.degree, None)]
        pairs = ((l, l + self.shift) for l in range(l_max + 1))
        return [(l, k) for l, k in pairs if 0 <= k <= l_max and abs(k - l) <= self.degree <= k + l]


@dataclass(frozen=True)
class InputChannels:
    """All channels of a density with inputs.

    Attributes
    ----------
    kinds : dict of str to InputKind
    per_atom : dict of str to bool
    scales : dict of str to float
        What the inputs are multiplied by.
    l_max : int
    n_density : int
        Channels of the density itself.
    neighbors : bool
        Whether the inputs of neighbors make channels.
    n_summed : int, default=0
        So many of the channels of the density, the last ones, are sums over all species, with
        ``compression="mu1nu1"``. They are factors of products of their own, and so are those that they make with inputs
        of neighbors; inputs of the center are either.
    """

    kinds: dict[str, InputKind]
    per_atom: dict[str, bool]
    scales: dict[str, float]
    l_max: int
    n_density: int
    neighbors: bool
    n_summed: int = 0

    @cached_property
    def parts(self):
        """Components of each input among those of all."""
        ends = np.cumsum([0, *(kind.dim for kind in self.kinds.values())]).tolist()
        return {name: slice(*pair) for name, pair in zip(self.kinds, zip(ends, ends[1:], strict=False), strict=True)}

    @cached_property
    def dim(self):
        """Number of components of all inputs."""
        return sum(kind.dim for kind in self.kinds.values())

    @cached_property
    def groups(self):
        """All groups of channels, sector by sector."""
        found = []
        for name, kind in self.kinds.items():
            begin = self.parts[name].start
            for irrep, part in zip(kind.irreps, kind.slices(), strict=True):
                at = slice(begin + part.start, begin + part.stop)
                shifts = range(-irrep.l, irrep.l + 1) if self.neighbors and self.per_atom[name] else ()
                for shift in (None, *shifts):
                    sign = irrep.p * (-1) ** (irrep.l if shift is None else shift)
                    width = 1 if shift is None else self.n_density
                    group = ChannelGroup(name, at, irrep.l, shift, (sign, kind.time), width=width)
                    if group.degrees(self.l_max):
                        found.append(group)
        placed, first = [], self.n_density
        for sector in _order({group.sector for group in found}):
            for group in (one for one in found if one.sector == sector):
                placed.append(ChannelGroup(**{**vars(group), "first": first}))
                first += group.width
        return placed

    @cached_property
    def from_neighbors(self):
        """Those groups that inputs of neighbors make."""
        return [group for group in self.groups if group.shift is not None]

    @property
    def n_channels(self):
        """Number of channels in all."""
        return self.n_density + sum(group.width for group in self.groups)

    def sectors(self):
        """First channel of each sector, the channel after its last, and what kind it is: (first, stop, sector)."""
        out = []
        for sector in _order({NATURAL, *(group.sector for group in self.groups)}):
            inside = [group.first for group in self.groups if group.sector == sector]
            width = sum(group.width for group in self.groups if group.sector == sector)
            first = 0 if sector == NATURAL else inside[0]
            out.append((first, first + width + (self.n_density if sector == NATURAL else 0), sector))
        return out

    def arrays(self, species, n_radial):
        """Labels (species, radial index), live degrees and sectors of all channels, as arrays of integers."""
        species = [*species, SUMMED] if self.n_summed else species
        own = [(int(one), n) for one in species for n in range(n_radial)]
        live = np.ones((self.n_channels, self.l_max + 1), dtype=np.int64)
        live[self.n_density :] = self.live()
        sectors = [(first, stop, *sector) for first, stop, sector in self.sectors()]
        arrays = {"labels": np.array([*own, *self.labels(n_radial)]), "live": live, "sectors": np.array(sectors)}
        return arrays | ({"roles": self.roles()} if self.n_summed else {})

    def roles(self):
        """For each channel, whether it may be the first and the second factor of products, (n_channels, 2)."""
        roles = np.ones((self.n_channels, 2), dtype=np.int64)
        starts = [0, *(group.first for group in self.from_neighbors)]
        for start in starts:
            end = start + self.n_density
            roles[start : end - self.n_summed, 1] = roles[end - self.n_summed : end, 0] = 0
        return roles

    def labels(self, n_radial):
        """Label (negative number of the group and species, radial index) of each channel of inputs, in their order."""
        labels, code = [], FIRST_LABEL
        for group in self.groups:
            for q in range(group.width):
                labels.append((code, 0 if group.shift is None else q % n_radial))
                if group.shift is None or q % n_radial == n_radial - 1:
                    code -= 1
        return labels

    def names(self, species, n_radial):
        """Names of the labels in their order, e.g. ``"spin"``, ``"spin(O) l-1"``."""
        names: list[str] = []
        species = [*species, "*"] if self.n_summed else species
        for group in self.groups:
            if group.shift is None:
                names.append(group.name)
            else:
                source = f" l{group.shift:+d}" if group.shift else ""
                names += [f"{group.name}({species[k]}){source}" for k in range(group.width // n_radial)]
        return names

    def live(self):
        """For each channel of inputs, whether it can differ from zero at each degree, (n_input_channels, l_max + 1)."""
        live = np.zeros((self.n_channels - self.n_density, self.l_max + 1), dtype=bool)
        for group in self.groups:
            rows = slice(group.first - self.n_density, group.first - self.n_density + group.width)
            live[rows, [l for l, _ in group.degrees(self.l_max)]] = True
        return live


def _order(sectors):
    """Sectors with the natural one first."""
    return sorted(sectors, key=lambda sector: (-sector[1], -sector[0]))
