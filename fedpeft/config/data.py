"""`[data]`: the examples, and how they are dealt."""

from __future__ import annotations

from pydantic import Field

from fedpeft.config.table import PluginTable, Table


class DataTable(Table):
    """`[data]`: where the examples come from and how they are dealt to the clients."""

    source: str = "assistant"  # assistant (generated) | csv
    folder: str | None = None  # of csv files; default: the environment variable FEDPEFT_DATA
    train: str | None = None  # csv: training file, relative to the folder
    test: str | None = None  # csv: test file
    text: str = "text"  # csv: column of the text
    label: str = "label"  # csv: column of the label
    partition: PluginTable | None = None  # csv: e.g. { name = "dirichlet", alpha = 0.5 }
    client_test: float = Field(0.1, ge=0, lt=1)  # share of a client's examples kept for its own evaluation
