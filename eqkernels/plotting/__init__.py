"""Pictures of results, in the manner of scikit-learn's displays. They need matplotlib: pip install "eqkernels[plot]"."""

from eqkernels.plotting.parity import ParityDisplay

__all__ = ["ParityDisplay"]
