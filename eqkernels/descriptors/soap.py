"""The SOAP power spectrum as plain rows of numbers."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from sklearn.utils.validation import check_is_fitted

from eqkernels.descriptors.base import PARAMETERS, allocate
from eqkernels.descriptors.channels import feature_labels, n_features
from eqkernels.descriptors.expansion import SphericalExpansion
from eqkernels.descriptors.features import aggregate_rows
from eqkernels.descriptors.products import fill_block
from eqkernels.so3 import Irrep

_SCALAR = Irrep(0, 1)


class SOAP(SphericalExpansion, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]  # noqa: D101
    __doc__ = rf"""Smooth overlap of atomic positions: the rotation-invariant power spectrum, a row for any model.

    .. math:: p_{{an, a'n', l}} = \frac{{1}}{{\sqrt{{2l + 1}}}} \sum_m c_{{anlm}}\, c_{{a'n'lm}} ,

    with each unordered pair of channels (a n), (a' n') kept once and pairs of different channels weighted by
    :math:`\sqrt 2`, so that scalar products are those of the full set. The features are ordered by l, then (a n), then
    (a' n').

    Parameters
    ----------
    {PARAMETERS}
    aggregate : {{None, "sum", "mean"}}, default=None
        None: a row for each center, structure after structure. ``"sum"`` or ``"mean"``: a row for each structure, as
        models of properties of structures need them.

    Attributes
    ----------
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    References
    ----------
    A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), https://doi.org/10.1103/PhysRevB.87.184115.

    Examples
    --------
    Heats of formation from the averaged power spectrum and any regressor of scikit-learn:

    >>> from ase.build import molecule
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> frames = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    >>> model = make_pipeline(SOAP(cutoff=4.0, n_max=4, l_max=3, aggregate="mean"), Ridge(1e-6))
    >>> model.fit(frames, [-57.8, -17.9, -11.0]).predict(frames).round(1)
    array([-57.8, -17.9, -11. ])
    """

    def __init__(
        self,
        cutoff=5.0,
        n_max=6,
        l_max=4,
        sigma=0.3,
        *,
        radial_basis="gto",
        cutoff_width=0.5,
        center_weight=1.0,
        scaling_scale=None,
        scaling_rate=1.0,
        scaling_exponent=4.0,
        center_species=None,
        neighbor_species=None,
        handle_unknown="error",
        accuracy=1e-9,
        aggregate=None,
        n_jobs=None,
        verbose=0,
    ):
        super().__init__(
            cutoff,
            n_max,
            l_max,
            sigma,
            radial_basis=radial_basis,
            cutoff_width=cutoff_width,
            center_weight=center_weight,
            scaling_scale=scaling_scale,
            scaling_rate=scaling_rate,
            scaling_exponent=scaling_exponent,
            center_species=center_species,
            neighbor_species=neighbor_species,
            handle_unknown=handle_unknown,
            accuracy=accuracy,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.aggregate = aggregate

    def _choice_problems(self):
        yield from super()._choice_problems()
        if self.aggregate not in (None, "sum", "mean"):
            yield f"aggregate={self.aggregate!r} must be None, 'sum' or 'mean'"

    def transform(self, X):
        """Power spectrum of all centers, or of all structures.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        ndarray of shape (n_centers, n_features) or (n_structures, n_features)
        """
        batch, is_center, expansion = self._read(X)
        width = n_features(self.l_max, expansion.n_channels, _SCALAR)
        structures = batch.structure_of_atom[is_center]
        n_rows = len(structures) if self.aggregate is None else batch.n_structures
        out = allocate({"power spectrum": (n_rows, width)}, "the power spectrum")["power spectrum"]
        partial_sums = []

        def store(rows, density):
            if self.aggregate is None:
                fill_block(density, self.l_max, self.n_max, _SCALAR, out[rows, None])
                return
            block = np.zeros((len(density), 1, width))
            fill_block(density, self.l_max, self.n_max, _SCALAR, block)
            present, first = np.unique(structures[rows], return_index=True)
            partial_sums.append((rows.start, present, aggregate_rows(block[:, 0], np.append(first, len(block)), "sum")))

        expansion.for_each_range(batch, is_center, store, self.n_jobs, self._progress(batch.n_structures))
        # a structure may span several ranges: added in their order, whichever thread was first
        for _, present, sums in sorted(partial_sums, key=lambda part: part[0]):
            out[present] += sums
        if self.aggregate == "mean":
            out /= np.maximum(np.bincount(structures, minlength=n_rows), 1)[:, None]
        return out

    def get_feature_names_out(self, input_features=None):
        """Names such as ``"O0 H3 l2"``: species and radial index of the two factors, and l.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects, shape (n_features,)
        """
        check_is_fitted(self)
        labels = feature_labels(self.l_max, self.n_max, self.neighbor_species_, _SCALAR)
        names = [
            f"{chemical_symbols[one['species_1']]}{one['n_1']} {chemical_symbols[one['species_2']]}{one['n_2']} "
            f"l{one['l_1']}"
            for one in labels
        ]
        return np.array(names, dtype=object)
