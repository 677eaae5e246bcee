"""
The Lorentz force on a moving charge
====================================

A charge in a magnetic field, learned exactly from twenty samples: inputs beyond the geometry and their parity.

The force q v x B is a product of three inputs. A magnetic field is an axial vector, with which a velocity couples to a
polar one, the force; as a polar vector it could not. Prints the errors of both, follows a charge along a trajectory
with the learned force, and writes lorentz_force.png. Takes some seconds.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms

from eqkernels import CovariantKernel, LambdaSOAP, TensorKernelRidge

random = np.random.default_rng(0)


def particle(charge, velocity, field):
    atoms = Atoms("H", info={"magnetic_field": field})
    atoms.arrays["velocity"], atoms.arrays["charge"] = np.array([velocity]), np.array([charge])
    return atoms


def samples(n):
    made = [(random.normal(), *random.normal(size=(2, 3))) for _ in range(n)]
    return [particle(*one) for one in made], np.array([q * np.cross(v, B) for q, v, B in made])


def fitted(field):
    inputs = {"charge": "0e", "velocity": "1o", "magnetic_field": field}
    descriptor = LambdaSOAP(cutoff=2.0, n_max=1, l_max=1, inputs=inputs)
    kernel = CovariantKernel(zeta=2, normalize=False)
    return TensorKernelRidge(1e-14, kernel=kernel, descriptor=descriptor, target="i").fit(*train)


train, (test, expected) = samples(20), samples(200)
models = {"axial field, 1e": fitted("1e"), "polar field, 1o": fitted("1o")}
fig = plt.figure(figsize=(8, 3.8))
ax = fig.add_subplot(121)
for (name, model), style in zip(models.items(), ("o", "x"), strict=True):
    predicted = model.predict(test)
    print(f"{name}: relative error {np.linalg.norm(predicted - expected) / np.linalg.norm(expected):.1e}")
    ax.plot(expected.ravel(), predicted.ravel(), style, markersize=3, label=name)
ax.set(xlabel="force", ylabel="predicted force", title="200 other samples")
ax.legend()

# Runge-Kutta steps of the fourth order
model, field, steps, dt = models["axial field, 1e"], np.array([0.0, 0.0, 1.0]), 120, 0.15


def force(velocity):
    return model.predict([particle(1.0, velocity, field)])[0]


position, velocity, path = np.zeros(3), np.array([1.0, 0.0, 0.2]), []
for _ in range(steps):
    path.append(position)
    k1 = force(velocity)
    k2 = force(velocity + 0.5 * dt * k1)
    k3 = force(velocity + 0.5 * dt * k2)
    k4 = force(velocity + dt * k3)
    position = position + dt * velocity + dt**2 / 6 * (k1 + k2 + k3)
    velocity = velocity + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
path, time = np.array(path), dt * np.arange(steps)
exact = np.stack([np.sin(time), np.cos(time) - 1, 0.2 * time], axis=1)
print(f"largest distance from the exact helix: {np.abs(path - exact).max():.1e}")
ax = fig.add_subplot(122, projection="3d")
ax.plot(*exact.T, label="exact", linewidth=4, alpha=0.4)
ax.plot(*path.T, "k--", linewidth=1, label="learned force")
ax.set(xlabel="x", ylabel="y", zlabel="z", title="a charge in a magnetic field")
ax.set_box_aspect(None, zoom=0.85)
ax.legend(loc="upper left")
fig.tight_layout()
fig.savefig("lorentz_force.png", dpi=120)
