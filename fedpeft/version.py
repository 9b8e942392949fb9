"""The version of this package, for `pyproject.toml`, journals and `fedpeft --version`."""

__version__ = "0.1.0"
