r"""Models of energies, dipoles, polarizabilities and other tensors as an ASE calculator.

For relaxations, molecular dynamics, vibrations and spectra in ASE. With the energy E, the dipole mu, the polarizability
alpha and the strain of the cell epsilon,

.. math::

    \mathbf f_i = - \frac{\partial E}{\partial \mathbf r_i} , \quad
    \sigma = \frac 1 V \frac{\partial E}{\partial \epsilon} , \quad
    Z_{i, ab} = \frac{\partial \mu_a}{\partial r_{ib}} , \quad
    R_{i, abc} = \frac{\partial \alpha_{ab}}{\partial r_{ic}} .
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, all_properties
from ase.outputs import Properties
from ase.stress import full_3x3_to_voigt_6_stress

from eqkernels._fitted import gives_std
from eqkernels._numeric import check_positive
from eqkernels._warnings import warn
from eqkernels.derivatives import (
    OneProperty,
    has_derivatives,
    jacobian,
    predict_derivatives,
    value_and_vjp,
)

# What derivatives of a property by the positions are called.
_DERIVATIVES = {"dipole": ("born_charges", "born_effective_charges"), "polarizability": ("raman_tensors",)}


class TensorCalculator(Calculator):
    """Energy, forces, stress, dipole, polarizability, their derivatives and error bars, of fitted models.

    Nothing is converted: energies have the unit of the labels that the model was fitted to, forces that unit over that
    of the positions, and stress that unit over the cube of it, with the sign and order of ASE (Voigt: xx, yy, zz, yz,
    xz, xy). ASE's dynamics and optimizers expect eV and Angstrom, its spectra dipoles in e Angstrom.

    Parameters
    ----------
    models : estimator, or dict of str to estimator
        Fitted to energies of frames; or models by the names of what they predict: ``"energy"``, ``"dipole"``,
        ``"polarizability"``, or any other. Of an :class:`EquivariantNetworkRegressor` of several properties, all.
    max_std : dict of str to float, default=None
        Largest error bars that raise no warning, such as ``{"energy": 0.05, "forces": 0.2}``, in the units of the
        predictions. The warning names the structure, and of properties of atoms the atom.
    error_bars : bool, default=False
        Whether the error bars are computed with every property; else when they are asked for, or have a limit.
    **kwargs
        Passed on to :class:`ase.calculators.calculator.Calculator`.

    Attributes
    ----------
    implemented_properties : list of str
        What ``get_property`` and ``results`` may have, of the models that there are:

        - ``energy``, ``free_energy`` (the same), and of a model with derivatives ``forces`` and ``stress``;
        - ``dipole`` and ``born_charges``, also as ``born_effective_charges``: its derivatives ``[atom, i, j]`` of
          component i by coordinate j of the atom;
        - ``polarizability`` and ``raman_tensors``: its derivatives ``[atom, i, j, k]`` by coordinate k;
        - whatever else has a model, by its name;
        - ``energy_std``, ``forces_std``, ``dipole_std``, ...: standard deviations, where the model gives them.
    models : dict of str to estimator

    See Also
    --------
    SparseTensorGPR : Gaussian processes of energies and forces.
    EquivariantNetworkRegressor : Learned features with a readout.
    eqkernels.spectra.HarmonicSpectrum : Infrared and Raman lines, of this calculator too.

    Notes
    -----
    A list of neighbors with a skin would not pay: with all neighbors found anew, the search takes one percent of a step
    of 100 or 1000 atoms.

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
    >>> atoms.calc = TensorCalculator({"energy": model.fit(frames, energies, forces=forces)})
    >>> bool(abs(atoms.get_forces() - forces[0]).max() < 0.05)
    True
    >>> bool(atoms.calc.get_property("energy_std") < 0.05)
    True
    """

    def __init__(
        self,
        models: Any,
        *,
        max_std: Mapping[str, float] | None = None,
        error_bars: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.models = _by_name(models)
        self.max_std = {} if max_std is None else dict(max_std)
        self.error_bars = error_bars
        self.implemented_properties = _properties(self.models)
        self.n_calculations = 0
        self._of_atoms = {"forces"}
        self._check_limits()

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
        found: list[Any] = []
        for model in self.models.values():
            parameters: dict[str, Any] = getattr(getattr(model, "model", model), "get_params", dict)()
            found += [value for key, value in parameters.items() if key.rpartition("__")[2] == "inputs"]
        return {name for one in found if isinstance(one, dict) for name in one}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results`` with the properties, and with what comes along.

        Parameters
        ----------
        atoms : ase.Atoms, optional
        properties : sequence of str
        system_changes : sequence of str

        Raises
        ------
        ValueError
            If the model of the energy does not predict energies of structures.

        Warns
        -----
        UserWarning
            If an error bar passes its limit.
        """
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms  # a copy of atoms
        self.n_calculations += bool(system_changes)
        wanted = set(properties)
        for name, model in self.models.items():
            if name == "energy":
                if wanted & {"energy", "free_energy", "forces", "stress", "energy_std", "forces_std"}:
                    self._calculate_energy(model, structure, wanted)
            elif wanted & {name, f"{name}_std", *_DERIVATIVES.get(name, ())}:
                self._calculate_tensor(name, model, structure, wanted)
        for name in sorted(self.max_std):
            if f"{name}_std" in self.results:
                self._compare(name, structure)

    def export_properties(self) -> Properties:
        """Those of the results that ASE knows, for its files and databases."""
        return Properties({name: value for name, value in self.results.items() if name in all_properties})

    def _calculate_energy(self, model, structure, wanted):
        if wanted & {"forces", "stress"}:
            energy, derivatives = value_and_vjp(model, structure, np.ones(1))
            self.results["energy"] = _one_number(energy)
            self.results["forces"] = -derivatives.positions
            if structure.cell.rank == 3:
                stress = 0.5 * (derivatives.strain[0] + derivatives.strain[0].T) / structure.get_volume()
                if np.isfinite(stress).all():  # that of a baseline may be unknown
                    self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif wanted & {"energy", "free_energy"} or "energy" not in self.results:
            energy = model.predict([structure])
        else:
            energy = np.array([self.results["energy"]])
        self.results["energy"] = self.results["free_energy"] = _one_number(energy)
        if self._wants_std("energy", wanted):
            self.results["energy_std"] = float(np.asarray(model.predict([structure], return_std=True)[1])[0])
        if "forces" in self.results and self._wants_std("forces", wanted) or "forces_std" in wanted:
            mean, std = model.predict_forces([structure], return_std=True)
            self.results["forces"], self.results["forces_std"] = np.asarray(mean[0]), np.asarray(std[0])

    def _calculate_tensor(self, name, model, structure, wanted):
        names = set(_DERIVATIVES.get(name, ()))
        if structure.pbc.any() and wanted & names and not wanted & {name, f"{name}_std"}:
            # the dipole of a crystal has no value, its derivatives have
            derivatives = predict_derivatives(model, [structure])[0]
            self.results.update(dict.fromkeys(names, np.asarray(derivatives)))
            return
        if self._wants_std(name, wanted):
            mean, std = model.predict([structure], return_std=True)
            self.results[f"{name}_std"] = _plain(std[0])
        else:
            mean = model.predict([structure])
        self.results[name] = _plain(mean[0])
        if np.asarray(mean).dtype == object:
            self._of_atoms.add(name)
        if wanted & names:
            derivatives = jacobian(model, structure, np.shape(self.results[name]))
            self.results.update(dict.fromkeys(names, derivatives))

    def _wants_std(self, name, wanted):
        std = f"{name}_std"
        return std in self.implemented_properties and (std in wanted or self.error_bars or name in self.max_std)

    def _check_limits(self):
        for name, limit in self.max_std.items():
            check_positive(limit, f"max_std[{name!r}]")
            if f"{name}_std" not in self.implemented_properties:
                known = [one.removesuffix("_std") for one in self.implemented_properties if one.endswith("_std")]
                raise ValueError(
                    f"max_std has a limit of {name!r}, of which no model gives error bars: they give those of "
                    f"{', '.join(map(repr, known)) or 'nothing'}"
                )

    def _compare(self, name, structure):
        std, limit = np.asarray(self.results[f"{name}_std"]), self.max_std[name]
        largest = np.nanmax(std)
        if largest <= limit:
            return
        where = f"{structure.get_chemical_formula()}, calculation {self.n_calculations}"
        if name in self._of_atoms:
            atom = int(np.argmax(np.nanmax(std.reshape(len(std), -1), axis=1)))
            where += f", atom {atom} ({structure.symbols[atom]})"
        warn(
            f"{where}: the error bar of {name} is {largest:.3g}, above the limit of {limit:.3g}: the model knows too "
            "few structures like this, add some to its training set",
            UserWarning,
        )


