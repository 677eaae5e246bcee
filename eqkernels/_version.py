"""The version of the library, which files and packages state."""

__version__ = "0.2.0"
