"""The version of the installed package; `pyproject.toml` holds it, where Flower wants to read it too."""

from importlib.metadata import version

__version__ = version("fedpeft")
