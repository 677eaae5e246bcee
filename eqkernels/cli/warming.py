"""``eqkernels warmup``: compile everything once, so that no later process waits; and ``eqkernels versions``."""

from __future__ import annotations

import importlib.metadata
import platform
import time
import warnings

import numpy as np
from ase.build import bulk, molecule

from eqkernels import (
    SOAP,
    EquivariantNetworkRegressor,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.cli.console import say, show

_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "llvmlite", "ase", "skops", "matplotlib", "typer")


def warmup() -> None:
    """Fit every kind of model to a few structures."""
    start = time.perf_counter()
    frames = [molecule(name) for name in ("H2O", "NH3", "CH4", "CH3OH", "CO2")]
    for atoms in frames:
        atoms.rattle(0.05, seed=1)
    random = np.random.default_rng(0)
    y = random.normal(size=(5, 3, 3))
    y = y + y.swapaxes(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for descriptor in (SOAP(), SphericalExpansion(), NBodyFeatures(n_max=2, l_max=2)):
            say(f"{type(descriptor).__name__} ...")
            descriptor.fit([*frames, bulk("Cu")]).transform([*frames, bulk("Cu")])
        for model in (TensorRidge(), TensorKernelRidge(), TensorGPR(), SparseTensorGPR(10),
                      EquivariantNetworkRegressor(max_iter=2)):  # fmt: skip
            say(f"{type(model).__name__} ...")
            model.fit(frames, y).predict(frames)
        say("forces ...")
        forces = [random.normal(size=(len(atoms), 3)) for atoms in frames]
        model = SparseTensorGPR(10, descriptor=LambdaSOAP()).fit(frames, random.normal(size=5), forces=forces)
        model.predict_forces(frames)
    say(f"compiled in {time.perf_counter() - start:.0f} s; later processes load it from the cache of numba")


def versions() -> None:
    """Print the versions of what matters."""
    show(f"eqkernels {importlib.metadata.version('eqkernels')}")
    show(f"python {platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        try:
            show(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            show(f"{name} is not installed")
