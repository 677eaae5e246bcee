"""
Learning curves
===============

Learning curves of the polarizability of molecules with fixed features, learned ones, and learned ones in a kernel.

The same data and test set for three models: lambda-SOAP features in a kernel, a trained network with its linear
readout, and the features of that network in a kernel. Fixed features have the lead for the least data, learned ones
fall faster. Takes about half a minute and writes learning_curves.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from eqkernels import CovariantKernel, EquivariantNetwork, LambdaSOAP, TensorKernelRidge, TensorRidge
from eqkernels.datasets import load_small_organics
from eqkernels.metrics import frobenius_rmse

SIZES = (25, 50, 100, 200)
data = load_small_organics()
frames, y = data.frames[:400], data.polarizability[:400]
test, y_test = frames[300:], y[300:]
curves = {"lambda-SOAP, kernel": [], "network": [], "learned features, kernel": []}

start = time.perf_counter()
for n in SIZES:
    train, y_train = frames[:n], y[:n]
    fixed = LambdaSOAP(cutoff=4.0, n_max=5, l_max=3)
    models = {"lambda-SOAP, kernel": TensorKernelRidge(alpha=1e-5, descriptor=fixed)}
    network = EquivariantNetwork(cutoff=4.0, max_iter=60, weight_decay=1e-3, random_state=0).fit(train, y_train)
    noise = {name.split(":")[1]: value for name, value in network.noise_.items()}
    models["network"] = TensorRidge(alpha=noise, normalize=False)
    models["learned features, kernel"] = TensorKernelRidge(alpha=1e-2, kernel=CovariantKernel(2, normalize=False))
    X, X_test = network.transform(train), network.transform(test)
    for name, model in models.items():
        learned = name != "lambda-SOAP, kernel"
        model.fit(X if learned else train, y_train)
        curves[name].append(frobenius_rmse(y_test, model.predict(X_test if learned else test)))
    print(f"{n:4d} molecules: " + ", ".join(f"{name} {errors[-1]:.3f}" for name, errors in curves.items()))

figure, axes = plt.subplots(figsize=(5.5, 4))
for (name, errors), marker in zip(curves.items(), "osD", strict=True):
    axes.loglog(SIZES, errors, marker=marker, label=name)
axes.set(xlabel="training molecules", ylabel="RMSE of the polarizability ($a_0^3$)")
axes.set(xticks=SIZES, yticks=[0.8, 1, 1.5, 2, 3])
for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_formatter("{x:g}")
axes.minorticks_off()
axes.legend()
figure.tight_layout()
figure.savefig("learning_curves.png", dpi=150)
print(f"wrote learning_curves.png, {time.perf_counter() - start:.1f} s in all")
