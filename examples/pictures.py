"""
Pictures of models and tensors
==============================

All pictures of eqkernels.plotting, of polarizabilities and shieldings of small molecules.

Takes about half a minute after the first run, which compiles. Writes parity, learning curves, errors against the
distance from the training set, a map, and tensors on a molecule to pictures_*.png and, where chemiscope is installed
(the extra "chemiscope"), a page for the browser to pictures.html.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, TensorGPR, TensorKernelRidge, TensorRidge
from eqkernels.datasets import load_small_organics
from eqkernels.plotting import (
    CalibrationDisplay,
    KernelMapDisplay,
    LearningCurveDisplay,
    ParityDisplay,
    ResidualDisplay,
    TensorDisplay,
    to_chemiscope,
)

start = time.perf_counter()
data = load_small_organics()
frames, y, unit = data.frames[:210], data.polarizability[:210], "$a_0^3$"
train, test, y_train, y_test = frames[:150], frames[150:], y[:150], y[150:]


def save(display, name):
    display.figure_.savefig(f"pictures_{name}.png", dpi=150)
    print(f"wrote pictures_{name}.png")


model = make_pipeline(LambdaSOAP(cutoff=4.0, n_max=4, l_max=3), TensorGPR()).fit(train, y_train)
save(ParityDisplay.from_estimator(model, test, y_test, unit=unit), "irreps")
save(ParityDisplay.from_estimator(model, test, y_test, unit=unit, kind="cartesian"), "components")
save(CalibrationDisplay.from_estimator(model, test, y_test), "calibration")
save(ResidualDisplay.from_estimator(model, test, y_test, train, unit=unit), "residuals")
save(KernelMapDisplay.from_estimator(model, test, y_test, unit=unit), "map")

shielding = TensorRidge(descriptor=LambdaSOAP(cutoff=4.0, n_max=3, l_max=2), target="shielding")
shielding.fit(train[:75], data.shielding[:75])
display = ParityDisplay.from_estimator(shielding, test, data.shielding[150:210], unit="ppm", kind="species")
save(display, "species")

features = LambdaSOAP(cutoff=4.0, n_max=4, l_max=3).fit_transform(frames, y)  # once for all sizes
curve = LearningCurveDisplay.from_estimator(
    TensorKernelRidge(), features, y, label="geometries held back", unit=unit, random_state=0
)
options = {"label": "molecules held back", "unit": unit, "random_state": 0, "ax": curve.ax_}
save(
    LearningCurveDisplay.from_estimator(TensorKernelRidge(), features, y, groups=data.names[:210], **options), "curves"
)

molecule = next(k for k, name in enumerate(data.names) if name == "ethanol")
figure, axes = plt.subplots(1, 4, figsize=(14, 4), subplot_kw={"projection": "3d"}, layout="constrained")
for ax, name in zip(axes, ("dipole", "polarizability", "hyperpolarizability", "shielding"), strict=True):
    tensors, target = data[name][molecule], data.tensors[name]
    options = {"target": target, "per_atom": name == "shielding", "unit": data.units[name]}
    display = TensorDisplay.from_predictions(data.frames[molecule], tensors, ax=ax, **options)
    ax.set_title(f"{name} of ethanol")
save(display, "tensors")

try:
    to_chemiscope(test, "pictures.html", model=model, y=y_test, name="polarizability", unit="a0^3")
    print("wrote pictures.html")
except ImportError as error:
    print(error)
print(f"{time.perf_counter() - start:.1f} s in all")