def _by_name(models):
    """Models by what they predict."""
    given = dict(models) if isinstance(models, Mapping) else {"energy": models}
    if not isinstance(models, Mapping) and getattr(models, "several_", False):
        given = dict.fromkeys(models.readouts_, models)
    if not given:
        raise ValueError("there are no models: give one of energies, or a dict such as {'energy': model}")
    found = {}
    for name, model in given.items():
        if not hasattr(model, "predict"):
            raise TypeError(
                f"the model of {name!r} is a {type(model).__name__}, which has no predict: fit an estimator"
            )
        found[name] = OneProperty(model, name) if getattr(model, "several_", False) else model
    return found


def _properties(models: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for name, model in models.items():
        names.append(name)
        derivatives: Iterable[str] = _DERIVATIVES.get(name, ())
        if name == "energy":
            names.append("free_energy")
            derivatives = ("forces", "stress")
        names += [one for one in derivatives if has_derivatives(model) and one not in models]
        names += [f"{name}_std"] if gives_std(model) else []
        if name == "energy" and gives_std(model, "predict_forces"):
            names.append("forces_std")
    return names


def _one_number(energy):
    energy = np.asarray(energy)
    if energy.shape != (1,) or energy.dtype == object:
        what = "per-atom targets" if energy.dtype == object else f"arrays of shape {energy.shape[1:]}"
        raise ValueError(f"the model predicts {what}, not energies of structures")
    return float(energy[0])


def _plain(value):
    """Array of a structure, or a number."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value)


def _value(atoms, name):
    """Value of an input, wherever it is."""
    return atoms.arrays[name] if name in atoms.arrays else atoms.info.get(name)
