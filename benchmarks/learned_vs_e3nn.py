"""Learned features beside a network of e3nn and PyTorch: error against CPU seconds, and the cost of a structure.

    python benchmarks/learned_vs_e3nn.py path/to/water_dimer.xyz --n 200 --seconds 15
    python benchmarks/learned_vs_e3nn.py path/to/water_dimer.xyz --python path/to/environment/with/e3nn/bin/python

The file is example/water_dimer of TENSOAP (https://github.com/dilkins/TENSOAP). Both learn its dipoles on one core,
with the same channels, l_max, convolutions, cutoff and radial basis; e3nn's part is ``MessagePassing`` of its models
(in its float32, ours is float64) and a linear readout, trained with Adam on batches of 50 structures with a falling
learning rate. It is left out, with a message, where torch or e3nn are missing. CPU time is that of the process, on one
thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
import numpy as np  # noqa: E402

CHANNELS, L_MAX, LAYERS, CUTOFF, N_RADIAL, N_HIDDEN = 16, 2, 2, 6.0, 6, 16
BATCH, LEARNING_RATE = 50, 1e-2
MARKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def rmse(predicted, true):
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def seconds_of(function):
    """Median CPU time of several calls."""
    times = []
    for _ in range(7):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return float(np.median(times))


# -- ours ------------------------------------------------------------------------------------------------------


def ours(frames, y, train, test, seconds):
    from eqkernels import EquivariantNetworkRegressor

    options = {"cutoff": CUTOFF, "channels": CHANNELS, "l_max": L_MAX, "n_layers": LAYERS, "n_radial": N_RADIAL}
    options |= {"n_hidden": N_HIDDEN, "products": False, "random_state": 0}
    some, rest = [frames[k] for k in train], [frames[k] for k in test]
    EquivariantNetworkRegressor(**options, max_iter=2).fit(some[:20], y[train][:20]).predict(rest[:2])  # compiles
    curve = []
    for mark in [mark for mark in MARKS if mark < seconds] + [seconds]:
        model = EquivariantNetworkRegressor(**options, max_iter=10**6, time_budget=mark).fit(some, y[train])
        curve.append((mark, rmse(model.predict(rest), y[test])))
    # an epoch of Adam, or an iteration of L-BFGS, which calls the loss a little more often: a lower bound of the speed
    network = model.descriptor_
    epoch = 1e3 * network.history_["cpu_time"][-1] / network.n_iter_ / len(train)
    return {"curve": curve, "epoch": epoch, "predict": 1e3 * seconds_of(lambda: model.predict(rest)) / len(rest)}


# -- e3nn, possibly in another environment ---------------------------------------------------------------------


def graphs(positions, numbers, structures):
    """Edges of structures of equal size, without periodic images."""
    n = positions.shape[1]
    picked = positions[structures]
    vectors = picked[:, None] - picked[:, :, None]
    near = (np.linalg.norm(vectors, axis=-1) < CUTOFF) & ~np.eye(n, dtype=bool)
    k, i, j = np.nonzero(near)
    return k * n + i, k * n + j, vectors[k, i, j], numbers[structures].reshape(-1)


def e3nn_part(path):
    import torch
    from e3nn import o3
    from e3nn.math import soft_one_hot_linspace
    from e3nn.nn.models.v2106.gate_points_message_passing import MessagePassing

    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = np.load(path)
    seconds, train, test = float(data["seconds"]), data["train"], data["test"]
    y = torch.tensor(data["y"], dtype=torch.get_default_dtype())
    scale = y[train].square().mean().sqrt()
    n_atoms = data["positions"].shape[1]

    def prepare(structures):
        i, j, vectors, numbers = graphs(data["positions"], data["numbers"], structures)
        vectors = torch.tensor(vectors, dtype=torch.get_default_dtype())
        species = torch.tensor(np.stack([numbers == 1, numbers == 8], axis=1), dtype=vectors.dtype)
        harmonics = o3.spherical_harmonics(list(range(L_MAX + 1)), vectors, True, "component")
        radial = soft_one_hot_linspace(vectors.norm(dim=1), 0.0, CUTOFF, N_RADIAL, "bessel", True) * N_RADIAL**0.5
        return species, species, torch.tensor(j), torch.tensor(i), harmonics, radial

    hidden = o3.Irreps([(CHANNELS, (l, (-1) ** l)) for l in range(L_MAX + 1)])
    model = MessagePassing(
        irreps_node_sequence=["2x0e", *[hidden] * (LAYERS - 1), f"{CHANNELS}x0e+{CHANNELS}x1o"],
        irreps_node_attr="2x0e",
        irreps_edge_attr=o3.Irreps.spherical_harmonics(L_MAX),
        fc_neurons=[N_RADIAL, N_HIDDEN],
        num_neighbors=n_atoms - 1,
    )

    readout = o3.Linear(model.irreps_node_output, "1x1o")

    def predict(inputs):
        return readout(model(*inputs)).reshape(-1, n_atoms, 3).sum(dim=1) * scale

    optimizer = torch.optim.Adam([*model.parameters(), *readout.parameters()], lr=LEARNING_RATE)
    whole, batches = prepare(test), {}
    random, order, epochs, used, curve = np.random.RandomState(0), np.arange(len(train)), 0, 0.0, []
    marks = [mark for mark in MARKS if mark < seconds] + [seconds]
    for k in range(0, len(train), BATCH):  # constant batches, prepared once, so that only the network is timed
        batches[k] = prepare(train[k : k + BATCH])
    for _ in range(3):  # torch.jit compiles
        (predict(batches[0]) ** 2).mean().backward()
    while used < seconds:
        begin = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(1.0 - used / seconds, 0.0) + 1e-5
        for k in random.permutation(order[::BATCH]):
            optimizer.zero_grad()
            loss = ((predict(batches[k]) - y[train[k : k + BATCH]]) / scale).square().mean()
            loss.backward()
            optimizer.step()
        used += time.process_time() - begin
        epochs += 1
        while marks and used >= marks[0]:
            with torch.no_grad():
                curve.append((marks.pop(0), rmse(predict(whole).numpy(), data["y"][test])))
    with torch.no_grad():
        inference = 1e3 * seconds_of(lambda: predict(prepare(test))) / len(test)
    print(json.dumps({"curve": curve, "epoch": 1e3 * used / epochs / len(train), "predict": inference}))


def e3nn_in(python, frames, y, train, test, seconds):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data.npz")
        positions, numbers = np.array([a.positions for a in frames]), np.array([a.numbers for a in frames])
        np.savez(path, positions=positions, numbers=numbers, y=y, train=train, test=test, seconds=seconds)
        size = [f"--channels={CHANNELS}", f"--l-max={L_MAX}"]
        command = [python, os.path.abspath(__file__), path, "--e3nn-part", *size]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"e3nn is left out: {reason} (give the Python that has torch and e3nn with --python)")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    global CHANNELS, L_MAX
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--n", type=int, default=200, help="training structures")
    parser.add_argument("--seconds", type=float, default=15.0, help="CPU seconds of training")
    parser.add_argument("--channels", type=int, default=CHANNELS)
    parser.add_argument("--l-max", type=int, default=L_MAX)
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch and e3nn")
    parser.add_argument("--e3nn-part", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    CHANNELS, L_MAX = arguments.channels, arguments.l_max
    if arguments.e3nn_part:
        e3nn_part(arguments.file)
        return
    import warnings

    import ase.io

    warnings.filterwarnings("ignore", message=".*flagged periodic")
    frames = ase.io.read(arguments.file, ":")
    y = np.array([atoms.info["mu"] for atoms in frames])
    order = np.random.RandomState(0).permutation(len(frames))
    data = (frames, y, order[: arguments.n], order[800:], arguments.seconds)
    results = {"eqkernels": ours(*data), "e3nn": e3nn_in(arguments.python, *data)}
    print(f"RMSE of the dipole per component (a.u.), {arguments.n} water dimers, one core")
    print(f"{'CPU s':>8}" + "".join(f"{name:>12}" for name in results))
    for k, (mark, _) in enumerate(results["eqkernels"]["curve"]):
        errors = [one["curve"][k][1] if one and k < len(one["curve"]) else np.nan for one in results.values()]
        print(f"{mark:8g}" + "".join(f"{error:12.4f}" for error in errors))
    for key, what in (("epoch", "training, ms per structure and epoch"), ("predict", "inference, ms per structure")):
        values = [one[key] if one else np.nan for one in results.values()]
        print(
            f"{what}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(results, values, strict=True)), end=""
        )
        print(f", ratio {values[1] / values[0]:.1f}")


if __name__ == "__main__":
    main()
