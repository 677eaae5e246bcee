"""Speed of SOAP, lambda-SOAP and their derivatives beside DScribe and featomic, in the same run.

    python benchmarks/descriptor_speed.py [--repeats 5] [--large] [--molecules file.xyz] [--picture speed.png]

Molecules of H, C, N, O, periodic boxes of 32 water molecules, and a rattled cell of 512 silicon atoms. From frames to
arrays; microseconds of CPU per atom on one thread, the median of alternating repeats, and the ratio to ours. DScribe's
cutoff is reduced by the 3.7 sigma that it looks beyond it, so that all codes see the same neighbors; featomic's blocks
are made dense, and its lambda-SOAP is asked for lambda = 0 .. 3 only. Peers that are not installed (extra "bench") are
left out. Of the molecules, 600 are taken; last, all of them for the wall time of two threads against one.
"""

import argparse
import os
import statistics
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402

from eqkernels import SOAP, LambdaSOAP  # noqa: E402
from eqkernels.datasets import load_small_organics  # noqa: E402

SETTINGS = {"std": {"n_max": 8, "l_max": 6, "sigma": 0.3}, "large": {"n_max": 12, "l_max": 9, "sigma": 0.3}}
IRREPS = "0e+1o+1e+2e+2o+3o+3e"


def molecules(path):
    """Those of a file, or 1000 of the package."""
    return (2 * load_small_organics().frames)[:1000] if path is None else ase.io.read(path, ":")


def water_boxes():
    random, frames = np.random.default_rng(0), []
    for _ in range(4):
        sites = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)
        sites = sites[random.permutation(64)[:32]] * 2.47
        box = Atoms(cell=[9.87] * 3, pbc=True)
        for site in sites:
            water = molecule("H2O")
            water.rotate(random.uniform(0, 360), random.normal(size=3))
            water.translate(site)
            box += water
        frames.append(box)
    return frames, 4.0


def silicon():
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.05, seed=0)
    return [atoms], 5.0


