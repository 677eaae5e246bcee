"""
Polarizability of small molecules
=================================

Learn the polarizability of small molecules, and see what the model gets right, irrep by irrep.

Takes a few seconds after the first run, which compiles. Prints the errors beside the spread of the data and writes a
parity plot to parity.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, TensorKernelRidge
from eqkernels.datasets import load_small_organics
from eqkernels.metrics import frobenius_rmse, irrep_rmse
from eqkernels.plotting import ParityDisplay
from eqkernels.testing import assert_equivariant

start = time.perf_counter()
data = load_small_organics()
X, y = data.frames[:420], data.polarizability[:420]
X_train, X_test, y_train, y_test = X[:300], X[300:], y[:300], y[300:]

model = make_pipeline(LambdaSOAP(cutoff=4.0, n_max=5, l_max=3), TensorKernelRidge(alpha=1e-5))
model.fit(X_train, y_train)
predicted = model.predict(X_test)

unit = data.units["polarizability"]
target = data.tensors["polarizability"]
spread = {irrep: block.std() for irrep, block in target.to_irreps(y_test).items()}
print(f"polarizability of {len(X_test)} molecules, learned from {len(X_train)}")
print(f"{'irrep':>8} {'RMSE':>10} {'spread':>10}   {unit}, per component")
for irrep, error in irrep_rmse(y_test, predicted, target=target).items():
    print(f"{irrep:>8} {error:10.4f} {spread[irrep]:10.4f}")
print(f"{'tensor':>8} {frobenius_rmse(y_test, predicted):10.4f}   R2 = {model.score(X_test, y_test):.5f}")

assert_equivariant(model, X_test[:5], tolerance=1e-8)
print("rotates with its molecules: yes")
display = ParityDisplay.from_predictions(y_test, predicted, target=target, unit="$a_0^3$")
display.figure_.savefig("parity.png", dpi=150)
print(f"wrote parity.png, {time.perf_counter() - start:.1f} s in all")
