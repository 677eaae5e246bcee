"""Speed of SOAP and lambda-SOAP beside DScribe and featomic, in the same run, one thread.

    python benchmarks/descriptor_speed.py [--repeats 5]

Molecules of H, C, N, O, periodic boxes of 32 water molecules, and a rattled cell of 512 silicon atoms. From frames to
an array; CPU microseconds per atom, the median of alternating repeats. DScribe's cutoff is reduced by the 3.7 sigma
that it looks beyond it, so that all codes see the same neighbors; featomic is asked for lambda = 0 .. 3
only. Peers that are not installed (extra "bench") are left out.
"""

import argparse
import os
import statistics
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402

from eqkernels import SOAP, LambdaSOAP  # noqa: E402
from eqkernels.datasets import load_small_organics  # noqa: E402

SETTINGS = {"std": {"n_max": 8, "l_max": 6, "sigma": 0.3}, "large": {"n_max": 12, "l_max": 9, "sigma": 0.3}}
IRREPS = "0e+1o+1e+2e+2o+3o+3e"


def molecules():
    return load_small_organics().frames[:600], 5.0


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


def peers(frames, cutoff, n_max, l_max, sigma, few):
    """Functions to time, by name."""
    ours = {"cutoff": cutoff, "n_max": n_max, "l_max": l_max, "sigma": sigma}
    soap, equivariant = SOAP(**ours).fit(frames), LambdaSOAP(**ours, irreps=IRREPS).fit(frames)
    codes = {"SOAP, eqkernels": lambda: soap.transform(frames)}
    try:
        from dscribe.descriptors import SOAP as DScribe

        species = sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})
        reach = cutoff - 3.7 * sigma
        theirs = DScribe(r_cut=reach, n_max=n_max, l_max=l_max, sigma=sigma, species=species,
                         periodic=bool(frames[0].pbc.any()))  # fmt: skip
        codes["SOAP, DScribe"] = lambda: theirs.create(frames)
    except ImportError:
        pass
    codes["lambda-SOAP, eqkernels"] = lambda: equivariant.transform(few)
    try:
        import featomic
        from metatensor import Labels

        selected = Labels(["o3_lambda"], np.arange(4).reshape(-1, 1))
        density = {
            "cutoff": {"radius": cutoff, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
            "density": {"type": "Gaussian", "width": sigma},
            "basis": {
                "type": "TensorProduct", "max_angular": l_max, "radial": {"type": "Gto", "max_radial": n_max - 1}
            },
        }  # fmt: skip
        spectrum = featomic.SoapPowerSpectrum(**density)
        product = featomic.clebsch_gordan.EquivariantPowerSpectrum(featomic.SphericalExpansion(**density))
        keys = ["neighbor_1_type", "neighbor_2_type"]
        codes["SOAP, featomic"] = lambda: (
            spectrum.compute(frames).keys_to_samples("center_type").keys_to_properties(keys)
        )
        codes["lambda-SOAP, featomic"] = lambda: product.compute(
            few, selected_keys=selected, neighbors_to_properties=True
        )
    except ImportError:
        pass
    return codes


def measure(codes, repeats):
    """Median CPU seconds of each function, run in turn."""
    times = {name: [] for name in codes}
    for turn in range(repeats + 1):
        for name, function in codes.items():
            start = time.process_time()
            result = function()
            if turn:  # the first turn compiles and fills caches
                times[name].append(time.process_time() - start)
            del result
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="n_max 12, l_max 9 as well")
    arguments = parser.parse_args()
    for name, (frames, cutoff) in {"molecules": molecules(), "water": water_boxes(), "silicon": silicon()}.items():
        for size in ("std", "large") if arguments.large else ("std",):
            few = frames[: max(1, len(frames) // 4)]  # their features fill gigabytes
            seconds = measure(peers(frames, cutoff, **SETTINGS[size], few=few), arguments.repeats)
            atoms = {"SOAP": sum(map(len, frames)), "lambda-SOAP": sum(map(len, few))}
            for code, value in seconds.items():
                kind = code.split(",")[0]
                ratio = value / seconds[f"{kind}, eqkernels"]
                micro = 1e6 * value / atoms[kind]
                print(f"{name:10s} {size:6s} {code:24s} {micro:9.1f} us/atom   {ratio:6.1f} x", flush=True)


if __name__ == "__main__":
    main()