def codes_of(frames, cutoff, n_max, l_max, sigma, few):
    """Functions to time, by kind and code; few: the frames for what fills gigabytes."""
    ours = {"cutoff": cutoff, "n_max": n_max, "l_max": l_max, "sigma": sigma}
    soap, single = SOAP(**ours).fit(frames), SOAP(**ours, dtype="float32").fit(frames)
    equivariant = LambdaSOAP(**ours, irreps=IRREPS).fit(frames)
    cotangents = soap.transform(frames)
    codes = {
        ("SOAP", "eqkernels"): lambda: soap.transform(frames),
        ("SOAP", "eqkernels float32"): lambda: single.transform(frames),
        ("SOAP", "eqkernels vector-Jacobian product"): lambda: soap.vjp(frames, cotangents),
        ("lambda-SOAP", "eqkernels"): lambda: equivariant.transform(few),
        ("SOAP gradients", "eqkernels"): lambda: soap.gradients(few),
    }
    try:
        from dscribe.descriptors import SOAP as DScribe

        species = sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})
        theirs = DScribe(r_cut=cutoff - 3.7 * sigma, n_max=n_max, l_max=l_max, sigma=sigma, species=species,
                         periodic=bool(frames[0].pbc.any()))  # fmt: skip
        codes["SOAP", "DScribe"] = lambda: theirs.create(frames)
    except ImportError:
        pass
    try:
        import featomic
        from metatensor import Labels

        density = {
            "cutoff": {"radius": cutoff, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
            "density": {"type": "Gaussian", "width": sigma},
            "basis": {
                "type": "TensorProduct", "max_angular": l_max, "radial": {"type": "Gto", "max_radial": n_max - 1}
            },
        }  # fmt: skip
        spectrum = featomic.SoapPowerSpectrum(**density)
        product = featomic.clebsch_gordan.EquivariantPowerSpectrum(featomic.SphericalExpansion(**density))
        selected, keys = Labels(["o3_lambda"], np.arange(4).reshape(-1, 1)), ["neighbor_1_type", "neighbor_2_type"]

        def dense(some, **options):
            return spectrum.compute(some, **options).keys_to_samples("center_type").keys_to_properties(keys)

        codes["SOAP", "featomic"] = lambda: dense(frames)
        codes["SOAP gradients", "featomic"] = lambda: dense(few, gradients=["positions"])
        codes["lambda-SOAP", "featomic"] = lambda: product.compute(
            few, selected_keys=selected, neighbors_to_properties=True
        )
    except ImportError:
        pass
    return codes


def measure(codes, repeats):
    """Median CPU seconds of each function, run in turn; each turn is begun by another."""
    times, names = {name: [] for name in codes}, list(codes)
    for turn in range(repeats + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.process_time()
            result = codes[name]()
            if turn:  # the first turn compiles and fills caches
                times[name].append(time.process_time() - start)
            del result
    return {name: statistics.median(values) for name, values in times.items()}


def threads(frames, cutoff, repeats):
    """Wall time of one thread over that of two, in turn."""
    jobs = [SOAP(cutoff=cutoff, **SETTINGS["std"], n_jobs=n).fit(frames) for n in (1, 2)]
    times = [[], []]
    for _ in range(repeats + 1):
        for job, values in zip(jobs, times, strict=True):
            start = time.perf_counter()
            result = job.transform(frames)
            values.append(time.perf_counter() - start)
            del result
    one, two = (statistics.median(values[1:]) for values in times)
    return one / two


def draw(rows, path):
    """Bars of the times, one group for each data set and kind."""
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys((kind, data, size) for data, size, kind, _, _ in rows))
    colors = {"eqkernels": "C0", "DScribe": "C1", "featomic": "C2"}
    _, axes = plt.subplots(figsize=(7, 0.45 * len(groups) + 1.2), layout="constrained")
    for y, group in enumerate(groups[::-1]):
        codes = [(code, micro) for data, size, kind, code, micro in rows if (kind, data, size) == group]
        codes = [(code, micro) for code, micro in codes if code in colors]
        for k, (code, micro) in enumerate(codes):
            axes.barh(y + 0.27 * (1 - k), micro, 0.25, color=colors[code], label=code)
            axes.text(micro * 1.05, y + 0.27 * (1 - k), f"{micro:.0f}", va="center", fontsize=7)
    axes.set(xscale="log", xlabel="CPU time per atom / microseconds", yticks=range(len(groups)))
    axes.set_xlim(right=2 * axes.get_xlim()[1])
    axes.set_yticklabels([f"{kind}, {data}" for kind, data, _ in groups[::-1]])
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    axes.legend(handles.values(), handles.keys(), fontsize=8)
    plt.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="n_max 12, l_max 9 as well")
    parser.add_argument("--molecules", help="file of H, C, N, O molecules to take, instead of those of the package")
    parser.add_argument("--picture", help="file to draw the times into")
    arguments = parser.parse_args()
    rows, several = [], molecules(arguments.molecules)
    data = {"molecules": (several[:600], 5.0), "water": water_boxes(), "silicon": silicon()}
    for size in ("std", "large") if arguments.large else ("std",):
        for name, (frames, cutoff) in data.items():
            few = frames[: max(1, len(frames) // (8 if size == "std" else 30))]
            seconds = measure(codes_of(frames, cutoff, **SETTINGS[size], few=few), arguments.repeats)
            for (kind, code), value in seconds.items():
                micro = 1e6 * value / sum(map(len, frames if kind == "SOAP" else few))
                ratio = value / seconds[kind, "eqkernels"]
                print(f"{name:10s} {size:6s} {kind:15s} {code:34s} {micro:9.1f} us/atom  {ratio:6.2f} x", flush=True)
                rows.append((name, size, kind, code, micro))
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    ratio = threads(several, 5.0, 4 * arguments.repeats)
    print(f"two threads, {len(several)} molecules: {ratio:.2f} times as fast as one{load}")
    if arguments.picture:
        draw([row for row in rows if row[1] == "std"], arguments.picture)


if __name__ == "__main__":
    main()
