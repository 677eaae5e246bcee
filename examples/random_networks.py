"""
Symmetry of random networks
===========================

The output of an equivariant network has the symmetry of its input, whatever its weights (Smidt 2021, figure 2C).

Networks with random weights see an atom in the middle of a tetrahedron and of an octahedron. Their features of that
atom are coefficients of a function on the sphere: each network draws another shape, and each shape has all the
symmetries of the input. Degrees l that the point group forbids vanish: for the tetrahedron all but 0, 3 and 4, for the
octahedron all but 0 and 4. Takes a few seconds after the first run, which compiles, and writes random_networks.png.

T. E. Smidt, Trends Chem. 3, 82 (2021), https://doi.org/10.1016/j.trechm.2020.10.006.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms

from eqkernels import EquivariantNetwork
from eqkernels.so3 import spherical_harmonics

L_MAX = 4
KEYS = [f"{l}{'eo'[l % 2]}" for l in range(L_MAX + 1)]
tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
octahedron = np.concatenate([np.eye(3), -np.eye(3)])
frames = [
    Atoms(["C", *["H"] * len(corners)], positions=1.1 * np.vstack([np.zeros(3), corners]))
    for corners in (tetrahedron, octahedron)
]

polar, azimuth = np.meshgrid(np.linspace(0, np.pi, 61), np.linspace(0, 2 * np.pi, 121), indexing="ij")
directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
harmonics = spherical_harmonics(directions, L_MAX)

figure = plt.figure(figsize=(11, 6))
for seed in range(4):
    network = EquivariantNetwork(
        cutoff=3.0, channels=4, l_max=L_MAX, products=False, irreps="+".join(KEYS), random_state=seed
    ).fit(frames)
    features = network.transform(frames)
    for row, name in enumerate(("tetrahedron", "octahedron")):
        center = [features[row].blocks[key][0, :, 0] for key in KEYS]
        norms = np.array([np.linalg.norm(part) for part in center])
        print(f"{name:>12}, network {seed}: norm of l = 0 .. {L_MAX}: " + "  ".join(f"{norm:8.1e}" for norm in norms))
        radius = np.abs(harmonics @ np.concatenate(center))
        axes = figure.add_subplot(2, 4, 4 * row + seed + 1, projection="3d")
        surface = radius[..., None] * directions
        colors = plt.cm.viridis(radius / radius.max())
        axes.plot_surface(*np.moveaxis(surface, -1, 0), facecolors=colors, rstride=1, cstride=2, linewidth=0)
        corners = frames[row].positions[1:] / 1.1 * 1.2 * radius.max()
        axes.scatter(*corners.T, color="black", s=20)
        reach = 0.85 * radius.max()
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach), title=f"{name}, network {seed}")
        axes.set_box_aspect((1, 1, 1))
        axes.set_axis_off()
figure.tight_layout()
figure.savefig("random_networks.png", dpi=110)
