"""``python -m eqkernels``: the command line."""

from eqkernels.cli import main

if __name__ == "__main__":
    main()
