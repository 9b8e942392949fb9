"""The picture of the split: clients down, labels across, darker where more of a client's examples are; sizes beside.

It stays readable from a handful of clients to a thousand: names are written while there is room for them and told by
the pointer otherwise, labels stand in the order of the clients that hold most of each, and the shares travel as one
byte a cell.
"""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedpeft.data.split import DataSplit
from fedpeft.report.figure import Figure

_NAMED_CLIENTS = 40  # with more, names would overlap
_NAMED_LABELS = 45
_LONGEST = 26  # characters of a name on an axis

# Share of a client's examples -> colour. Not even steps: one example in a hundred is to be seen.
_SCALE = [[0.0, "@heat0"], [0.009, "@heat0"], [0.01, "@heat1"], [0.1, "@heat2"], [0.4, "@heat3"], [1.0, "@heat4"]]


def split_caption(split: DataSplit) -> str:
    """What the picture shows, in one line."""
    some = f"{len(split.clients)} of {split.of} clients" if split.of > len(split.clients) else f"{split.of} clients"
    if not split.labels:
        return f"Training examples of {some}."
    order = ", largest first" if len(split.clients) > _NAMED_CLIENTS else ""
    return (
        f"Who holds what: {some}{order}, {len(split.labels)} labels. The stronger the colour, the larger a share of "
        "the client's training examples has the label. Bars: how many examples it has."
    )


def split_plot(split: DataSplit) -> Figure | None:
    """The figure, or None where there are no clients to show."""
    if not split.clients:
        return None
    few = len(split.clients) <= _NAMED_CLIENTS
    places = list(range(len(split.clients)))
    if not few:
        places.sort(key=lambda place: (-split.sizes[place], place))
    names = _shown([split.clients[place] for place in places])
    sizes = [split.sizes[place] for place in places]
    data: list[Figure] = [_bars(names, sizes)]
    height = 110 + (max(20 * len(names), 80) if few else 520)
    if split.labels:
        shares = _shares(split)[places]
        order = _label_order(shares)
        labels = _shown([split.labels[label] for label in order])
        data.insert(0, _cells(shares[:, order], labels, names))
        named = len(labels) <= _NAMED_LABELS
        x_axis: Figure = {
            "domain": [0, 0.85],
            "type": "category",
            "automargin": True,
            "showgrid": False,
            "tickangle": -60 if named else 0,
            "title": {"text": "" if named else f"{len(labels)} labels", "standoff": 8},
        }
        x_axis |= {"tickmode": "linear", "tick0": 0, "dtick": 1} if named else {"showticklabels": False, "ticks": ""}
        height += 90 if named else 0
    else:
        x_axis = {"visible": False, "domain": [0, 0.01]}
    y_axis: Figure = {
        "type": "category",
        "automargin": True,
        "autorange": "reversed",
        "showgrid": False,
        "title": {"text": "" if few else f"{len(names)} clients", "standoff": 12},
    }
    y_axis |= {"tickmode": "linear", "tick0": 0, "dtick": 1} if few else {"showticklabels": False, "ticks": ""}
    size_axis: Figure = {
        "domain": [0.87 if split.labels else 0, 1],
        "automargin": True,
        "nticks": 3 if split.labels else 8,
        "rangemode": "tozero",
        "gridcolor": "@rule",
        "zerolinecolor": "@rule",
        "title": {"text": "examples", "standoff": 8},
    }
    return {
        "data": data,
        "layout": {
            "xaxis": x_axis,
            "xaxis2": size_axis,
            "yaxis": y_axis,
            "bargap": 0.25 if few else 0,
            "showlegend": False,
            "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
            "hovermode": "closest",
            "height": height,
        },
    }


def _shares(split: DataSplit) -> npt.NDArray[np.uint8]:
    """Percent of each client's examples, shape (clients, labels); what there is at all is at least 1."""
    shares = np.zeros((len(split.clients), len(split.labels)), dtype=np.uint8)
    for place, row in enumerate(split.counts):
        pairs = np.asarray(row, dtype=np.int64).reshape(-1, 2)
        percent = np.rint(100 * pairs[:, 1] / max(split.sizes[place], 1))
        shares[place, pairs[:, 0]] = np.maximum(percent, 1)
    return shares


def _label_order(shares: npt.NDArray[np.uint8]) -> list[int]:
    """Labels by the client that has the largest share of them, so that a skew is a diagonal."""
    return sorted(range(shares.shape[1]), key=lambda label: (int(shares[:, label].argmax()), label))


def _cells(shares: npt.NDArray[np.uint8], labels: list[str], names: list[str]) -> Figure:
    encoded = base64.b64encode(np.ascontiguousarray(shares).tobytes()).decode()
    return {
        "type": "heatmap",
        "x": labels,
        "y": names,
        "z": {"dtype": "u1", "bdata": encoded, "shape": f"{shares.shape[0]}, {shares.shape[1]}"},
        "zmin": 0,
        "zmax": 100,
        "colorscale": _SCALE,
        "showscale": False,
        "xgap": 1 if len(labels) <= 160 and len(names) <= _NAMED_CLIENTS else 0,
        "ygap": 1 if len(names) <= _NAMED_CLIENTS else 0,
        "hovertemplate": "%{y}<br>%{x}: %{z} % of its examples<extra></extra>",
    }


def _bars(names: list[str], sizes: list[int]) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "x": sizes,
        "y": names,
        "xaxis": "x2",
        "marker": {"color": "@before", "line": {"width": 0}},
        "hovertemplate": "%{y}: %{x} training examples<extra></extra>",
    }


def _shown(names: Sequence[str]) -> list[str]:
    """Names as an axis shows them: short where they stay apart, and no markup."""
    short = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in names]
    twice = {name for name, count in Counter(short).items() if count > 1}
    return [
        html.escape(name if shown in twice else shown, quote=False) for name, shown in zip(names, short, strict=True)
    ]
