"""Readers turn a data file into rows: one file here for each format, one entry in the registry (kind `reader`).

`contract.py` says what a reader promises, `files.py` finds the files a run file names and picks the reader of each.
"""

from fedpeft.data.readers.contract import DataFile, Reader, Row
from fedpeft.data.readers.files import find_files, read_files

__all__ = ["DataFile", "Reader", "Row", "find_files", "read_files"]
