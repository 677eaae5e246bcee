"""Learned equivariant features as a scikit-learn transformer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import check_parameters
from eqkernels.descriptors import Derivatives, EquivariantFeatures
from eqkernels.learned.architectures import make_architecture
from eqkernels.learned.derivative_targets import DerivativeTargets, read_derivative_targets
from eqkernels.learned.derivative_training import DerivativeFit
from eqkernels.learned.fitting import Fit
from eqkernels.learned.parameters import NetworkParameters
from eqkernels.learned.targets import known_symmetries, read_targets
from eqkernels.learned.trained import TrainedNetwork, graph_maker, known_atoms
from eqkernels.regression.base import _check_weight as check_weight
from eqkernels.so3 import Irreps
from eqkernels.structures import FramesTransformer, StructureBatch, symbols
from eqkernels.structures.elements import CHANNELS, HEAVIEST, MANY, embedding

# Neither forces, nor stress, nor derivatives.
_NO_DERIVATIVES = (None, None, None)


@dataclass(eq=False, repr=False, kw_only=True)
class EquivariantNetwork(FramesTransformer, NetworkParameters, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Equivariant features of atoms that are learned from labels.

    A small equivariant neural network, trained through a readout that is solved in closed form inside the loss. Its
    features serve wherever those of :class:`LambdaSOAP` do: in kernels, in linear models, joined to other features.

    Parameters
    ----------
    cutoff : float, default=6.0
        Distance up to which atoms are neighbors; each layer of message passing sees so much further.
    irreps : "auto", str or Irreps, default="auto"
        Blocks to compute, e.g. ``"0e+1o+2e"``; "auto": those of the labels, and 0e. Blocks beyond those of the labels
        share the layers below but are not trained themselves.
    architecture : {"message_passing", "ace"}, default="message_passing"
        Layers of convolutions with learned radial functions, or products of up to ``body_order`` densities with learned
        radial and chemical contraction, which are several times cheaper and need no communication between atoms.
    channels : int, default=16
        Features of each irrep in each layer or order.
    l_max : int, default=2
        Highest degree of harmonics and features inside, at most 4. 0: an invariant network as SchNet, a function of
        distances, for scalar targets only; forces are derivatives of its energies.
    n_layers : int, default=2
        Layers of message passing.
    products : bool, default=True
        Whether the layers of message passing multiply messages with each other: angles enter one layer
        earlier.
    body_order : int, default=3
        Number of densities that are multiplied with ``architecture="ace"``, 1 to 4.
    n_radial : int, default=6
        Radial basis functions.
    n_hidden : int, default=16
        Hidden units of the radial functions of message passing, and of those of attention.
    attention : bool or int, default=False
        Heads of attention, True for 4: neighbors are weighted by a softmax of scalar products between features of the
        center and of the edge, smooth at the cutoff, as in SE(3)-Transformers. Weights add up to less than 1, so that
        features no longer grow with the number of neighbors; errors of polarizabilities of small molecules double.
        With ``architecture="ace"`` a density for each head.
    nonlinearity : {"gate", "tensor_product"}, default="gate"
        What follows a layer of message passing: gates (the sigmoid of scalars times each irrep), or nothing, which
        leaves the Clebsch-Gordan product of ``products`` as the only nonlinearity, as in Cormorant. Clusters
        (``architecture="ace"``) have no gates.
    pooling : str, default=None
        Groups of atoms that pass messages to each other above the atoms: those with the same value in this array of
        ``atoms.arrays``, e.g. ``"residuenumbers"``, or ``"molecules"``, what is connected by bonds (pairs closer than
        1.25 times their covalent radii, in Angstrom). Features of a group are the sum of those of its atoms; what comes
        out stands beside the features of each atom, divided by the number of atoms of its group. Groups are taken as
        they are in each structure: predictions jump where a bond breaks.
    pooling_layers : int, default=1
        Layers of message passing between the mean positions of groups.
    pooling_cutoff : float, default=None
        Distance of mean positions up to which groups are neighbors; None: twice the cutoff.
    target : str, CartesianTensor or dict, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``; None: inferred from y.
    baseline : {"composition", "mean", None}, default="composition"
        What is subtracted from the scalar part of the labels before training.
    aggregate : {"sum", "mean"}, default="sum"
        Whether the target is a sum of atomic contributions, or their mean. No effect on per-atom targets.
    objective : {"lml", "loo"}, default="lml"
        Loss: negative log marginal likelihood of the readout, or its leave-one-out error.
    force_weight, stress_weight, derivative_weight : float, default=1.0
        Weights of the labels of ``fit(forces=, stress=, derivatives=)`` beside those of y. With 1, the square of every
        error counts the same in units of the mean square of the labels of its kind.
    solver : {"auto", "lbfgs", "adam"}, default="auto"
        L-BFGS on all structures at once, or Adam on batches; "auto": Adam above 100 structures, or above 131072 edges
        (pairs of neighbors, both directions) and atoms in all; with labels of derivatives above 20 structures.
    max_iter : int, default=None
        Iterations of L-BFGS, or epochs of Adam; None: 200, or with a ``time_budget`` as many as it allows.
    time_budget : float, default=None
        CPU seconds (of all threads) that the whole fit may take, reading, all ``n_init`` runs and the readout included:
        training uses what these leave, unless L-BFGS converges, early stopping or ``max_iter`` ends it. Training goes
        on for one step at least. The result then depends on the speed of the machine; without it, the same
        ``random_state`` gives the same weights to the last bit.
    learning_rate : float, default=0.01
        Of Adam, at the start: it falls to a hundredth over ``max_iter`` epochs, or over the time budget.
    batch_size : int, default=None
        Structures in a batch of Adam; None: 32, or 5 with labels of derivatives, of which each has many. Smaller
        batches make more steps per epoch. Fewer are taken, but four (with derivatives, one), where they have more than
        32768 edges and atoms. With ``objective="loo"``, two structures at least.
    weight_decay : float, default=1e-4
        L2 penalty towards the initial weights; increase it for small data sets.
    early_stopping : bool, default=False
        Hold structures back, and keep the weights with the smallest leave-one-out error on them.
    validation_fraction : float, default=0.1
        Part that is held back.
    n_iter_no_change : int, default=20
        Iterations without improvement after which early stopping ends the training.
    n_init : int, default=1
        Number of random starts; the one with the smallest loss (validation error) is kept.
    warm_start : bool, default=False
        Start from the weights of the last fit.
    handle_unknown : {"error", "ignore", "embed"}, default="error"
        What to do with an atom of a species that was not seen at fit: raise an error that names it, leave it out,
        as a center and as a neighbor, of features and predictions (its row of per-atom targets is NaN), or take it by
        its vector of ``species_embedding``, which ``"auto"`` then makes periodic for any number of elements. Training
        always refuses it.
    species_embedding : {"auto", "periodic", None}, default="auto"
        ``"periodic"``: weights and readout of a species are combinations of those that all species share, by its vector
        from group, period, covalent radius and electronegativity, so that elements learn from those like them; features
        are multiplied by the vector. None: every species has weights of its own. ``"auto"``: periodic from 20 elements
        on.
    n_species_channels : int, default=None
        Length of these vectors; None: 8.
    random_state : int, RandomState or None, default=None
        Seed of weights, batches and validation structures.
    n_jobs : int, default=None
        Threads of training and of ``transform``, with joblib's meaning; they change no bit of the result. In training
        they share the parts of a batch, of 8192 pairs and atoms each: a small batch is a single part.
    verbose : int, default=0
        If positive, training says on standard error what it will cost, and every few seconds how far it is.
    per_atom : bool or dict, default=None
        Whether y (or each property of it) belongs to atoms; None: what the target says, or the only way in which it can
        be read.
    inputs : dict of str to str, default=None
        Tensors beside the geometry that the features depend on, by the keys of ``atoms.info`` or ``atoms.arrays``:
        their irreps, e.g. ``{"electric_field": "1o", "charges": "0e"}``, as of :class:`LambdaSOAP`. They are the first
        features of atoms, beside the embedding of the species; messages and densities carry those of neighbors.
    input_weight : float or dict of str to float, default=1.0
        Size of the inputs beside the embedding: each is divided by its root mean square over the structures of the fit
        and multiplied by this. Smaller ones make the training begin close to a network without the inputs.
    time_odd : bool, default=False
        Whether the target changes sign under time reversal, as a magnetization does: all blocks but ``0e`` are then
        made of an odd number of time-odd inputs. False: of an even number.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        Weights of the network.
    scales_ : dict of str to ndarray of shape (n_species, n_features)
        Scales of the features of each block.
    noise_ : dict of str to float
        Variance of the noise of each target ``"name:irrep"`` over the variance of the readout's weights: the alpha of a
        ridge on the features of :meth:`transform`.
    history_ : dict of str to ndarray
        ``"loss"``, ``"validation"`` (NaN without early stopping) and ``"cpu_time"`` of every iteration of the best run.
    loss_ : float
        Last loss of the run that was kept.
    n_iter_ : int
        Iterations or epochs of that run.
    species_ : ndarray of int
        Atomic numbers.
    irreps_, formulas_ : str, dict of str to str
        Blocks, and the symmetry of each property.
    readout_, baseline_ : dict of str to ndarray of shape (n_species, n_features, multiplicity), ndarray or None
        Weights of the readout of each irrep and contributions of the elements, trained with the network where labels
        of derivatives were fitted.
    neighbor_scale_ : float
        What sums over neighbors are multiplied with: their mean number to the power -1/2.

    input_scales_, input_per_atom_ : dict of str to float
        What inputs are multiplied by, and whether (1.0) they belong to atoms.

    See Also
    --------
    EquivariantNetworkRegressor : The network and its readout in one estimator.

    References
    ----------
    N. Thomas et al., Tensor field networks, arXiv:1802.08219. T. E. Smidt, Trends Chem. 3, 82 (2021),
    https://doi.org/10.1016/j.trechm.2020.10.006. K. T. Schuett et al., SchNet, NeurIPS 2017. F. B. Fuchs et al.,
    SE(3)-Transformers, NeurIPS 2020. R. Kondor, Z. Lin, S. Trivedi, Clebsch-Gordan nets, NeurIPS 2018. B. Anderson,
    T.-S. Hy, R. Kondor, Cormorant, NeurIPS 2019. S. Eismann et al., Hierarchical, rotation-equivariant neural
    networks, Proteins 89, 493 (2021).

    Examples
    --------
    >>> from ase.build import molecule
    >>> frames = [molecule(name) for name in ("H2O", "NH3", "HF", "CH3OH")]
    >>> dipoles = [[0, 0, -1.85], [0, 0, -1.47], [0, 0, 1.82], [-1.4, 0.9, 0]]
    >>> network = EquivariantNetwork(channels=4, max_iter=10, random_state=0).fit(frames, dipoles)
    >>> network.transform(frames)
    EquivariantFeatures(4 structures, 15 centers, blocks: 0e (15, 1, 9), 1o (15, 3, 8))

    Several properties train one network; each has a readout of its own, with the noise that training found:

    >>> from eqkernels import TensorRidge
    >>> y = {"dipole": dipoles, "energy": [-76.4, -56.5, -100.4, -115.7]}
    >>> network = EquivariantNetwork(channels=4, max_iter=30, random_state=0).fit(frames, y)
    >>> alpha = network.noise_["energy:0e"]
    >>> energies = TensorRidge(alpha, normalize=False).fit(network.transform(frames), y["energy"])

    Attention, and messages between molecules above those between atoms:

    >>> from ase import Atoms
    >>> pair = frames[0] + Atoms("HF", positions=[[0.0, 0.0, 4.0], [0.0, 0.7, 4.6]])
    >>> options = {"attention": 2, "pooling": "molecules", "irreps": "0e+1o"}
    >>> EquivariantNetwork(cutoff=3.0, channels=4, **options, random_state=0).fit_transform([pair])
    EquivariantFeatures(1 structures, 5 centers, blocks: 0e (5, 1, 13), 1o (5, 3, 12))
    """

    irreps: str | Irreps = "auto"

    _takes_batches = NetworkParameters._takes_batches

    @whole_or_nothing
    def fit(
        self,
        X: Iterable[Atoms] | StructureBatch,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        forces: Any = None,
        stress: Any = None,
        derivatives: Any = None,
    ) -> EquivariantNetwork:
        """Train the network.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), list of arrays (n_atoms, 3, ..., 3), or dict, default=None
            Tensors of structures or of their atoms (a row of NaN: no label); a dict of such for several properties at
            once. None: nothing is trained, the features are those of random weights.
        sample_weight : array-like of shape (n_structures,), default=None
            Larger ones are fitted more closely.
        forces, stress, derivatives : array-like or sequence of array-like, default=None
            Derivatives of y, as for :meth:`EquivariantNetworkRegressor.fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If parameters, frames or labels are unusable.
        LossError (a FloatingPointError and ValueError)
            If the loss overflows; the message says which parameter to change.
        """
        return self._fit(X, y, sample_weight, time.process_time(), others=(forces, stress, derivatives))

    def _fit(self, X, y, sample_weight, begin, readout=False, others=_NO_DERIVATIVES):
        check_parameters(self, self._input_relations())
        resumes = self.warm_start and hasattr(self, "weights_")
        batch = self._batch(X) if resumes else self._batch_to_fit(X)
        targets, formulas, unit = self._targets(y, batch, sample_weight, self.target, self.per_atom, others)
        irreps, species, previous = self._wanted_irreps(targets), batch.species, None
        if resumes:
            self._check_unchanged(species, irreps)
            species, previous = self.species_, self._state()
        self.species_: np.ndarray = species
        self.irreps_, self.formulas_ = irreps, formulas
        if previous is None:
            self._fit_inputs(batch)
            self.species_channels_: int = self._choose_channels(species)
        self.of_atoms_ = {target.name.rpartition(":")[0]: target.per_atom for target in targets}
        return self._train(batch, targets, unit, previous, begin, readout)

    @whole_or_nothing
    def partial_fit(
        self, X: Iterable[Atoms] | StructureBatch, y: Any, sample_weight: ArrayLike | None = None
    ) -> EquivariantNetwork:
        """Go on training from the present weights, with these structures alone.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`; species and kind of target are those of the first call.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, time.process_time())

    def _partial_fit(self, X, y, sample_weight, begin, readout=False):
        if not hasattr(self, "weights_"):
            return self._fit(X, y, sample_weight, begin, readout)
        check_parameters(self, self._input_relations())
        batch = self._batch(X)
        known_atoms(batch, self.species_, "fit on structures that contain it")
        self._check_unchanged(self.species_, self.irreps_)
        symmetries = known_symmetries(y, self.target, self.formulas_)
        of_atoms = {name: known for name, known in self.of_atoms_.items() if not isinstance(y, dict) or name in y}
        targets, _, unit = self._targets(y, batch, sample_weight, symmetries, of_atoms, _NO_DERIVATIVES)
        self._wanted_irreps(targets, self.irreps_)
        return self._train(batch, targets, unit, self._state(), begin, readout)

    def transform(self, X: Iterable[Atoms] | StructureBatch) -> EquivariantFeatures:
        """Features of all atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        EquivariantFeatures
            The last feature of the block 0e is a constant.
        """
        check_fitted(self)
        network = TrainedNetwork.of(self)
        return network.features(network.read(X))

    def vjp(
        self, X: Iterable[Atoms] | StructureBatch, cotangents: EquivariantFeatures | Mapping[str, ArrayLike]
    ) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * features), at a few times the cost of features.

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : EquivariantFeatures, or dict of str to ndarray of shape (n_atoms, 2 l + 1, n_features)
            A number for each feature of some or all blocks of ``transform(X)``: for forces, the derivative of the
            energy by the feature.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.
        """
        check_fitted(self)
        network = TrainedNetwork.of(self)
        return network.vjp(network.read(X), getattr(cotangents, "blocks", cotangents))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags

    # -- parts ------------------------------------------------------------------------------------------------------

    def _targets(self, y, batch, sample_weight, symmetries, per_atom, others):
        """Targets, their symmetries, and the unit of the weights: only their ratios matter in training."""
        differentiated = any(one is not None for one in others)
        if y is None and not differentiated:
            return [], {}, 1.0
        weight, unit = check_weight(sample_weight, batch.n_structures), 1.0
        if weight is not None:
            unit = float(np.mean(weight[weight > 0]))
            weight = weight / unit
        if differentiated and self.pooling is not None:
            raise ValueError(
                f"pooling={self.pooling!r}: networks of groups of atoms are not trained on forces, stress or "
                "derivatives; set pooling=None, or fit the tensors alone"
            )
        if differentiated:
            targets = read_derivative_targets(y, batch, others, self, weight, symmetries, per_atom)
            return targets, {"y": targets.tensor.formula}, unit
        return *read_targets(y, batch, symmetries, self.baseline, self.aggregate, weight, per_atom), unit

    def _choose_channels(self, species):
        """Channels of the embedding of the species, 0 without."""
        unknown = self.handle_unknown == "embed"
        if self.species_embedding is None and unknown:
            raise ValueError("handle_unknown='embed' answers by an embedding: set species_embedding='periodic'")
        many = len(species) >= MANY and species.max() <= HEAVIEST and species.min() > 0
        if self.species_embedding is None or (self.species_embedding == "auto" and not (many or unknown)):
            return 0
        wanted = CHANNELS if self.n_species_channels is None else int(self.n_species_channels)
        return int(embedding(species, wanted).shape[1])

    def _wanted_irreps(self, targets, irreps=None):
        needed, irreps = {target.irrep for target in targets}, self.irreps if irreps is None else irreps
        if isinstance(irreps, str) and irreps == "auto":
            wanted = needed | {irrep for _, irrep in Irreps("0e" if targets or self.l_max == 0 else "0e+1o+2e")}
        else:
            wanted = {irrep for _, irrep in Irreps(irreps)}
            missing = sorted(str(irrep) for irrep in needed - wanted)
            if missing or not wanted:
                lacks = f"lacks {', '.join(missing)}, of which y is made" if missing else "is empty: name a block"
                raise ValueError(f"irreps={str(irreps)!r} {lacks}")
        return "+".join(str(irrep) for irrep in sorted(wanted, key=lambda irrep: (irrep.l, -irrep.p)))

    def _check_unchanged(self, species, irreps):
        """Refuse to go on with weights that were made for something else, before anything is changed."""
        new = np.setdiff1d(species, self.species_)
        n_channels = getattr(self, "species_channels_", 0)
        shapes = make_architecture(self, len(self.species_), self.irreps_, n_channels).shapes
        same_inputs = list(self.inputs or ()) == list(getattr(self, "input_scales_", {}))
        same = same_inputs and shapes == {name: array.shape for name, array in self.weights_.items()}
        if len(new) or not same or irreps != self.irreps_:
            raise ValueError(
                "the weights of the last fit cannot be trained further, for species (new: "
                f"{symbols(new) or 'none'}), irreps ({irreps}, were "
                f"{self.irreps_}), inputs or parameters of the architecture differ: set warm_start=False, or use fit"
            )

    def _train(self, batch, targets, unit, previous, begin, readout):
        n_channels = getattr(self, "species_channels_", 0)
        architecture = make_architecture(self, len(self.species_), self.irreps_, n_channels)
        graphs = graph_maker(self, self.species_, n_channels)
        if isinstance(targets, DerivativeTargets):
            fit: Any = DerivativeFit(self, architecture, targets, graphs, begin)
        else:
            fit = Fit(self, architecture, batch, targets, graphs, begin, readout)
        for name in ("readout_", "baseline_"):  # of derivatives that were learned before
            self.__dict__.pop(name, None)
        if previous is None:
            self.neighbor_scale_ = 1.0 / np.sqrt(max(len(fit.sample.edges[0]) / fit.sample.n_atoms, 1.0))
        else:
            previous = *previous[:2], {name: noise / unit for name, noise in previous[2].items()}, previous[3]
        state = fit.run(check_random_state(self.random_state), self.neighbor_scale_, previous)
        state["noise_"] = {name: unit * noise for name, noise in state["noise_"].items()}
        for name, value in state.items():
            setattr(self, name, value)
        return self

    def _state(self):
        readout = (self.readout_, self.baseline_) if hasattr(self, "readout_") else None
        return self.weights_, self.scales_, self.noise_, readout
