"""
Error bars of dipoles and polarizabilities
==========================================

Dipoles and polarizabilities with error bars, and how far to trust them.

Takes some seconds after the first run, which compiles. Prints how many errors lie within the error bars, for tensors
and for scalars that derive from them, shows what choosing the structures to label by their variance gains, and writes
the calibration curves to error_bars.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import numpy as np

from eqkernels import LambdaSOAP, TensorCommittee, TensorGPR, rank_candidates
from eqkernels.calibration import calibration_curve, negative_log_likelihood, propagate, sharpness
from eqkernels.datasets import load_water_clusters
from eqkernels.metrics import frobenius_rmse
from eqkernels.plotting import CalibrationDisplay

start = time.perf_counter()
data = load_water_clusters()
order = np.random.RandomState(0).permutation(len(data.frames))
train, test, pool = order[:150], order[150:300], order[300:]
scalars = {"dipole": ["norm"], "polarizability": ["mean", "anisotropy"]}
derived = {"norm": np.linalg.norm, "mean": lambda t: np.trace(t) / 3, "anisotropy": None}
derived["anisotropy"] = lambda t: np.sqrt(1.5) * np.linalg.norm(t - np.trace(t) / 3 * np.eye(3))
ax = None


def report(what, truth, mean, std):
    _, (within68, within95) = calibration_curve(truth, mean, std, [0.68, 0.95])
    likelihood = negative_log_likelihood(truth, mean, std)
    error = frobenius_rmse(truth, mean)
    print(f"{what:36}{error:9.4f}{within68:7.0%}{within95:7.0%}{likelihood:8.2f}{sharpness(std):11.4f}")


print(f"{'':36}{'RMSE':>9}{'68 %':>7}{'95 %':>7}{'NLL':>8}{'sharpness':>11}")
for name in scalars:
    y = data[name]
    descriptor = LambdaSOAP(cutoff=5.0, n_max=5, l_max=3).fit(data.frames, y)
    features = descriptor.transform(data.frames)
    process = TensorGPR().fit(features[train], y[train])
    for model in (process, TensorCommittee(n_estimators=6, random_state=0).fit(features[train], y[train])):
        label = f"{name}, {type(model).__name__}"
        mean, std = model.predict(features[test], return_std=True)
        report(label, y[test], mean, std)
        ax = CalibrationDisplay.from_predictions(y[test], mean, std, label=label, ax=ax).ax_
    mean, cov = process.predict(features[test], return_cov=True)
    for scalar in scalars[name]:
        truth = np.array([derived[scalar](tensor) for tensor in y[test]])
        report(f"  its {scalar}", truth, *propagate(scalar, mean, cov))

process = TensorGPR().fit(features[train[:60]], y[train[:60]])
best = rank_candidates(process, features[pool], n_candidates=60)
print("\npolarizability learned from 60 structures and 60 more of a pool: RMSE on the test set")
for label, more in (("chosen one by one by their variance", pool[best]), ("at random", pool[:60])):
    chosen = np.concatenate([train[:60], more])
    predicted = TensorGPR().fit(features[chosen], y[chosen]).predict(features[test])
    print(f"{label:>36}{frobenius_rmse(y[test], predicted):9.4f}")
ax.figure.savefig("error_bars.png", dpi=150)
print(f"wrote error_bars.png, {time.perf_counter() - start:.1f} s in all")
