"""The command line ``eqkernels``: from files to trusted models, and from models to predictions, without Python.

Every command is a few calls of the public functions; nothing is done here that cannot be done from Python.
"""

import sys

__all__ = ["main"]


def main():
    """Run the command line; it ends the process."""
    try:
        import typer  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        sys.exit(f"eqkernels: the command line needs {error.name}: pip install 'eqkernels[cli]'")
    from eqkernels.cli.app import run

    run()
