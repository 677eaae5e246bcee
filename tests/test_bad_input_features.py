"""What users do wrong with descriptors, features, kernels and tensors, and the words that they get."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels import (
    SOAP,
    Bispectrum,
    CartesianTensor,
    CovariantKernel,
    EquivariantFeatures,
    EquivariantPCA,
    EquivariantUnion,
    FeatureSelection,
    Irreps,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    select_sparse_points,
)
from eqkernels.datasets import load_small_organics
from eqkernels.kernels import KernelBlocks, Restricted
from eqkernels.metrics import frobenius_mae, frobenius_rmse, irrep_rmse, tensor_r2
from eqkernels.radial import GTO, LaplacianEigenstates, RadialIntegrals, RadialTable
from eqkernels.so3 import Irrep, infer_formula, spherical_harmonics, wigner_d
from eqkernels.structures import StructureBatch
from eqkernels.testing import assert_equivariant, transformed

FRAMES = [molecule(name) for name in ("H2O", "NH3", "CH4")]
DIPOLES = np.random.default_rng(0).normal(size=(3, 3))
SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2}
LAMBDA = LambdaSOAP(**SMALL, irreps="0e+1o").fit(FRAMES)
FEATURES = LAMBDA.transform(FRAMES)
READ_ONLY = np.empty(9)
READ_ONLY.flags.writeable = False
BLOCKS = {"0e": np.ones((2, 1, 3))}


def soap(**options):
    return SOAP(**{**SMALL, **options}).fit_transform(FRAMES)


def lambda_soap(**options):
    return LambdaSOAP(**{**SMALL, **options}).fit(FRAMES)


def features(blocks=BLOCKS, species=(8, 1), structures=(0, 0), atoms=(0, 1), n_atoms=(2,), **others):
    return EquivariantFeatures(blocks, species, structures, atoms, n_atoms, **others)


def spoiled(value, row=5):
    """Features with a wrong value in row 5, atom 2 of structure 1."""
    copy = EquivariantFeatures.from_dict(FEATURES.to_dict())
    copy.blocks["1o"] = copy.blocks["1o"].copy()
    copy.blocks["1o"][row, 1, 3] = value
    return copy


def moved(factor, frame=1):
    frames = [atoms.copy() for atoms in FRAMES]
    frames[frame].positions *= factor
    return frames


def out_of(descriptor, out):
    return descriptor.fit(FRAMES).transform(FRAMES, out=out)


def vjp_of(descriptor, cotangents):
    return descriptor.fit(FRAMES).vjp(FRAMES, cotangents)


def cell(a):
    return LambdaSOAP(5.0, n_max=2, l_max=2).fit_transform([bulk("Cu", "sc", a=a)])


def number(name):
    """A part of the message for a number that must be positive."""
    return f"{name} must be a positive, finite number"


NAN = np.full((3, 3), np.nan)
SAME = r"NaN or infinity in block '1o', first for structure 1, atom 2"
RMSE = [frobenius_rmse, frobenius_mae, tensor_r2, irrep_rmse]
MODELS = [TensorGPR(), TensorKernelRidge(), TensorRidge(), SparseTensorGPR(6)]

CASES = {
    # -- parameters of descriptors --------------------------------------------------------------------------------------
    "sigma in nm": (lambda: soap(sigma=0.003, cutoff=5.0), ValueError, "sigma=0.003 resolves 1.7e.03 positions within cutoff=5.0.*units of the positions"),
    "cutoff in pm": (lambda: soap(cutoff=500.0), ValueError, "within cutoff=500.0, at most 1000 are possible.*Angstrom"),
    "sigma in pm": (lambda: soap(sigma=30.0, cutoff=2.0), ValueError, "sigma=30.0 is 15 times cutoff=2.0, so that nothing.*Angstrom"),
    "cutoff beyond reason": (lambda: soap(cutoff=1e6), ValueError, "cutoff=1000000.0, at most 1000"),
    "sharp cutoff": (lambda: soap(cutoff_width=0), ValueError, "cutoff_width=0 must be at least 0.003.*write cutoff_width=0.3"),
    "negative cutoff width": (lambda: soap(cutoff_width=-0.5), ValueError, "cutoff_width=-0.5 must be a finite number, zero or positive"),
    "accuracy beyond double precision": (lambda: soap(accuracy=1e-16), ValueError, "could not be tabulated to accuracy=1e-16"),
    "accuracy of a guess": (lambda: soap(accuracy=1.0), ValueError, "accuracy=1.0 must not exceed 0.01"),
    "infinite sigma": (lambda: soap(sigma=np.inf), ValueError, number("sigma=inf")),
    "complex sigma": (lambda: soap(sigma=1j), ValueError, number("sigma=1j")),
    "sigma as a list": (lambda: soap(sigma=[0.3]), ValueError, number(r"sigma=\[0.3\]")),
    "cutoff as an array": (lambda: soap(cutoff=np.ones(2)), ValueError, "must be a positive, finite number"),
    "cutoff as a truth value": (lambda: soap(cutoff=True), ValueError, number("cutoff=True")),
    "huge weight of the center": (lambda: soap(center_weight=1e300), ValueError, r"center_weight=1e\+300 must not exceed 1e\+06"),
    "NaN weight of the center": (lambda: soap(center_weight=np.nan), ValueError, "center_weight=nan must be a finite"),
    "too many radial functions": (lambda: soap(n_max=31), ValueError, "n_max=31 must be an integer between 1 and 30"),
    "too high degree": (lambda: soap(l_max=31), ValueError, "l_max=31 must be an integer between 0 and 30"),
    "steep scaling": (lambda: soap(scaling_scale=1.0, scaling_exponent=1e5), ValueError, "smaller exponent of the radial scaling"),
    "scaling by zero": (lambda: soap(scaling_scale=0), ValueError, number("scaling_scale=0")),
    "basis as a list": (lambda: soap(radial_basis=["gto"]), ValueError, r"radial_basis=\['gto'\] must be one of"),
    "type of integers": (lambda: soap(dtype=int), ValueError, "must be 'float64' or 'float32'"),
    "type as an array": (lambda: soap(dtype=np.ones(2)), ValueError, "must be 'float64' or 'float32'"),
    "compression as an array": (lambda: soap(compression=np.ones(2)), ValueError, "must be one of .None, 'mu1nu1', 'mu2'"),
    "aggregation as an array": (lambda: soap(aggregate=np.ones(2)), ValueError, "must be one of .None, 'sum', 'mean'"),
    "sparse as a word": (lambda: soap(sparse="yes"), ValueError, "sparse='yes' must be True or False"),
    "no threads": (lambda: soap(n_jobs=0), ValueError, "n_jobs=0 must be None or an integer other than 0"),
    "threads as a word": (lambda: soap(n_jobs="all"), ValueError, "n_jobs='all' must be None or an integer"),
    "verbose as a word": (lambda: soap(verbose="yes"), ValueError, "verbose='yes' must be an integer"),
    "no centers": (lambda: soap(center_species=[]), ValueError, "center_species is empty: name at least one species"),
    "no neighbors": (lambda: soap(neighbor_species=[]), ValueError, "neighbor_species is empty"),
    "species as a fraction": (lambda: soap(center_species=1.5), TypeError, "center_species=1.5 must be None or a list"),
    "species as a dict": (lambda: soap(center_species={"H": 1}), TypeError, "must be None or a list of chemical symbols"),
    "None among the species": (lambda: soap(neighbor_species=["H", None]), ValueError, "neighbor_species contains None"),
    "embedding of words": (
        lambda: lambda_soap(species_embedding=dict.fromkeys("HNOC", "x")), TypeError, "vectors of real numbers",
    ),
    "embedding as a list": (lambda: lambda_soap(species_embedding=[1, 2]), TypeError, "must be a dict from chemical symbols"),
    "embedding with a gap": (lambda: lambda_soap(species_embedding={"H": [1.0]}), ValueError, "no vector for C, N, O"),
    "embedding of NaN": (
        lambda: lambda_soap(species_embedding=dict.fromkeys("HNOC", [np.nan])), ValueError, "finite vectors",
    ),
    "too many combinations": (lambda: lambda_soap(n_species_channels=9), ValueError, "n_species_channels=9 is more than the 4"),
    "no irreps": (lambda: lambda_soap(irreps=""), ValueError, "irreps='' names no irrep"),
    "an empty list of irreps": (lambda: lambda_soap(irreps=[]), ValueError, r"irreps=\[\] names no irrep"),
    "irreps as a number": (lambda: lambda_soap(irreps=2), TypeError, "irreps must be a string such as"),
    "nonsense for irreps": (lambda: lambda_soap(irreps="dipole"), ValueError, "not a"),
    "order zero": (lambda: NBodyFeatures(nu=0).fit(FRAMES), ValueError, "nu=0 must be an integer between 1 and 8"),
    "no components": (lambda: NBodyFeatures(n_components=0).fit(FRAMES), ValueError, "n_components=0 must be an integer between 1 and .*, or None"),
    "negative lambda_max": (lambda: Bispectrum(lambda_max=-1).fit(FRAMES), ValueError, "lambda_max=-1 must be an integer between 0 and .*, or None"),
    "labels of a block that is not there": (lambda: LAMBDA.feature_labels("2e"), ValueError, "irrep='2e' must be one of the blocks 0e, 1o"),
    "labels of a list": (lambda: LAMBDA.feature_labels(["0e"]), ValueError, "must be one of the blocks"),
    # -- structures -----------------------------------------------------------------------------------------------------
    "positions beyond any size": (lambda: LAMBDA.transform(moved(1e300)), ValueError, r"structure 1, atom \d has a coordinate beyond 1e\+09"),
    "infinite positions": (lambda: LAMBDA.transform(moved(np.inf)), ValueError, "structure 1, atom 0 has a position that is NaN or infinite"),
    "cell beyond any size": (
        lambda: LAMBDA.transform([Atoms("H", cell=[1e300, 9, 9], pbc=True)]), ValueError, "cell of structure 0 has a component of 1e.300: check its units",
    ),
    "cell in km": (lambda: cell(1e-3), ValueError, r"neighbors within cutoff=5: use a smaller cutoff, or check the units of the cell"),
    "a batch beyond its end": (lambda: StructureBatch.from_frames(FRAMES).select(0, 4), ValueError, "stop=4 must lie between 0 and 3"),
    "frames one by one: a number": (lambda: list(LAMBDA.iter_transform(3)), TypeError, "X must be a sequence of ase.Atoms, got int"),
    "frames one by one: a structure": (lambda: list(LAMBDA.iter_transform(FRAMES[0])), TypeError, "X is a single ase.Atoms"),
    "frames one by one: words": (lambda: list(LAMBDA.iter_transform([FRAMES[0], "H2O"])), TypeError, "structure 1 is a str"),
    "no memory": (lambda: list(LAMBDA.iter_transform(FRAMES, 0)), ValueError, "memory_limit=0 must be a positive number of bytes"),
    "memory as a word": (lambda: list(LAMBDA.iter_transform(FRAMES, "1GB")), ValueError, "memory_limit='1GB' must be"),
    # -- arrays to write to -----------------------------------------------------------------------------------------------
    "out: an array for blocks": (lambda: out_of(LambdaSOAP(**SMALL), np.zeros((12, 1, 3))), TypeError, "out must be EquivariantFeatures or a dict of arrays"),
    "out: a list for blocks": (lambda: out_of(SphericalExpansion(**SMALL), []), TypeError, "out must be .*, got list"),
    "out: without a block": (lambda: out_of(LambdaSOAP(**SMALL), {}), ValueError, r"out\['0e'\] must be an array of float64"),
    "out: of another type": (lambda: out_of(SOAP(**SMALL), np.zeros((12, 36), np.float32)), ValueError, "must be an array of float64"),
    "out: features for rows": (lambda: out_of(SOAP(**SMALL), FEATURES), ValueError, "must be an array of float64"),
    "out: with sparse rows": (lambda: out_of(SOAP(**SMALL, sparse=True), np.zeros((12, 36))), ValueError, "out is not available with sparse=True"),
    "out: a dict for n-body features": (lambda: out_of(NBodyFeatures(n_max=1, l_max=1, n_components=2), 5), TypeError, "out must be .*, got int"),
    # -- cotangents -------------------------------------------------------------------------------------------------------
    "cotangents: NaN": (lambda: LAMBDA.vjp(FRAMES, spoiled(np.nan)), ValueError, r"cotangents\['1o'\] must be finite numbers.*nan.*\[5, 1, 3\]"),
    "cotangents: huge": (lambda: LAMBDA.vjp(FRAMES, spoiled(1e300)), ValueError, "must be finite numbers up to"),
    "cotangents: a list": (lambda: LAMBDA.vjp(FRAMES, [1.0]), TypeError, "cotangents must be EquivariantFeatures or a dict of arrays by irrep, got list"),
    "cotangents: of another block": (lambda: LAMBDA.vjp(FRAMES, {"2e": np.ones((12, 5, 3))}), ValueError, r"cotangents\['2e'\] has shape"),
    "cotangents: complex": (lambda: LAMBDA.vjp(FRAMES, {"0e": FEATURES.blocks["0e"] * 1j}), TypeError, "real numbers, got complex"),
    "cotangents: words for rows": (lambda: vjp_of(SOAP(**SMALL), "x"), TypeError, "cotangents must be real numbers"),
    "cotangents: None for rows": (lambda: vjp_of(SOAP(**SMALL), None), ValueError, "cotangents must be finite numbers"),
    "cotangents: ragged rows": (lambda: vjp_of(SOAP(**SMALL), [[1.0], [1.0, 2.0]]), ValueError, "entries of different shapes"),
    "cotangents: NaN rows": (lambda: vjp_of(SOAP(**SMALL), soap() * np.nan), ValueError, "cotangents must be finite"),
    # -- features ---------------------------------------------------------------------------------------------------------
    "atoms beyond their structure": (lambda: features(atoms=[0, 7]), ValueError, "atoms contains 7 for structure 0, which has 2 atoms"),
    "negative atoms": (lambda: features(atoms=[-5, 1]), ValueError, "atoms contains -5 for structure 0"),
    "an atom twice": (lambda: features(atoms=[1, 1]), ValueError, "atom 1 of structure 0 has more than one row"),
    "an atom twice, apart": (
        lambda: features({}, [1, 1, 1], [0, 0, 0], [1, 0, 1], [2]), ValueError, "atom 1 of structure 0 has more than one row",
    ),
    "negative numbers of atoms": (lambda: features(n_atoms=[-2]), ValueError, "n_atoms must not be negative, got -2"),
    "numbers of atoms in a table": (lambda: features(n_atoms=[[2]]), ValueError, "n_atoms must be one-dimensional"),
    "species zero": (lambda: features(species=[8, 0]), ValueError, "species contains 0, which is no atomic number"),
    "species beyond the table": (lambda: features(species=[8, 200]), ValueError, "species contains 200"),
    "species as symbols": (lambda: features(species=["O", "H"]), TypeError, "species must be integers"),
    "species as a number": (lambda: features(species=8), ValueError, "species must be one-dimensional"),
    "structures in disorder": (lambda: features(structures=[1, 0], n_atoms=[2, 2]), ValueError, "structures must be ascending"),
    "structures beyond the last": (lambda: features(structures=[0, 3]), ValueError, "structures must lie between 0 and n_structures - 1 = 0"),
    "rows that do not fit": (lambda: features(species=[8]), ValueError, r"structures has shape \(2,\), expected \(1,\)"),
    "blocks as a list": (lambda: features([np.ones((2, 1, 3))]), TypeError, "blocks must be a dict, got list"),
    "blocks of integers": (lambda: features({"0e": np.ones((2, 1, 3), int)}), TypeError, "block '0e' must be an array of float64"),
    "a block named by a number": (lambda: features({0: np.ones((2, 1, 3))}), ValueError, "block key 0 is not an irrep"),
    "a block without a name": (lambda: features({"": np.ones((2, 1, 3))}), ValueError, "block key '' is not an irrep"),
    "a block named twice": (lambda: features({"00e": np.ones((2, 1, 3))}), ValueError, "block key '00e' is not an irrep"),
    "a block of another degree": (lambda: features({"1o": np.ones((2, 1, 3))}), ValueError, r"expected \(2, 3, n_features\)"),
    "parts as a list": (lambda: features(parts=["a"]), TypeError, "parts must be a dict"),
    "labels as a list": (lambda: features(labels=["a"]), TypeError, "labels must be a dict"),
    "the largest invariant": (lambda: features().invariants("max"), ValueError, "aggregate='max' must be None, 'sum' or 'mean'"),
    "invariants by an array": (lambda: features().invariants(np.ones(2)), ValueError, "must be None, 'sum' or 'mean'"),
    "a block as an index": (lambda: FEATURES["1o"], TypeError, "'1o' is no index of structures; blocks are features.blocks"),
    "a part that is not there": (lambda: FEATURES.part("near"), ValueError, "the features have no part 'near'"),
    "a part by a list": (lambda: FEATURES.part(["near"]), ValueError, "the features have no part"),
    "features from a list": (lambda: EquivariantFeatures.from_dict([1]), TypeError, "arrays must be a dict"),
    "features from an incomplete dict": (lambda: EquivariantFeatures.from_dict({"blocks": {}}), ValueError, "arrays lacks the keys"),
    "features from no TensorMap": (lambda: EquivariantFeatures.from_metatensor("x"), TypeError, "tensor_map must be a metatensor.TensorMap, got str"),
    "features as an array": (lambda: np.asarray(FEATURES), TypeError, "cannot become one array"),
    "features of other structures joined": (lambda: FEATURES | FEATURES[:2], ValueError, "same centers of the same structures"),
    **{
        f"NaN in features, {type(model).__name__}": (lambda model=model: model.fit(spoiled(np.nan), DIPOLES), ValueError, SAME)
        for model in MODELS
    },
    **{
        f"infinity in features, {type(model).__name__}": (lambda model=model: model.fit(spoiled(-np.inf), DIPOLES), ValueError, SAME)
        for model in MODELS
    },
    **{
        f"NaN in features to predict, {type(model).__name__}": (
            lambda model=model: model.fit(FEATURES, DIPOLES).predict(spoiled(np.nan)), ValueError, SAME,
        )
        for model in MODELS
    },
    "huge features": (lambda: TensorRidge().fit(spoiled(1e200), DIPOLES), ValueError, r"a feature beyond 1e\+50 in block '1o', first for structure 1"),
    "NaN in features, sparse points": (lambda: select_sparse_points(spoiled(np.nan), 3), ValueError, SAME),
    "NaN in features, selection": (lambda: FeatureSelection(5).fit(spoiled(np.nan)), ValueError, SAME),
    "NaN in features, components": (lambda: EquivariantPCA(5).fit(spoiled(np.nan)), ValueError, SAME),
    "huge weights": (lambda: TensorRidge().fit(FEATURES, DIPOLES, [1.0, 1e300, 1.0]), ValueError, r"sample_weight is 1e\+300 for structure 1, beyond what can be computed with"),
    # -- unions and selections --------------------------------------------------------------------------------------------
    "union of a SOAP": (
        lambda: EquivariantUnion([("a", SOAP(**SMALL)), ("b", LambdaSOAP(**SMALL))]).fit_transform(FRAMES), TypeError,
        "transformer 'a' makes ndarray, not EquivariantFeatures: use LambdaSOAP",
    ),
    "union of nothing": (lambda: EquivariantUnion([]).fit(FRAMES), ValueError, "must be a list of at least one"),
    "union of None": (lambda: EquivariantUnion(None).fit(FRAMES), ValueError, "transformers=None must be a list"),
    "union without names": (lambda: EquivariantUnion([LambdaSOAP()]).fit(FRAMES), ValueError, r"is not a pair \(name, transformer\)"),
    "union of a word": (lambda: EquivariantUnion([("a", "soap")]).fit(FRAMES), ValueError, "contains 'soap', expected a descriptor"),
    "more features than there are": (lambda: FeatureSelection(10**6).fit(FEATURES), ValueError, "n_features=1000000 is more than"),
    "no features to select": (lambda: FeatureSelection(0).fit(FEATURES), ValueError, "n_features=0 must be a positive integer"),
    "NaN features to select": (lambda: FeatureSelection(np.nan).fit(FEATURES), ValueError, "n_features=nan must be"),
    "a way to select as an array": (lambda: FeatureSelection(2, selection=np.ones(2)).fit(FEATURES), ValueError, "selection=.* must be one of"),
    "selection by irreps with a gap": (lambda: FeatureSelection({"0e": 2}).fit(FEATURES), ValueError, "the features have a block 1o"),
    "selection from frames": (lambda: FeatureSelection(2).fit(FRAMES), TypeError, "put it behind LambdaSOAP in a pipeline"),
    "selection from nothing": (lambda: FeatureSelection(2).fit(FEATURES[:0]), ValueError, "X has no centers"),
    "components of nothing": (lambda: EquivariantPCA(2).fit(FEATURES[:0]), ValueError, "X has no centers"),
    "more components than samples": (lambda: EquivariantPCA(30).fit(FEATURES[:1]), ValueError, "n_components=30 is more than the 3 samples"),
    # -- kernels ----------------------------------------------------------------------------------------------------------
    "sparse points of a number": (lambda: select_sparse_points(3, 3), TypeError, "features must be EquivariantFeatures"),
    "sparse points by an array": (lambda: select_sparse_points(FEATURES, 3, np.ones(2)), ValueError, "selection=.* must be one of"),
    "kernel of frames": (lambda: CovariantKernel()(FRAMES), TypeError, "X must be EquivariantFeatures, got list"),
    "diagonal of nothing": (lambda: CovariantKernel().diag(None), TypeError, "X must be EquivariantFeatures, got NoneType"),
    "kernel of an irrep by number": (lambda: CovariantKernel()(FEATURES, irrep=1), TypeError, "irrep=1 must be the key of a block"),
    "kernel of an irrep that is not there": (lambda: CovariantKernel()(FEATURES, irrep="2e"), ValueError, "X has no block 2e"),
    "kernel aggregated by an array": (lambda: CovariantKernel(aggregate=np.ones(2))(FEATURES), ValueError, "must be 'sum' or 'mean'"),
    "kernel of nothing": (lambda: CovariantKernel()(None), TypeError, "X must be EquivariantFeatures, got NoneType"),
    "weights of a kernel that do not fit": (
        lambda: CovariantKernel().vjp(FEATURES, FEATURES, "0e", np.ones(3)), ValueError, r"weights has shape \(3,\), expected \(3, 3, 1, 1\)",
    ),
    "weights of a kernel that are NaN": (
        lambda: CovariantKernel().vjp(FEATURES, FEATURES, "0e", np.full((3, 3, 1, 1), np.nan)), ValueError, "weights must be finite",
    ),
    "restricted to a fraction": (lambda: Restricted(CovariantKernel(), 1.5)(FEATURES), TypeError, "center_species=1.5 must be"),
    "restricted to no species": (lambda: Restricted(CovariantKernel(), [])(FEATURES), ValueError, "center_species is empty"),
    "restriction of no kernel": (lambda: Restricted("rbf", "H")(FEATURES), TypeError, "a kernel of features is needed"),
    "kernel blocks as a list": (lambda: KernelBlocks([1]), TypeError, "blocks must be a dict of arrays"),
    "kernel blocks of numbers": (lambda: KernelBlocks({"0e": 1.0}), TypeError, "blocks must be a dict of arrays"),
    "kernel blocks without a name": (lambda: KernelBlocks({"": np.ones((2, 2, 1, 1))}), ValueError, "is not an irrep"),
    # -- rotations and tensors --------------------------------------------------------------------------------------------
    "harmonics into a read-only array": (lambda: spherical_harmonics([1, 2, 3.0], 2, out=READ_ONLY), ValueError, "writeable.*got read-only float64"),
    "harmonics into a list": (lambda: spherical_harmonics([1, 2, 3.0], 2, out=[0.0] * 9), TypeError, "out must be a float64 array.*, got list"),
    "harmonics into another shape": (lambda: spherical_harmonics([1, 2, 3.0], 2, out=np.empty(4)), ValueError, r"of shape \(9,\), got float64 \(4,\)"),
    "harmonics of complex vectors": (lambda: spherical_harmonics([1j, 0, 0], 1), TypeError, "vectors must be real numbers"),
    "harmonics of words": (lambda: spherical_harmonics(["a", "b", "c"], 1), TypeError, "vectors must be real numbers"),
    "harmonics of NaN": (lambda: spherical_harmonics([np.nan, 0, 0], 1), ValueError, "vectors contain NaN"),
    "harmonics of a huge degree": (lambda: spherical_harmonics([1, 0, 0], 10**6), ValueError, "l_max=1000000 must not exceed 500"),
    "rotation of words": (lambda: wigner_d("1o", "x"), TypeError, "rotation must be real numbers"),
    "rotation that is none": (lambda: wigner_d("1o", 2 * np.eye(3)), ValueError, "rotation is not orthogonal"),
    "rotation of a huge degree": (lambda: wigner_d(10**6, np.eye(3)), ValueError, "l=1000000 must not exceed 100"),
    "harmonics beyond memory": (lambda: Irreps.spherical_harmonics(10**30), ValueError, "l_max=1000.* must lie between 0 and"),
    "irreps times a word": (lambda: Irreps("1o") * "x", TypeError, "multiply|unsupported"),
    "irreps times a huge number": (lambda: Irreps("1o") * 10**30, ValueError, "the factor of irreps=1000"),
    "irrep of a fraction": (lambda: Irrep(1.5, 1), ValueError, "an irrep has an integer l"),
    "components in a list": (lambda: CartesianTensor("ij=ji").to_cartesian([1]), TypeError, "blocks must be a dict of arrays by irrep"),
    "tensors of words": (lambda: CartesianTensor("ij").to_irreps("x"), TypeError, "must be real numbers"),
    "ragged tensors": (lambda: CartesianTensor("ij").project([[1, 2], [3]]), ValueError, "entries of different shapes"),
    "symmetry of words": (lambda: infer_formula("x"), TypeError, "values must be real numbers"),
    # -- errors and checks ------------------------------------------------------------------------------------------------
    **{f"{f.__name__} of NaN": (lambda f=f: f(NAN, DIPOLES), ValueError, "y_true of structure 0 is NaN or infinite") for f in RMSE},
    **{f"{f.__name__} of NaN predictions": (lambda f=f: f(DIPOLES, NAN), ValueError, "y_pred of structure 0 is NaN or infinite") for f in RMSE},
    **{f"{f.__name__} of huge numbers": (lambda f=f: f(DIPOLES * 1e300, DIPOLES), ValueError, "y_true of structure 0 is beyond 1e.150") for f in RMSE},
    **{f"{f.__name__} of a number": (lambda f=f: f(1.0, 1.0), TypeError, "y_true is not an array of numbers") for f in RMSE},
    **{f"{f.__name__} of words": (lambda f=f: f("x", DIPOLES), TypeError, "y_true is not an array of numbers") for f in RMSE},
    **{f"{f.__name__} of nothing": (lambda f=f: f(DIPOLES[:0], DIPOLES[:0]), ValueError, "there are no tensors in y_true") for f in RMSE},
    **{
        f"{f.__name__} with weights that do not fit": (
            lambda f=f: f(DIPOLES, DIPOLES, sample_weight=[1.0]), ValueError, "sample_weight must be 3 finite, non-negative numbers",
        )
        for f in RMSE
    },
    "negative weights of errors": (lambda: frobenius_rmse(DIPOLES, DIPOLES, [1, -1, 1]), ValueError, "non-negative"),
    "only weights of zero": (lambda: tensor_r2(DIPOLES, DIPOLES, [0, 0, 0]), ValueError, "sample_weight is zero for every structure"),
    "no transformations": (lambda: assert_equivariant(LAMBDA, FRAMES, n_transformations=0), ValueError, "n_transformations=0 must lie"),
    "negative tolerance": (lambda: assert_equivariant(LAMBDA, FRAMES, tolerance=-1.0), ValueError, number("tolerance=-1.0")),
    "a model that is none": (lambda: assert_equivariant("model", FRAMES), TypeError, "model is 'model', expected an estimator"),
    "frames that are none": (lambda: assert_equivariant(LAMBDA, 3), TypeError, "X must be a sequence of ase.Atoms"),
    "a structure that is none": (lambda: transformed("H2O"), TypeError, "atoms is a str, expected ase.Atoms"),
    "a rotation that is none": (lambda: transformed(FRAMES[0], np.eye(2)), ValueError, r"rotation has shape \(2, 2\), expected \(3, 3\)"),
    "an order that is none": (lambda: transformed(FRAMES[0], order=[0, 0, 1]), ValueError, "must be a permutation of the 3 atoms"),
    "labels that are not in the data": (lambda: load_small_organics(target=["mu"]), ValueError, "is not a label of small_organics"),
    # -- radial functions -------------------------------------------------------------------------------------------------
    "no functions": (lambda: GTO(0, 3.0), ValueError, "n_max=0 must lie between 1 and 100"),
    "functions as a fraction": (lambda: LaplacianEigenstates(2.5, 3.0), TypeError, "n_max=2.5 must be an integer"),
    "negative radius": (lambda: GTO(2, -3.0), ValueError, number("radius=-3.0")),
    "functions of NaN": (lambda: GTO(2, 3.0).evaluate(0, [np.nan]), ValueError, "r must be finite numbers"),
    "functions of a negative degree": (lambda: LaplacianEigenstates(2, 3.0).evaluate(-1, [1.0]), ValueError, "l=-1 must lie"),
    "table of no basis": (lambda: RadialTable("gto", 2, 0.3, 3.0), TypeError, "basis='gto' has no n_max"),
    "table of a negative degree": (lambda: RadialTable(GTO(2, 3.0), -1, 0.3, 3.0), ValueError, "l_max=-1 must lie"),
    "table of NaN": (lambda: RadialTable(GTO(2, 3.0), 2, np.nan, 3.0), ValueError, number("sigma=nan")),
    "table without a scaling": (lambda: RadialTable(GTO(2, 3.0), 2, 0.3, 3.0, 0.5, None), TypeError, "must be a tuple"),
    "integrals of a negative width": (lambda: RadialIntegrals(GTO(2, 3.0), 2, -1.0, 3.0), ValueError, number("sigma=-1.0")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    action, error, message = CASES[case]
    with pytest.raises(error, match=message):
        action()


def test_features_are_left_as_they_are_by_a_check():
    before = {key: block.copy() for key, block in FEATURES.blocks.items()}
    FEATURES.check_values()
    assert all(np.array_equal(block, FEATURES.blocks[key]) for key, block in before.items())


def test_features_of_float32_and_views_are_checked_too():
    single = EquivariantFeatures({"0e": np.ones((2, 1, 3), np.float32)}, [1, 1], [0, 0], [0, 1], [2])
    single.check_values()
    single.blocks["0e"][1, 0, 2] = np.inf
    with pytest.raises(ValueError, match="structure 0, atom 1"):
        single.check_values()
    view = EquivariantFeatures({"0e": np.ones((2, 1, 6))[:, :, ::2]}, [1, 1], [0, 0], [0, 1], [2])
    view.check_values()
    view.blocks["0e"][0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="structure 0, atom 0"):
        view.check_values()


@pytest.mark.parametrize("distance", [1e6, 1e8])
def test_structures_far_from_the_origin_are_taken(distance):
    far = [atoms.copy() for atoms in FRAMES]
    for atoms in far:
        atoms.positions += distance
    expected = FEATURES.blocks["0e"]
    np.testing.assert_allclose(
        LAMBDA.transform(far).blocks["0e"], expected, atol=1e-15 * distance * 100 * expected.max()
    )


def test_a_huge_cell_holds_a_molecule():
    boxed = [Atoms(atoms.numbers, atoms.positions, cell=[1e6, 2e6, 3e6], pbc=True) for atoms in FRAMES]
    expected = FEATURES.blocks["0e"]
    np.testing.assert_allclose(LAMBDA.transform(boxed).blocks["0e"], expected, atol=1e-7 * expected.max())
