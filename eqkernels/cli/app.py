"""The commands of ``eqkernels``, their arguments and help texts."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from eqkernels.cli.console import Problem, remarks_shown, say

_STOPPED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learn dipoles, polarizabilities and other tensors from files. In this order: inspect, train, evaluate, "
    "predict. `eqkernels COMMAND --help` says more.",
    epilog="Example: eqkernels train water.xyz --target polarizability -o model.eqk",
)

Files = Annotated[list[Path], typer.Argument(help="Files with structures: extended xyz, or whatever ASE reads.")]
Model = Annotated[Path, typer.Argument(help="Model that `eqkernels train` wrote.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t",
        help="Property (dipole, polarizability, ...), index symmetry (ij=ji), or key in the file; without it, the only "
        "label there is.",
    ),
]  # fmt: skip
Key = Annotated[str | None, typer.Option(help="Key of the label in the file, where the property does not say.")]
PerAtom = Annotated[
    bool | None, typer.Option("--per-atom/--no-per-atom", help="The label belongs to atoms, or to structures.")
]
Index = Annotated[str, typer.Option(help="Which structures of each file, as Python slices: ':', '::10', '-100:'.")]
Labels = Annotated[Path | None, typer.Option(help="Separate csv, npz or npy file with the labels.")]
Groups = Annotated[
    str | None, typer.Option(help="What is held back together: a key of the structures, 'composition' or 'file'.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", help="Threads for features; -1: all cores.")]


@app.command()
def inspect(files: Files, index: Index = ":") -> None:
    """Show structures, species, labels, outliers and duplicates of files."""
    from eqkernels.cli.inspecting import inspect

    inspect(files, index)


@app.command()
def train(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the model.")],
    target: Target = None,
    key: Key = None,
    per_atom: PerAtom = None,
    labels: Labels = None,
    groups: Groups = None,
    index: Index = ":",
    model: Annotated[
        str,
        typer.Option(
            help="auto (recommended for the data), gpr, sparse, kernel-ridge, ridge, network, committee, search."
        ),
    ] = "auto",
    forces: Annotated[
        bool | None, typer.Option("--forces/--no-forces", help="Learn from forces too; default: if the file has them.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="CPU time in which the best model is searched for, or a network trained.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file: model, and parameters of it, its descriptor and its kernel.")
    ] = None,
    error: Annotated[bool, typer.Option("--error/--no-error", help="Estimate the error on new structures.")] = True,
    seed: Annotated[int, typer.Option(help="For everything random.")] = 0,
    jobs: Jobs = None,
) -> None:
    """Fit a model to labelled structures, say what error to expect, and save it."""
    from eqkernels.cli.learning import train

    settings = _settings(config)
    model = settings.pop("model", model) if model == "auto" else model
    train(
        files, output, target, _reading(key, per_atom, labels, groups, index), model, forces, minutes, settings,
        jobs, seed, error,
    )  # fmt: skip


@app.command()
def evaluate(
    model: Model,
    files: Files,
    target: Target = None,
    key: Key = None,
    per_atom: PerAtom = None,
    labels: Labels = None,
    index: Index = ":",
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and pictures.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Directory for the pictures.")] = None,
) -> None:
    """Compare the predictions of a model with labels: errors of each irrep, error bars, worst structures."""
    from eqkernels.cli.evaluating import evaluate

    evaluate(model, files, target, _reading(key, per_atom, labels, None, index), html, plots)


@app.command()
def predict(
    model: Model,
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended xyz file for structures and predictions.")],
    key: Annotated[str | None, typer.Option(help="Where the predictions stand; default: predicted_TARGET.")] = None,
    index: Index = ":",
) -> None:
    """Predict tensors of new structures, with error bars."""
    from eqkernels.cli.predicting import predict

    predict(model, files, output, key, index)


@app.command()
def descriptors(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for them: .npz, .parquet or .mts (metatensor).")],
    irreps: Annotated[str | None, typer.Option(help="Blocks of LambdaSOAP, such as 0e+2e; default: SOAP.")] = None,
    per_atom: Annotated[bool, typer.Option("--per-atom", help="Rows are atoms, not averages over structures.")] = False,
    cutoff: Annotated[float, typer.Option(help="In Angstrom.")] = 5.0,
    n_max: Annotated[int, typer.Option(help="Radial functions.")] = 6,
    l_max: Annotated[int, typer.Option(help="Largest angular momentum.")] = 4,
    sigma: Annotated[float, typer.Option(help="Width of the Gaussians, in Angstrom.")] = 0.3,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    jobs: Jobs = None,
) -> None:
    """Write descriptors of any number of structures, for other programs."""
    from eqkernels.cli.describing import describe

    parameters = {"cutoff": cutoff, "n_max": n_max, "l_max": l_max, "sigma": sigma, "dtype": dtype, "n_jobs": jobs}
    describe(files, output, irreps, per_atom, parameters)


@app.command()
def convert(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended xyz file.")],
    target: Annotated[str, typer.Option("--target", "-t", help="Property, index symmetry, or key in the file.")],
    to: Annotated[
        str,
        typer.Option(
            help="irreps, or components in the order of e3nn, pyscf or complex harmonics; voigt; haeberlen, span-skew "
            "or quadrupolar; cartesian, from any form but these three."
        ),
    ] = "irreps",
    key: Key = None,
    per_atom: PerAtom = None,
    axial: Annotated[str, typer.Option(help="Axial indices, such as j of ij.")] = "",
    kind: Annotated[
        str | None,
        typer.Option(
            help="Factors of voigt: stress, strain, stiffness, compliance, piezoelectric_e, piezoelectric_d; default: "
            "none."
        ),
    ] = None,
    moments: Annotated[
        str | None, typer.Option(help="Of quadrupolar: moments in barn, such as H=0.00286,N=0.02044.")
    ] = None,
    index: Index = ":",
) -> None:
    """Convert Cartesian tensors to the components and parameters of other codes and fields, and back."""
    from eqkernels.cli.converting import convert

    convert(files, output, target, to, _reading(key, per_atom, None, None, index), axial, kind, moments)


@app.command()
def warmup() -> None:
    """Compile everything once, for images and clusters."""
    from eqkernels.cli.warming import warmup

    warmup()


@app.command()
def versions() -> None:
    """Print the versions of eqkernels and of what it stands on."""
    from eqkernels.cli.warming import versions

    versions()


def run(arguments: list[str] | None = None) -> None:
    """Run a command and end the process: 1 after an error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        with remarks_shown():
            app([one for one in arguments if one != "--debug"], prog_name="eqkernels")
    except SystemExit as end:
        if end.code == _STOPPED:  # by Ctrl-C
            say("stopped; files that were written stay")
        raise
    except Problem as problem:
        say(f"error: {problem}")
    except Exception as error:
        if debug:
            traceback.print_exc()
        text = str(error) or type(error).__name__
        known = isinstance(error, ValueError | TypeError | OSError | ImportError | KeyError)
        say(f"error: {text}" + ("" if known else f" ({type(error).__name__}; add --debug for the traceback)"))
    sys.exit(1)


def _reading(key, per_atom, labels, groups, index) -> dict[str, Any]:
    how = {"key": key, "per_atom": per_atom, "labels": labels, "groups": groups, "index": index}
    return {name: value for name, value in how.items() if value is not None}


def _settings(config):
    if config is None:
        return {}
    if not config.exists():
        raise Problem(f"there is no file {config}")
    try:
        settings = yaml.safe_load(config.read_text())
    except yaml.YAMLError as error:
        raise Problem(f"{config} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise Problem(f"{config} must hold names and values, such as 'model: gpr'")
    return settings
