"""Models from the settings of a configuration file."""

import pytest

from eqkernels import MultiScale, TholePolarizability
from eqkernels.cli.console import Problem
from eqkernels.cli.learning import build


def test_baselines_and_scales():
    settings = {
        "baseline": {"name": "TholePolarizability", "damping": "linear"},
        "descriptor": {"name": "MultiScale", "cutoff": [3.0, 5.0]},
    }
    model = build("kernel-ridge", {}, settings)
    assert isinstance(model.baseline, TholePolarizability)
    assert model.baseline.damping == "linear"
    assert isinstance(model.descriptor, MultiScale)
    assert build("ridge", {}, {"baseline": "mean"}).baseline == "mean"
    with pytest.raises(Problem, match="there is no 'Thole' here: take TholePolarizability"):
        build("ridge", {}, {"baseline": {"name": "Thole"}})
