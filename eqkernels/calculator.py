"""A model of energies as an ASE calculator, for relaxations and molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress


class TensorCalculator(Calculator):
    """Energy, forces and stress of a fitted model.

    Nothing is converted: energies have the unit of the labels that the model was fitted to, forces that unit over that
    of the positions, and stress that unit over the cube of it, with the sign and order of ASE (Voigt: xx, yy, zz, yz,
    xz, xy). ASE's dynamics and optimizers expect eV and Angstrom.

    Parameters
    ----------
    model : estimator
        Fitted to energies of frames, with ``predict`` and ``vjp``: a :class:`SparseTensorGPR` or a
        :class:`EquivariantNetworkRegressor`.
    **kwargs
        Passed on to :class:`ase.calculators.calculator.Calculator`.

    See Also
    --------
    SparseTensorGPR : Gaussian processes of energies and forces.
    EquivariantNetworkRegressor : Learned features with a readout.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> from eqkernels import LambdaSOAP, SparseTensorGPR
    >>> frames = [bulk("Cu", cubic=True) for _ in range(6)]
    >>> for k, atoms in enumerate(frames):
    ...     atoms.rattle(0.1, seed=k)
    ...     atoms.calc = EMT()
    >>> energies, forces = [a.get_potential_energy() for a in frames], [a.get_forces() for a in frames]
    >>> model = SparseTensorGPR(n_points=20, descriptor=LambdaSOAP(n_max=4, l_max=2), random_state=0)
    >>> atoms = frames[0].copy()
    >>> atoms.calc = TensorCalculator(model.fit(frames, energies, forces=forces))
    >>> bool(abs(atoms.get_forces() - forces[0]).max() < 0.05)
    True
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, model: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.model = model

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Name what changed since the last calculation; inputs of the model, such as fields, count too.

        Parameters
        ----------
        atoms : ase.Atoms
        tol : float

        Returns
        -------
        list of str
        """
        changes, known = super().check_state(atoms, tol), self.atoms
        if known is None or changes:
            return changes
        return [name for name in self._inputs() if not np.array_equal(_value(atoms, name), _value(known, name))]

    def _inputs(self):
        """Names of the inputs beyond the geometry, at which ASE does not look."""
        parameters: dict[str, Any] = getattr(self.model, "get_params", dict)()
        found = [value for key, value in parameters.items() if key.rpartition("__")[2] == "inputs"]
        return {name for one in found if isinstance(one, dict) for name in one}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``, with all derivatives if any is asked for.

        Parameters
        ----------
        atoms : ase.Atoms, optional
        properties : sequence of str
        system_changes : sequence of str

        Raises
        ------
        ValueError
            If the model does not predict energies of structures.
        """
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms  # a copy of atoms
        energy = np.asarray(self.model.predict([structure]))
        if energy.shape != (1,) or energy.dtype == object:
            what = "per-atom targets" if energy.dtype == object else f"arrays of shape {energy.shape[1:]}"
            raise ValueError(f"the model predicts {what}, not energies of structures")
        self.results["energy"] = self.results["free_energy"] = float(energy[0])
        if "forces" in properties or "stress" in properties:
            derivatives = self.model.vjp([structure], [1.0])
            self.results["forces"] = -derivatives.positions
            if structure.cell.rank == 3:
                stress = 0.5 * (derivatives.strain[0] + derivatives.strain[0].T) / structure.get_volume()
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)


def _value(atoms, name):
    """Value of an input, wherever it is."""
    return atoms.arrays[name] if name in atoms.arrays else atoms.info.get(name)
