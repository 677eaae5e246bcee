"""Models against each other on all data sets: errors, stated errors, error bars, time.

    python benchmarks/leaderboard.py                          # the data sets of the package
    python benchmarks/leaderboard.py path/to/folder           # and the files of SETS that are in a folder
    python benchmarks/leaderboard.py folder --sets water_monomer:dipole --models default,search --splits 5 --seconds 30
    python benchmarks/leaderboard.py --read results.json      # the tables again, of runs that are in a file

Every split draws structures to train and to test at random. Rows are models, columns are

- RMSE and MAE of the Frobenius norm of the error on structures to test, as root mean square and mean over splits;
- stated: the error that the model itself says to expect, of the training set alone, and its ratio to the RMSE with the
  standard error of the ratio over splits (of one split of 25 structures, chance alone makes 15 % and more);
- off by: root mean square, over splits, of the logarithm of this ratio in units of the standard error that the stated
  error and the RMSE have together: 1 if the stated errors are right, and are known as well as they say;
- bars: components of the tensors that lie within one standard deviation, 68 % if the error bars are right;
- CPU seconds of the fit.

A second table has each model's RMSE relative to the default model, as the geometric mean over the data sets.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone

from eqkernels import (
    AutoTensorRegressor,
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorKernelRidge,
    datasets,
    io,
    recommend,
)  # fmt: skip
from eqkernels.automatic.facts import choose_aggregate, read_facts, species_channels
from eqkernels.descriptors import EquivariantUnion
from eqkernels.kernels import CovariantKernel
from eqkernels.metrics import frobenius_mae, frobenius_rmse, isotropic_mean
from eqkernels.structures.paired import paired_rows
from eqkernels.validation import expected_error, measured

N_POINTS = 500


@dataclass(frozen=True)
class Set:
    """Where labels come from, and how many structures there are to train and to test."""

    loader: str = ""
    file: str = ""
    target: str = ""
    key: str | None = None
    axial: str = ""
    forces: bool = False
    n_train: int = 300
    n_test: int = 150


SETS = {
    "water_clusters:dipole": Set("load_water_clusters", target="dipole"),
    "water_clusters:polarizability": Set("load_water_clusters", target="polarizability"),
    "water_clusters:shielding": Set("load_water_clusters", target="shielding", n_train=100),
    "organics:energy": Set("load_small_organics", target="energy"),
    "organics:dipole": Set("load_small_organics", target="dipole"),
    "organics:polarizability": Set("load_small_organics", target="polarizability"),
    "organics:shielding": Set("load_small_organics", target="shielding", n_train=100),
    "chains:dipole": Set("load_chain_molecules", target="dipole", n_train=150, n_test=100),
    "qm7x:polarizability": Set(file="qm7x_reduced_100.xyz", target="polarizability", n_train=75, n_test=25),
    "acac:energy": Set(file="acac_train_300K.xyz", target="energy", n_train=300),
    "acac:energy+forces": Set(file="acac_train_300K.xyz", target="energy", forces=True, n_train=100),
    "charge_charge:energy": Set(file="charge_charge.xyz", target="energy", key="energy", n_train=100, n_test=30),
    "water_monomer:dipole": Set(file="water_monomer.xyz", target="dipole"),
    "water_monomer:polarizability": Set(file="water_monomer.xyz", target="polarizability"),
    "water_monomer:hyperpolarizability": Set(file="water_monomer.xyz", target="hyperpolarizability", n_train=200),
    "water_monomer:gamma": Set(file="water_monomer_gamma.xyz", target="second_hyperpolarizability", n_train=200),
    "water_dimer:energy": Set(file="water_dimer.xyz", target="energy", key="potential"),
    "water_dimer:dipole": Set(file="water_dimer.xyz", target="dipole"),
    "water_dimer:polarizability": Set(file="water_dimer.xyz", target="polarizability"),
    "nma:dipole": Set(file="nma_in_field.xyz", target="dipole"),
    "molecules:formation_energy": Set(
        file="small_molecules_1000.xyz", target="", key="dft_formation_energy_per_atom_in_eV"
    ),
    "bec:dielectric": Set(file="bec_crystals_1520.xyz", target="dielectric", n_train=500, n_test=300),
    "bec:born_charge": Set(file="bec_crystals_1520.xyz", target="born_charge", n_train=150, n_test=150),
}


@dataclass
class Run:
    """Figures of a model on a split."""

    set: str
    model: str
    split: int
    n_train: int
    rmse: float
    mae: float
    spread: float
    median: float
    rmse_error: float
    stated: float | None
    stated_error: float | None
    bars: float | None
    seconds: float
    what: str


def read_set(name, folder):
    """Frames, labels, and forces or None."""
    one = SETS[name]
    if one.loader:
        data = getattr(datasets, one.loader)()
        return data.frames, data[one.target], None
    data = io.read(folder / one.file, one.target or None, key=one.key)
    for atoms in data.frames:
        if "bec" not in name:
            atoms.pbc = False  # molecules in boxes
    forces = [atoms.get_forces() for atoms in data.frames] if one.forces else None
    return data.frames, data.y, forces


# -- models: each returns a fitted model, and the error that it states with the standard error of that ---------------


def fixed(descriptor, kernel=None):
    """Kernel ridge regression, which knows its leave-one-out error, with stated settings."""

    def fit(case):
        shared = {"descriptor": clone(descriptor).set_params(**case.channels(descriptor)), "aggregate": case.aggregate}
        shared["kernel"] = None if kernel is None else kernel(case)
        if case.forces is not None:
            model = SparseTensorGPR(N_POINTS, random_state=case.seed, target=case.target, **shared)
            return model.fit(case.frames, case.y, forces=case.forces), None
        model = TensorKernelRidge(target=case.target, **shared).fit(case.frames, case.y)
        return model, (-model.best_score_, None)

    return fit


def recommended(case):
    with_forces = case.forces is not None
    advice = recommend(
        case.frames, case.y, target=case.target, forces=with_forces, minutes=case.seconds / 60, random_state=case.seed
    )
    extra = {"forces": case.forces} if with_forces else {}
    model = advice.model.fit(case.frames, case.y, **extra)
    error = expected_error(model, case.frames, case.y, **extra)
    return model, (error.rmse, error.standard_error)


def searched(case):
    model = AutoTensorRegressor(case.seconds, target=case.target, random_state=case.seed).fit(case.frames, case.y)
    error = model.expected_error()
    return model, (error.rmse, error.standard_error)


def network(case):
    model = EquivariantNetworkRegressor(
        target=case.target, aggregate=case.aggregate or "sum", time_budget=case.seconds, random_state=case.seed
    )
    return model.fit(case.frames, case.y), None


def constant(case):
    class Constant:
        def predict(self, frames):
            if case.per_atom:
                return [np.broadcast_to(self.value, (len(atoms), *self.value.shape)) for atoms in frames]
            return np.broadcast_to(self.value, (len(frames), *self.value.shape))

    model = Constant()
    model.value = isotropic_mean(np.concatenate(list(case.y)) if case.per_atom else case.y)
    return model, None


SHORT, LONG = {"cutoff": 3.5, "n_max": 5, "l_max": 3}, {"cutoff": 6.5, "n_max": 6, "l_max": 2, "sigma": 0.7}
MODELS = {
    "constant": constant,
    "default": fixed(LambdaSOAP()),
    "readme": fixed(LambdaSOAP(cutoff=4.0, n_max=5, l_max=3)),
    "tensoap": fixed(
        LambdaSOAP(cutoff=4.0, n_max=8, l_max=6, sigma=0.3),
        lambda case: CovariantKernel(2, normalize=True, aggregate=case.aggregate or "sum"),
    ),
    "joined": fixed(EquivariantUnion([("short", LambdaSOAP(**SHORT)), ("long", LambdaSOAP(**LONG))])),
    "recommend": recommended,
    "search": searched,
    "network": network,
}


def changed(text):
    """Default model with one parameter changed, such as "cutoff=4.0" or "zeta=3"."""
    name, _, value = text.partition("=")
    number = float(value)
    if name == "zeta":
        return fixed(LambdaSOAP(), lambda case: CovariantKernel(int(number), aggregate=case.aggregate or "sum"))
    return fixed(LambdaSOAP(**{name: number if "." in value else int(number)}))


@dataclass
class Case:
    """Training set of a split."""

    frames: list
    y: object
    forces: list | None
    target: str | None
    tensor: object
    aggregate: str | None
    per_atom: bool
    n_species: int
    seconds: float
    seed: int

    def channels(self, descriptor):
        """Parameters by which more than a few elements share channels."""
        shared = species_channels(self.n_species)
        if isinstance(descriptor, EquivariantUnion):
            return {f"{name}__{key}": value for name, _ in descriptor.transformers for key, value in shared.items()}
        return shared


def run(name, model, split, folder, options):
    """Fit a model to a split and measure it."""
    one, (frames, y, forces) = SETS[name], read_set(name, folder)
    order = np.random.default_rng(1000 * options.seed + split).permutation(len(frames))
    n_test = min(options.test or one.n_test, len(frames) // 3)
    learned, held = order[n_test : n_test + (options.train or one.n_train)], order[:n_test]
    known = {int(number) for k in learned for number in frames[k].numbers}
    held = [k for k in held if set(frames[k].numbers.tolist()) <= known]

    def some(values, rows):
        return np.asarray(values)[rows] if isinstance(values, np.ndarray) else [values[k] for k in rows]

    target = one.target or None
    facts = read_facts([frames[k] for k in learned], some(y, learned), target, None)
    case = Case(
        facts.frames, some(y, learned), None if forces is None else some(forces, learned), target,
        facts.tensor, choose_aggregate(facts, target)[0], facts.per_atom, facts.n_species, options.seconds,
        options.seed,
    )  # fmt: skip
    others, true = [frames[k] for k in held], some(y, held)
    begin = time.process_time()
    fitted, stated = (MODELS.get(model) or changed(model))(case)
    seconds = time.process_time() - begin
    made, bars = fitted.predict(others), None
    try:
        std = fitted.predict(others, return_std=True)[1]
        errors, std = paired_rows(true, made), paired_rows(true, std)
        bars = float(np.mean(np.abs(errors.pred - errors.true) <= std.pred))
    except (TypeError, ValueError, AttributeError):
        pass  # no error bars
    rmse, mae = float(frobenius_rmse(true, made)), float(frobenius_mae(true, made))
    error = measured(None, true, made, case.tensor, "", [(0, 1.0)])
    return Run(
        name, model, split, len(learned), rmse, mae, error.spread, error.tail.median, error.standard_error,
        *(stated or (None, None)), bars, seconds, " ".join(repr(getattr(fitted, "estimators_", fitted)).split()),
    )  # fmt: skip


# -- tables --------------------------------------------------------------------------------------------------------


def ratio(runs):
    """Ratio of the stated to the true error over splits, and its standard error by leaving each split out."""
    stated, rmse = np.array([[one.stated, one.rmse] for one in runs]).T ** 2
    whole, n = np.sqrt(stated.sum() / rmse.sum()), len(runs)
    if n < 2:
        return whole, np.nan
    without = np.sqrt((stated.sum() - stated) / (rmse.sum() - rmse))
    return whole, np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))


def deviation(runs):
    """How far the stated errors are from the true ones, in units of the standard error of both; None if not stated."""
    with_error = [one for one in runs if one.stated_error]
    if not with_error:
        return None
    squares = [
        (np.log(one.stated / one.rmse) / np.hypot(one.stated_error / one.stated, one.rmse_error / one.rmse)) ** 2
        for one in with_error
    ]
    return np.sqrt(np.mean(squares))


def row(runs):
    """Line of the table."""
    rmse = np.sqrt(np.mean([one.rmse**2 for one in runs]))
    sampled = f" +- {np.std([one.rmse for one in runs], ddof=1) / np.sqrt(len(runs)):.1g}" if len(runs) > 1 else ""
    stated = between = bars = off = ""
    if runs[0].stated is not None:
        stated = f"{np.sqrt(np.mean([one.stated**2 for one in runs])):.3g}"
        between = "{:.2f} +- {:.2f}".format(*ratio(runs)).removesuffix(" +- nan")
        off = "" if deviation(runs) is None else f"{deviation(runs):.1f}"
    if runs[0].bars is not None:
        bars = f"{np.mean([one.bars for one in runs]):.0%}"
    return (
        f"| {runs[0].set} | {runs[0].model} | {rmse:.3g}{sampled} | {np.mean([one.mae for one in runs]):.3g} "
        f"| {stated} | {between} | {off} | {bars} | {np.mean([one.seconds for one in runs]):.0f} |"
    )


COLUMNS = "data", "model", "RMSE", "MAE", "stated", "stated / RMSE", "off by", "bars", "CPU s"
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def relative(runs, reference="default"):
    """Table of the models' errors relative to one of them, over the data sets that both have."""
    squares: dict = {}
    for one in runs:
        squares.setdefault((one.set, one.model), {})[one.split] = one.rmse**2
    lines = [
        f"| model | data sets | RMSE / {reference}: geometric mean | smallest | largest |",
        "|---|---|---|---|---|",
    ]
    for model in dict.fromkeys([*MODELS, *(one.model for one in runs)]):
        factors = []
        for name in SETS:
            mine, other = squares.get((name, model), {}), squares.get((name, reference), {})
            both = [k for k in mine if k in other]
            if both:
                factors.append(np.sqrt(sum(mine[k] for k in both) / sum(other[k] for k in both)))
        if factors:
            mean = np.exp(np.mean(np.log(factors)))
            lines.append(f"| {model} | {len(factors)} | {mean:.2f} | {min(factors):.2f} | {max(factors):.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with files of SETS")
    parser.add_argument("--sets", help="names, or what is before their colon, with commas; all that are there")
    parser.add_argument(
        "--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}; or a change of the default, cutoff=4.0"
    )
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--first-split", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU time of searches and networks")
    parser.add_argument("--train", type=int, help="structures at most")
    parser.add_argument("--test", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to which results are added, a line each")
    parser.add_argument("--read", type=Path, nargs="*", help="no runs: tables of these files")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(HEADER, flush=True)
    if options.read:
        runs = [Run(**json.loads(line)) for path in options.read for line in path.read_text().splitlines()]
        for name in SETS:
            for model in dict.fromkeys(one.model for one in runs):
                mine = {one.split: one for one in runs if (one.set, one.model) == (name, model)}
                if mine:
                    print(row(list(mine.values())))
        print("\n" + relative(runs))
        return
    runs, wanted = [], options.sets.split(",") if options.sets else [""]
    for name, one in SETS.items():
        there = one.loader or (options.folder is not None and (options.folder / one.file).exists())
        if not there or not any(part in ("", name, name.split(":")[0]) for part in wanted):
            continue
        for model in options.models.split(","):
            if one.forces and model in ("search", "network", "constant"):
                continue
            mine = []
            for split in range(options.first_split, options.first_split + options.splits):
                mine.append(run(name, model, split, options.folder, options))
                if options.json:
                    with options.json.open("a") as file:
                        file.write(json.dumps(asdict(mine[-1])) + "\n")
            runs += mine
            print(row(mine), flush=True)
    print("\n" + relative(runs))


if __name__ == "__main__":
    main()
