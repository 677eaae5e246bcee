"""
Environments and matrices on the sphere
=======================================

What a geometric tensor is, in pictures (Smidt 2021, figures 2A and 2B).

The neighbors of an atom, projected on spherical harmonics to l = 6, make a function on the sphere with lobes where the
neighbors are. Those of the two carbon atoms of ethane are inverted copies of each other: the coefficients differ, while
the power spectrum, their squares summed over m, is the same. Below, symmetric matrices as functions on the sphere, a
part of degree 0 and one of degree 2. Takes seconds and writes environments.png.

T. E. Smidt, Trends Chem. 3, 82 (2021), https://doi.org/10.1016/j.trechm.2020.10.006.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.build import molecule

from eqkernels import CartesianTensor
from eqkernels.so3 import spherical_harmonics

L_MAX, CUTOFF = 6, 2.3  # carbon and six hydrogen atoms
polar, azimuth = np.meshgrid(np.linspace(0, np.pi, 61), np.linspace(0, 2 * np.pi, 121), indexing="ij")
directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
flat = directions.reshape(-1, 3)

figure = plt.figure(figsize=(12, 7), layout="constrained")


def draw(place, signal, title):
    """Surface whose distance from the origin is the size of a function, colored by its sign."""
    signal = signal.reshape(polar.shape)
    ax = figure.add_subplot(place, projection="3d", computed_zorder=False)
    surface = np.abs(signal)[..., None] * directions
    colors = plt.cm.coolwarm(0.5 + 0.5 * signal / np.abs(signal).max())
    ax.plot_surface(*np.moveaxis(surface, -1, 0), facecolors=colors, rstride=1, cstride=2, linewidth=0, zorder=1)
    reach = 0.75 * np.abs(signal).max()
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach), title=title)
    ax.set_box_aspect((1, 1, 1))
    ax.set_axis_off()
    return ax, np.abs(signal).max()


grid = figure.add_gridspec(2, 12)
ethane = molecule("C2H6")
spectra = []
for column, atom in enumerate((0, 1)):
    steps = ethane.positions - ethane.positions[atom]
    near = steps[(np.linalg.norm(steps, axis=1) < CUTOFF) & (np.arange(len(ethane)) != atom)]
    coefficients = spherical_harmonics(near, L_MAX).sum(axis=0)
    spectra.append([np.sum(coefficients[l**2 : (l + 1) ** 2] ** 2) for l in range(L_MAX + 1)])
    ax, size = draw(grid[0, 4 * column : 4 * column + 4], spherical_harmonics(flat, L_MAX) @ coefficients,
                    f"carbon {atom} of ethane, to l = {L_MAX}")  # fmt: skip
    ax.scatter(*(near / CUTOFF * size).T, color="black", s=15, depthshade=False, zorder=2)

ax = figure.add_subplot(grid[0, 8:])
for k, spectrum in enumerate(spectra):
    ax.bar(np.arange(L_MAX + 1) + 0.4 * k - 0.2, spectrum, width=0.4, label=f"carbon {k}")
ax.set(xlabel="degree l", ylabel="power spectrum", title="the same scalars for both")
ax.legend()
difference = np.abs(np.subtract(*spectra)).max()
print(
    "power spectra of the two carbon atoms:", *(f"{value:.4f}" for value in spectra[0]), f"difference {difference:.0e}"
)

tensor = CartesianTensor("ij=ji")
matrices = {
    "unit matrix": np.eye(3),
    "trace 1, axis z": np.diag([0.0, 0.0, 1.0]),
    "traceless": np.diag([1.0, -1.0, 0.0]),
    "general": np.array([[1, 0.4, 0], [0.4, -0.2, 0.6], [0, 0.6, 0.5]]),
}
for column, (name, matrix) in enumerate(matrices.items()):
    parts = ", ".join(f"{key} {np.linalg.norm(block):.2f}" for key, block in tensor.to_irreps(matrix).items())
    draw(grid[1, 3 * column : 3 * column + 3], tensor.to_signal(matrix, flat), f"{name}\nnorms {parts}")
    print(f"{name:>16}: norms of the parts {parts}")
figure.savefig("environments.png", dpi=110)
