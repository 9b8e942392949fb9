"""From the file names of a run file to rows: patterns matched, placeholders bound, the reader of each format called.

train = "train.csv"                     one file, in data.folder
train = ["a.jsonl.xz", "b.jsonl.xz"]    several, one after the other
train = "part-*.parquet"                all that match, in the order of their names
train = "{client}/train.csv"            all that match; what stands for {client} is a column of that name
train = "data.json#train"               the list under the key "train" (see json.py)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fedpeft import registry
from fedpeft.data.readers.contract import DataFile, Reader, Row
from fedpeft.data.readers.opening import COMPRESSED, missing, no_folder
from fedpeft.errors import DataError

BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"), "image"),
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}|\*\*/|\*|\?")


def read_files(
    names: str | Sequence[str],
    folder: Path,
    *,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> Iterator[Row]:
    """The rows of the files that `names` stand for, in order.

    Args:
        names: see above; relative to `folder`.
        folder: of the data.
        format: name of a reader; default: by each file's suffix.
        columns: of CSV files without a header line.
        delimiter: between the fields of CSV files; default: a comma, or a tab.

    Raises:
        DataError: a file is missing or malformed, nothing matches a pattern, or a suffix is not known.
        PluginError: there is no reader of that name.
    """
    for name in [names] if isinstance(names, str) else names:
        for file in find_files(name, folder, columns):
            reader: Reader = registry.load("reader", format or format_of(file.path))
            yield from reader(replace(file, delimiter=delimiter))


def find_files(name: str, folder: Path, columns: Sequence[str] | None = None) -> list[DataFile]:
    """The files that one name of a run file stands for, sorted by path; a plain name need not exist yet.

    Raises:
        DataError: nothing matches a pattern.
    """
    pattern, _, keys = name.partition("#")
    inside = tuple(key for key in keys.split("/") if key)
    named = tuple(columns) if columns else None
    if not _PLACEHOLDER.search(pattern):
        return [DataFile(folder / pattern, inside, named)]
    _check_pattern(pattern)
    parts = PurePosixPath(pattern).parts  # an absolute pattern's first is its root
    plain = next(place for place, part in enumerate(parts) if _PLACEHOLDER.search(part) or part == "**")
    root, rest = folder.joinpath(*parts[:plain]), "/".join(parts[plain:])
    matcher = re.compile(_as_expression(rest))
    found = sorted(path for path in root.glob(_as_glob(rest)) if path.is_file())
    files = []
    for path in found:
        match = matcher.fullmatch(path.relative_to(root).as_posix())
        if match:  # {client} twice in a pattern must stand for one name
            files.append(DataFile(path, inside, named, match.groupdict()))
    if not files:
        if not folder.is_dir():
            raise no_folder(folder, f'no file matches "{pattern}"')
        raise DataError(
            f'no file matches "{pattern}" in {folder}',
            code="data.no-file",
            allowed="* for any part of a name, {client} for one that becomes a column",
            remedy="correct the pattern, or set data.folder or FEDPEFT_DATA to the folder that holds the files",
        )
    return files


def format_of(path: Path) -> str:
    """The name of the reader for a file, by its suffix; a compression's suffix does not count.

    Raises:
        DataError: the suffix is not known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix]
    if path.is_dir():
        raise missing(path / "*")
    raise DataError(
        f'{path}: the suffix "{suffix}" does not say what format the file has',
        code="data.format",
        allowed=", ".join(BY_SUFFIX) + f", each also with {', '.join(COMPRESSED)}",
        remedy=f"set data.format to one of {', '.join(registry.names('reader'))}",
    )


def _check_pattern(pattern: str) -> None:
    wrong = next((name for name in re.findall(r"\{(\w+)\}", pattern) if not name.isidentifier()), None)
    if wrong is not None:
        what = f'"{{{wrong}}}" names no column'
    elif any("**" in part and part != "**" for part in PurePosixPath(pattern).parts):
        what = '"**" stands beside other characters'
    else:
        return
    raise DataError(
        f'the pattern "{pattern}" cannot be matched: {what}',
        code="data.pattern",
        allowed="* for any part of a name, **/ for any folders, {client} for a name that becomes a column",
        remedy="correct the pattern",
    )


def _as_glob(pattern: str) -> str:
    """The pattern with a star for each placeholder; all else that `glob` would take for its own stands for itself."""
    return re.sub(r"\{\w+\}", "*", pattern.replace("[", "[[]"))


def _as_expression(pattern: str) -> str:
    """A regular expression for paths that a pattern matches, with a named group for each placeholder."""
    pieces, position, seen = [], 0, set[str]()
    for match in _PLACEHOLDER.finditer(pattern):
        pieces.append(re.escape(pattern[position : match.start()]))
        position, name = match.end(), match.group(1)
        if name is None:
            pieces.append({"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}[match.group()])
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f"(?P<{name}>[^/]+)")
    return "".join(pieces) + re.escape(pattern[position:])
