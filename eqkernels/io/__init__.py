"""Models in files."""

from eqkernels.io.saved import load_header, load_model, save_model

__all__ = ["load_header", "load_model", "save_model"]
