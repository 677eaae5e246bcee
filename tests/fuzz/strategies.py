"""What the fuzz tests draw: descriptors, kernels and models, with structures and labels to fit and try them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP,
    Bispectrum,
    CovariantKernel,
    EquivariantNetwork,
    EquivariantNetworkRegressor,
    EquivariantPCA,
    EquivariantUnion,
    FeatureSelection,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.kernels import Product, Restricted, Scaled, Sum
from tests.fuzz.labels import TARGETS, Labels
from tests.fuzz.structures import KINDS, Frame, frames, symbols_of

# -- descriptors ------------------------------------------------------------------------------------------------------


@st.composite
def density_parameters(draw, symbols, largest, products=True, rank=2, smooth=True):
    """Parameters that all density descriptors share, with so few channels that features stay below ``largest``."""
    out = {"cutoff": draw(st.floats(1.6, 5.5).map(lambda x: round(x, 2)))}
    out["n_max"], out["l_max"] = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    out["sigma"] = draw(st.sampled_from([0.15, 0.25, 0.3, 0.5, 1.0]))
    width = draw(st.sampled_from([None, 0.1, 0.3, 1.0, "all"]))
    if width is not None:
        out["cutoff_width"] = out["cutoff"] if width == "all" else width
    maybe = st.booleans
    if draw(maybe()):
        out["radial_basis"] = "laplacian"
    if draw(maybe()):
        out["center_weight"] = draw(st.sampled_from([0.0, 0.4, 2.0]))
    if draw(maybe()):
        out["scaling_scale"] = draw(st.sampled_from([0.7, 1.5, 3.0]))
        out["scaling_rate"] = draw(st.sampled_from([0.5, 1.0, 2.0]))
        out["scaling_exponent"] = draw(st.sampled_from([1.0, 2.0, 4.0, 7.0]))
    neighbors = list(symbols)
    if draw(st.integers(0, 3)) == 0:
        out["center_species"] = draw(st.lists(st.sampled_from(symbols), min_size=1, max_size=3, unique=True))
    if draw(st.integers(0, 3)) == 0:
        neighbors = draw(st.lists(st.sampled_from(symbols), min_size=1, max_size=5, unique=True))
        out["neighbor_species"] = neighbors
    channels = len(neighbors)
    kind = draw(st.sampled_from([None, None, "n_species_channels", "species_embedding", "mu1nu1", "mu2"]))
    if kind == "n_species_channels":
        channels = out[kind] = draw(st.integers(1, min(3, channels)))
    elif kind == "species_embedding":
        channels, seed = draw(st.integers(1, 3)), draw(st.integers(0, 99))
        values = np.random.default_rng(seed).normal(size=(len(neighbors), channels)).round(3)
        out[kind] = {symbol: row.tolist() for symbol, row in zip(neighbors, values, strict=True)}
    elif kind in ("mu1nu1", "mu2") and products:
        out["compression"] = kind
        channels = 1 if kind == "mu2" else channels
    half = out.get("compression") == "mu1nu1"
    if draw(st.integers(0, 3)) == 0:
        out["n_optimal"] = draw(st.integers(1, out["n_max"]))
    # the size is kept down by what costs most
    while (out["l_max"] + 1) * (channels ** (1 if half else rank)) * out["n_max"] ** rank > largest:
        if out["l_max"] > 2 and out["l_max"] >= out["n_max"]:
            out["l_max"] -= 1
        elif out["n_max"] > 1:
            out["n_max"] -= 1
        elif out["l_max"] > 0:
            out["l_max"] -= 1
        else:
            break
    if "n_optimal" in out:
        out["n_optimal"] = min(out["n_optimal"], out["n_max"])
    if draw(maybe()):
        out["handle_unknown"] = "ignore"
    return out


def _irreps(draw, choices):
    """Some irreps and 0e, whose size tells what is rounding in blocks that vanish by symmetry."""
    chosen = draw(st.lists(st.sampled_from(choices), max_size=3, unique=True))
    return "+".join(["0e", *sorted(set(chosen) - {"0e"}, key=lambda key: (int(key[:-1]), key[-1]))])


@st.composite
def soaps(draw, symbols):
    """A SOAP."""
    parameters = draw(density_parameters(symbols, 4000))
    return SOAP(
        **parameters,
        aggregate=draw(st.sampled_from([None, "sum", "mean"])),
        sparse=draw(st.booleans()),
        **draw(types),
    )


types = st.fixed_dictionaries({"dtype": st.sampled_from(["float64", "float64", "float32"])})


@st.composite
def expansions(draw, symbols):
    """A SphericalExpansion."""
    return SphericalExpansion(**draw(density_parameters(symbols, 2000, products=False, rank=1)), **draw(types))


@st.composite
def lambda_soaps(draw, symbols, irreps=None):
    """A LambdaSOAP."""
    irreps = (
        _irreps(draw, ["0e", "1o", "1e", "2e", "2o", "3o", "3e", "4e", "5o", "6e", "0o"]) if irreps is None else irreps
    )
    pseudo = "0o" in irreps.split("+")
    parameters = draw(density_parameters(symbols, 400 if pseudo else 2500, rank=3 if pseudo else 2))
    if pseudo and parameters.get("compression") == "mu1nu1":
        del parameters["compression"]
    _enough_for(parameters, irreps)
    return LambdaSOAP(**parameters, irreps=irreps, **draw(types))


def _enough_for(parameters, irreps):
    """Raise l_max and n_max to what two densities need to couple to the irreps."""
    for key in irreps.split("+"):
        degree, natural = int(key[:-1]), "eo"[int(key[:-1]) % 2] == key[-1]
        parameters["l_max"] = max(parameters["l_max"], (degree + 1) // 2 if natural else degree // 2 + 1)
        parameters["n_max"] = max(parameters["n_max"], 1 if natural else 2)


@st.composite
def nbodies(draw, symbols):
    """An NBodyFeatures, or a Bispectrum."""
    irreps = _irreps(draw, ["0e", "0o", "1o", "1e", "2e", "2o", "3o"])
    if draw(st.booleans()):
        parameters = draw(density_parameters(symbols, 200, products=False, rank=3))
        return Bispectrum(**parameters, irreps=irreps, lambda_max=draw(st.sampled_from([None, 2, 4])), **draw(types))
    contracted = draw(st.booleans())
    nu = draw(st.integers(1, 4 if contracted else 3))
    parameters = draw(
        density_parameters(symbols, 300 if contracted else 60, products=False, rank=1 if contracted else nu)
    )
    return NBodyFeatures(
        **parameters,
        irreps=irreps,
        nu=nu,
        n_components=draw(st.sampled_from([2, 10, 40])) if contracted else None,
        n_products=draw(st.sampled_from([None, 20, 200])) if contracted and nu < 3 else 100,
        lambda_max=draw(st.sampled_from([None, 1, 3])),
        **draw(types),
    )


@st.composite
def unions(draw, symbols):
    """Several descriptors of the same centers."""
    parts = draw(
        st.lists(st.one_of(lambda_soaps(symbols), expansions(symbols), nbodies(symbols)), min_size=2, max_size=2)
    )
    centers, dtype = parts[0].center_species, parts[0].dtype
    parts = [one.set_params(center_species=centers, dtype=dtype, handle_unknown="error") for one in parts]
    return EquivariantUnion([("near", parts[0]), ("far", parts[1])])


@st.composite
def reduced(draw, symbols):
    """Features and fewer of them."""
    first = draw(st.one_of(lambda_soaps(symbols), nbodies(symbols)))
    if draw(st.booleans()):
        return make_pipeline(first, EquivariantPCA(draw(st.sampled_from([1, 2, 0.1]))))
    method = draw(st.sampled_from(["fps", "leverage", "random"]))
    return make_pipeline(first, FeatureSelection(draw(st.sampled_from([1, 3, 0.05])), selection=method, random_state=0))


@st.composite
def network_parameters(draw):
    """Parameters of a small network."""
    products = draw(st.booleans())
    return {
        "cutoff": draw(st.floats(1.6, 5.0).map(lambda x: round(x, 2))),
        "architecture": draw(st.sampled_from(["message_passing", "ace"])),
        "channels": draw(st.integers(1, 4)),
        "l_max": draw(st.integers(0, 3)),
        "n_layers": draw(st.integers(1, 2)),
        "products": products,
        "attention": draw(st.sampled_from([False, True, 1])),
        "nonlinearity": draw(st.sampled_from(["gate", "tensor_product"])) if products else "gate",
        "body_order": draw(st.integers(1, 4)),
        "n_radial": draw(st.sampled_from([1, 3, 6])),
        "n_hidden": draw(st.sampled_from([1, 8])),
        "random_state": draw(st.integers(0, 99)),
        "max_iter": draw(st.sampled_from([0, 2, 5])),
        "objective": draw(st.sampled_from(["lml", "loo"])),
        "solver": draw(st.sampled_from(["lbfgs", "adam"])),
    }


@st.composite
def networks(draw, symbols):
    """An EquivariantNetwork; its weights are random where it is fitted without labels."""
    return EquivariantNetwork(**draw(network_parameters()), irreps=_irreps(draw, ["0e", "1o", "1e", "2e", "2o", "0o"]))


@dataclass(frozen=True)
class Case:
    """Structures to fit and to try, an estimator, and the seed of the transformations."""

    fit: tuple
    model: object
    tried: tuple = ()
    seed: int = 0
    labels: object = None
    more: dict = field(default_factory=dict)

    def __repr__(self):
        # scikit-learn shortens representations of more than 700 characters
        parts = []
        for one in fields(self):
            value = getattr(self, one.name)
            text = value.__repr__(N_CHAR_MAX=10**6) if hasattr(value, "get_params") else repr(value)
            parts.append(f"{one.name}={' '.join(text.split())}")
        return f"Case({', '.join(parts)})"

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))


DESCRIPTORS = {
    "SphericalExpansion": expansions,
    "SOAP": soaps,
    "LambdaSOAP": lambda_soaps,
    "NBodyFeatures": nbodies,
    "EquivariantUnion": unions,
    "reduced": reduced,
    "EquivariantNetwork": networks,
}


@st.composite
def descriptor_cases(draw, descriptors=tuple(DESCRIPTORS), **options):
    """A descriptor with structures to fit it on, and others of the same species to try."""
    recipes = draw(frames(**options))
    model = draw(DESCRIPTORS[draw(st.sampled_from(descriptors))](symbols_of(recipes)))
    labels = None
    if isinstance(model, EquivariantNetwork) and draw(st.booleans()):
        labels = Labels("physical", "i", "", False, draw(st.integers(0, 99)))
        model.irreps += "" if "1o" in model.irreps.split("+") else "+1o"
    return Case(recipes, model, (), draw(st.integers(0, 2**20)), labels)


# -- kernels and models -----------------------------------------------------------------------------------------------


@st.composite
def kernels(draw, symbols, depth=1, aggregate=None):
    """A kernel with whole zeta, alone or combined."""
    aggregate = draw(st.sampled_from(["sum", "mean"])) if aggregate is None else aggregate
    kind = draw(st.sampled_from(["plain", "plain", "sum", "product", "scaled", "restricted"])) if depth else "plain"
    inner = kernels(symbols, depth - 1, aggregate) if depth else None
    if kind == "sum":
        return Sum(draw(inner), draw(inner))
    if kind == "product":
        return Product(draw(inner), draw(inner))
    if kind == "scaled":
        return Scaled(draw(inner), draw(st.sampled_from([1e-3, 0.5, 20.0])), factor_bounds="fixed")
    if kind == "restricted":
        chosen = draw(st.lists(st.sampled_from(symbols), min_size=1, max_size=2, unique=True))
        return Sum(draw(inner), Restricted(draw(inner), center_species=chosen))
    zeta, normalize = draw(st.integers(1, 5)), draw(st.sampled_from(["invariant", True, False]))
    return CovariantKernel(zeta=zeta, normalize=normalize, aggregate=aggregate)


@st.composite
def kernel_cases(draw, **options):
    """A kernel with a LambdaSOAP of full precision, whose irreps it takes."""
    recipes = draw(frames(n_frames=(2, 5), **options))
    symbols = symbols_of(recipes)
    irreps = "0e+" + draw(st.sampled_from(["1o", "1o+2e", "1e", "2o", "3o", "2e+3e"]))
    descriptor = draw(lambda_soaps(symbols, irreps)).set_params(dtype="float64")
    return Case(recipes, draw(kernels(symbols)), (), draw(st.integers(0, 2**20)), None, {"descriptor": descriptor})


@st.composite
def _descriptors_of_models(draw, symbols):
    parameters = draw(density_parameters(symbols, 1500))
    for name in ("center_species", "handle_unknown"):
        parameters.pop(name, None)
    return LambdaSOAP(**parameters)


MODELS = ("TensorRidge", "TensorKernelRidge", "TensorGPR", "SparseTensorGPR", "TensorCommittee",
          "EquivariantNetworkRegressor")  # fmt: skip


@st.composite
def models(draw, name, symbols, target, piped=(False, True)):
    """A model, as it is with its own features, or in a pipeline."""
    baseline = draw(st.sampled_from(["composition", None]))
    if name == "EquivariantNetworkRegressor":
        return EquivariantNetworkRegressor(
            **draw(network_parameters()),
            target=target,
            baseline=baseline,
            aggregate=draw(st.sampled_from(["sum", "mean"])),
        )
    if name == "TensorCommittee":
        inner = draw(models(draw(st.sampled_from(["TensorRidge", "TensorKernelRidge"])), symbols, target))
        return TensorCommittee(inner, n_estimators=draw(st.integers(4, 6)), max_samples=0.5, random_state=0)
    descriptor = draw(_descriptors_of_models(symbols))
    irreps = "+".join(dict.fromkeys(["0e", *(str(irrep) for _, irrep in target.irreps)]))
    changed = {name: getattr(descriptor, name) for name in ("l_max", "n_max")}
    _enough_for(changed, irreps)
    descriptor.set_params(**changed)
    if "0o" in irreps.split("+"):  # of three densities
        n_max, n_optimal = min(descriptor.n_max, 2), descriptor.n_optimal
        descriptor.set_params(compression=None, n_max=n_max, l_max=min(descriptor.l_max, 3))
        descriptor.set_params(n_optimal=None if n_optimal is None else min(n_optimal, n_max))
    piped = draw(st.sampled_from(piped))
    common = {"descriptor": None if piped else descriptor, "target": target, "baseline": baseline}
    alpha, kernel = draw(st.sampled_from(["auto", 1e-6, 1e-3, 1.0])), draw(st.one_of(st.none(), kernels(symbols)))
    if name == "TensorRidge":
        normalize = draw(st.sampled_from(["invariant", True]))
        model = TensorRidge(alpha, normalize=normalize, aggregate=draw(st.sampled_from(["sum", "mean"])), **common)
    elif name == "TensorKernelRidge":
        model = TensorKernelRidge(alpha, kernel=kernel, **common)
    elif name == "TensorGPR":
        criterion = draw(st.sampled_from(["loo_error", "lml", "loo_density"]))
        model = TensorGPR(kernel, criterion=criterion, random_state=0, **common)
    else:
        model = SparseTensorGPR(
            draw(st.sampled_from([12, 30, 100])),
            selection=draw(st.sampled_from(["fps", "leverage", "random"])),
            noise=draw(st.sampled_from(["auto", 1e-6, 1e-2])),
            kernel=kernel,
            random_state=0,
            **common,
        )
    if not piped:
        return model
    # a descriptor in a pipeline finds the irreps from the labels; axial ones must be named
    return make_pipeline(descriptor.set_params(irreps=irreps), model)


@st.composite
def model_cases(
    draw,
    names=MODELS,
    targets=TARGETS,
    labels=("random", "physical"),
    per_atom=(False, True),
    piped=(False, True),
    **options,
):
    """A model with labelled structures and others of the same kinds to predict."""
    options = {"n_frames": (3, 7), "kinds": tuple(one for one in KINDS if one != "elements")} | options
    recipes = draw(frames(**options))
    formula, axial = draw(st.sampled_from(targets))
    wanted = Labels(
        draw(st.sampled_from(labels)), formula, axial, draw(st.sampled_from(per_atom)), draw(st.integers(0, 99))
    )
    name = draw(st.sampled_from(names))
    model = draw(models(name, symbols_of(recipes), wanted.target, piped))
    tried = tuple(Frame(one.kind, one.name, 0.1, one.seed, one.n) for one in recipes[:2])
    weighted = draw(st.integers(0, 3)) == 0
    return Case(recipes, model, tried, draw(st.integers(0, 2**20)), wanted, {"weighted": weighted})
