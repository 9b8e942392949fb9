"""Meeting clients: enough of them before the first round, and those that come later between rounds.

Nodes appear when their devices do. The coordinator greets each as soon as it sees it, begins when all clients of the
run file are there, or, after `round.gather_s`, as many as a round asks for, and goes on greeting before every round:
a device that is switched on late takes part from the next round on. Nobody is waited for once the rounds have begun.

With all clients there from the start, as in a simulation, this is one exchange, and who takes part in a round depends
on the seed alone. Where some come late it depends on when they come.
"""

from __future__ import annotations

from dataclasses import replace

from fedpeft.codecs.compose import parts_of
from fedpeft.codecs.downlink import SteppingDownlink
from fedpeft.errors import ClientFault, RoundError
from fedpeft.journal import EventKind
from fedpeft.server.state import State
from fedpeft.types import ClientId, ClientInfo, Incoming, MessageId, NodeId
from fedpeft.wire.frame import Frame, FrameKind

NOBODY = ClientId("")
"""Whom a first frame is for: the coordinator does not know yet who lives on the node."""


class Meeting:
    """Who has been greeted, and what came of it.

    Args:
        state: the coordinator's parts; clients are welcomed to its roster.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._greeted: set[NodeId] = set()  # asked who they are; answered or not
        self._waiting: dict[MessageId, NodeId] = {}
        self._standing_by: dict[NodeId, NodeId] = {}  # node that was left out -> the one that stands for its client
        self._told: set[tuple[str, str]] = set()  # (who, why not), each recorded once

    def gather(self) -> None:
        """Meet clients until there are enough to begin.

        Raises:
            RoundError: the deadline of a round has passed, or all nodes have answered, and nobody can take part.
        """
        clock, config = self.state.clock, self.state.config
        began = clock.now()
        enough = config.round.ask + config.round.over_select
        while True:
            self.greet()
            if not self._waiting and len(self._greeted) >= config.clients:
                break
            waited = clock.now() - began
            if waited >= config.round.deadline_s:
                break
            if waited >= config.round.gather_s and len(self.state.roster.clients) >= enough:
                break
            self.state.pause()
        for node in self._waiting.values():
            self._leave_out(ClientId(f"node {node}"), f"no reply within {clock.now() - began:g} s")
        if not self.state.roster.clients:
            reasons = sorted({reason for _, reason in self._told})
            raise RoundError(
                "no client can take part: " + ("; ".join(reasons[:3]) or "no node is there"),
                code="round.no-clients",
                remedy="correct what the clients report and run again" if reasons else "start the clients' nodes",
            )

    def greet(self) -> None:
        """Ask every node that is new who it is, and hear those that have answered; does not wait."""
        nodes = self.state.post.transport.nodes()
        present = set(nodes)
        free = [node for node, other in self._standing_by.items() if other not in present]
        for node in free:  # who was taken for its double is gone, e.g. the same device before it was started again
            del self._standing_by[node]
            self._greeted.discard(node)
        new = [node for node in nodes if node not in self._greeted]
        if new:
            frame = Frame(FrameKind.HELLO, self.state.config.run.name, 0, 0, NOBODY)
            sent = self.state.post.send("hello", [(ClientInfo(NOBODY, node, 0), frame) for node in new])
            for node, (message, _) in zip(new, sent, strict=True):
                if message is None:
                    self._leave_out(ClientId(f"node {node}"), "the message could not be sent")
                else:
                    self._greeted.add(node)
                    self._waiting[message] = node
        if self._waiting:
            for incoming in self.state.post.receive(self._waiting):
                if incoming.message in self._waiting:
                    self._hear(self._waiting.pop(incoming.message), incoming, present)

    def _hear(self, node: NodeId, incoming: Incoming, present: set[NodeId]) -> None:
        """Take one answer: welcome the client, or leave it out and say why."""
        try:
            info = self.state.post.open(incoming, "hello", FrameKind.HELLO_REPLY, 0, 0, NOBODY).info
        except ClientFault as fault:
            self._leave_out(ClientId(f"node {node}"), fault.message)
            return
        if info is None:
            self._leave_out(ClientId(f"node {node}"), "empty hello")
            return
        reason = self._unfit(info)
        known = self.state.roster.clients.get(info.client)
        if not reason and known is not None and known.node != node and known.node in present:
            reason = f"node {known.node} already stands for client {info.client}; node {node} is left out"
            self._standing_by[node] = known.node
        if reason:
            self._leave_out(info.client, reason)
            return
        self.state.roster.welcome(replace(info, node=node))
        self.state.journal.record(EventKind.HELLO, client=info.client, examples=info.examples, device=info.device)

    def _unfit(self, info: ClientInfo) -> str:
        """Why a client cannot take part; empty when it can."""
        digest = self.state.settings.layout.digest
        if info.examples < 1:
            return "it has no training examples"
        if info.layout != digest:
            return f"its adapter has layout {info.layout[:12]}, the run's is {digest[:12]}"
        strategy = self.state.strategy
        objective = strategy.objective
        needed = [*self.state.codecs_of(info.device)]
        needed += [self.state.config.codec.auxiliary] if strategy.sends or strategy.receives else []
        needed += [self.state.config.codec.down] if isinstance(self.state.settings.downlink, SteppingDownlink) else []
        for codec in needed:
            lacking = [] if ".py:" in codec else [part for part in parts_of(codec) if part not in info.codecs]
            if lacking:
                whole = "" if lacking == [codec] else f', of "{codec}"'
                return f'it lacks the codec "{lacking[0]}"{whole}'
        if objective not in info.objectives:
            file = objective.partition("#")[0] + "#"
            other = next(
                (": it has another version of that file" for name in info.objectives if name.startswith(file)), ""
            )
            return f'it lacks the objective "{objective}" that the strategy asks for{other}'
        return ""

    def _leave_out(self, who: ClientId, reason: str) -> None:
        if (who, reason) not in self._told:
            self._told.add((who, reason))
            self.state.journal.record(EventKind.HELLO_FAILED, client=who, reason=reason)
