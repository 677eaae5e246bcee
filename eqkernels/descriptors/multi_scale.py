"""A descriptor at several length scales: finely resolved nearby, coarsely farther out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.base import clone

from eqkernels._defaults import NestedDefaults
from eqkernels._fitted import whole_or_nothing
from eqkernels._parameters import check_parameters, is_number
from eqkernels.descriptors.joined import JoinedDescriptors
from eqkernels.descriptors.lambda_soap import LambdaSOAP
from eqkernels.structures import StructureBatch, takes_batches


class Lengths:
    """Positive numbers, at least one; or None or a single one where that is allowed."""

    def __init__(self, single: bool = False):
        self.single = single

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if self.single and (value is None or (is_number(value) and value > 0)):
            return None
        sequence = isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1 and len(value) > 0
        if sequence and all(is_number(one) and one > 0 for one in value):
            return None
        return "must be None, a positive number, or one for each cutoff" if self.single else "must be positive numbers"


class MultiScale(NestedDefaults, JoinedDescriptors, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """A descriptor with several cutoffs, such as double SOAP: its features for each of them, side by side.

    It is the :class:`EquivariantUnion` of copies of the descriptor, of which all other parameters are stated once and
    the cutoffs are one parameter, which can be searched. Blocks of the same irrep are joined along the features, the
    first cutoff first. The parts are called ``"scale1"``, ``"scale2"``, ...: with :class:`CovariantKernel` alone the
    features of all scales are normalized together, and the longest, which sees most neighbors, weighs most; a sum of
    kernels ``Restricted(CovariantKernel(), part="scale1")``, one for each part, normalizes each scale on its own.

    Parameters
    ----------
    descriptor : transformer, default=None
        With parameters ``cutoff`` and ``sigma``, whose values there do not count but for the default of sigma below;
        None: ``LambdaSOAP()``. For rows, ``LambdaSOAP(irreps="0e")`` has the features of SOAP.
    cutoff : tuple of float, default=(3.0, 6.0)
        Cutoff of each scale.
    sigma : float or tuple of float, default=None
        Width of the Gaussians, of all scales or of each; None: that of the descriptor for the shortest cutoff, and in
        proportion to the cutoff for the others, which are resolved as coarsely as they are large.

    Attributes
    ----------
    transformers_ : list of (str, transformer)
        The fitted descriptors, by the names of the parts.

    See Also
    --------
    EquivariantUnion : Different descriptors side by side.
    eqkernels.kernels.Restricted : A kernel of the features of one scale.

    References
    ----------
    A. P. Bartok, S. De, C. Poelking, N. Bernstein, J. R. Kermode, G. Csanyi, M. Ceriotti, Sci. Adv. 3, e1701816
    (2017), https://doi.org/10.1126/sciadv.1701816.

    Examples
    --------
    >>> from ase.build import molecule
    >>> descriptor = MultiScale(LambdaSOAP(n_max=2, l_max=2), cutoff=(3.0, 6.0))
    >>> features = descriptor.fit_transform([molecule("NH3")])
    >>> features
    EquivariantFeatures(1 structures, 4 centers, blocks: 0e (4, 1, 60), 1o (4, 3, 64), 2e (4, 5, 72))
    >>> [(part.cutoff, part.sigma) for _, part in descriptor.transformers_], list(features.parts)
    ([(3.0, 0.3), (6.0, 0.6)], ['scale1', 'scale2'])
    """

    _defaults = {"descriptor": LambdaSOAP}  # noqa: RUF012
    _constraints = {"cutoff": Lengths(), "sigma": Lengths(single=True)}  # noqa: RUF012

    def __init__(
        self,
        descriptor: Any = None,
        *,
        cutoff: Sequence[float] = (3.0, 6.0),
        sigma: float | Sequence[float] | None = None,
    ):
        self.descriptor = descriptor
        self.cutoff = cutoff
        self.sigma = sigma

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms] | StructureBatch, y: Any = None) -> MultiScale:
        """Fit the descriptor of every scale.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like, default=None
            Passed on to the descriptors.

        Returns
        -------
        self
        """
        check_parameters(self)
        self.__dict__.pop("transformers_", None)
        X = self._read_once(X)
        self.transformers_ = [(name, transformer.fit(X, y)) for name, transformer in self._unfitted()]
        return self

    def feature_labels(self, irrep: str) -> np.ndarray:
        """Say what every feature of a block is made of, those of the first scale first, see ``feature_labels`` there.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``.

        Returns
        -------
        structured ndarray of shape (n_features,)
            With the field ``scale``, 1, 2, ..., before those of the descriptor.
        """
        labels = [member.feature_labels(irrep) for _, member in self.transformers_]
        joined: Any = np.concatenate(labels)
        out = np.empty(len(joined), dtype=[("scale", np.int64), *joined.dtype.descr])
        out["scale"] = np.repeat(np.arange(len(labels)) + 1, [len(one) for one in labels])
        for name in joined.dtype.names:
            out[name] = joined[name]
        return out

    def _unfitted(self):
        descriptor = self._object("descriptor")
        needed = {"cutoff", "sigma"} - set(getattr(descriptor, "get_params", dict)())
        if needed:
            raise TypeError(
                f"descriptor={descriptor!r:.60} has no parameter {' and no '.join(sorted(needed))}: take a descriptor "
                "of densities such as LambdaSOAP(), or an EquivariantUnion of others"
            )
        return [
            (f"scale{k + 1}", clone(descriptor).set_params(cutoff=float(cutoff), sigma=sigma))
            for k, (cutoff, sigma) in enumerate(zip(self.cutoff, self._sigmas(descriptor), strict=True))
        ]

    @property
    def _takes_batches(self):
        return takes_batches(self._object("descriptor"))

    def _sigmas(self, descriptor):
        n = len(self.cutoff)
        if self.sigma is None:
            return [float(descriptor.sigma * one / min(self.cutoff)) for one in self.cutoff]
        if np.ndim(self.sigma) == 0:
            return [float(self.sigma)] * n  # type: ignore[arg-type]
        if len(self.sigma) != n:  # type: ignore[arg-type]
            raise ValueError(f"sigma={self.sigma!r} must be a number, or one for each of the {n} cutoffs")
        return [float(one) for one in self.sigma]  # type: ignore[union-attr]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags
