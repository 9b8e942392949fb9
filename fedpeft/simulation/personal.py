"""Clients that keep tensors of their own: a client's whole adapter, and what an export of the shared part says."""

from __future__ import annotations

from pathlib import Path

from fedpeft.client import ClientMemory, ClientStore
from fedpeft.errors import JournalError
from fedpeft.journal import Commit, Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.paths import write_atomically
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.parts import private_parts
from fedpeft.types import ClientId, FloatArray

CLIENTS = "clients"
"""Folder in a simulated run's folder that holds a folder for each client."""


def own_adapter(
    federation: Federation, journal: Journal, commit: Commit, client: ClientId, shared: FloatArray
) -> FloatArray:
    """A simulated client's own θ, shape (d,), as of a commit.

    Args:
        federation: of the run.
        journal: of the run.
        commit: one that the journal still has the snapshot of.
        client: whose.
        shared: the shared part of θ of that commit, shape (s,).

    Raises:
        JournalError: there is no such client, or its disk does not hold what the commit counts on.
    """
    if client not in federation.train:
        raise JournalError(
            f"run {journal.run} has no client {client}",
            code="journal.no-client",
            allowed=", ".join(federation.train),
            remedy="name one of these",
        )
    if federation.replica is not None:  # everybody has the same
        return federation.whole(shared)
    sharing = federation.sharing
    holdings = unpack(journal.blob(commit.snapshot["roster"]))[1]["holdings"]
    counts = int(holdings[client][1]) if client in holdings else -1
    store = ClientStore(journal.folder / CLIENTS / client, sharing.shared.size)
    if counts >= 0 and not sharing.is_whole and store.memory(counts) is None:
        raise JournalError(
            f"client {client} holds no private tensors of round {counts} in {store.folder}",
            code="journal.no-memory",
            remedy="export on the client's own device, or restore the run's folder from a backup",
        )
    return ClientMemory(sharing, sharing.private_of(federation.initial)).whole(shared, store, counts)


def explain_shared(federation: Federation, folder: Path, run: str) -> None:
    """Say in an exported adapter's README that its private tensors are nobody's, and where the clients' own are.

    Args:
        federation: of the run.
        folder: of the exported adapter.
        run: the run's name.
    """
    sharing = federation.sharing
    if sharing.is_whole:
        return
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    parts = ", ".join(f"`{part}`" for part in private_parts(federation.config, federation.strategy))
    reason = (
        "## Only a part of each client's adapter\n\n"
        f"The tensors with {parts} in their names stayed on each client of this federation: {sharing.private.size:,} "
        f"of {sharing.whole.size:,} values. Here they have the value that every client began with, so this folder is a "
        "start for a new client and no finished adapter. In a simulation, "
        f"`fedpeft export {run} --client NAME --to DIR` writes the whole adapter of one client; on a device, its own "
        "tensors are in the newest `memory-*.safetensors` of its state folder.\n\n"
    )
    head, separator, rest = text.partition("\n---\n")  # a model card begins with YAML between two such lines
    written = f"{head}{separator}\n{reason}{rest.lstrip()}" if text.startswith("---") and separator else reason + text
    write_atomically(card, written.encode())


__all__ = ["CLIENTS", "explain_shared", "own_adapter"]
