"""The list of clients: in id order whatever the order of their hellos, and light however many there are."""

from fedpeft.server.roster import Holding, Roster
from fedpeft.types import ClientId, ClientInfo, NodeId


def info(name, **more):
    return ClientInfo(ClientId(name), NodeId(1), 10, **more)


def test_clients_are_offered_in_id_order_whenever_they_came():
    roster = Roster()
    for name in ("c05", "c01", "c03"):
        roster.welcome(info(name))
    assert [one.client for one in roster.available(())] == ["c01", "c03", "c05"]
    roster.welcome(info("c02"))
    roster.welcome(info("c03", device="new"))
    offered = roster.available({"c01"})
    assert [one.client for one in offered] == ["c02", "c03", "c05"]
    assert offered[1].device == "new"


def test_what_many_clients_say_alike_is_kept_once():
    roster = Roster()
    for name in ("c00", "c01"):
        said = "".join(["pho", "ne"]), tuple("".join(["in", text]) for text in ("t8", "t4"))
        roster.welcome(info(name, device=said[0], codecs=said[1], layout="".join(["1a"] * 32)))
    first, second = roster.available(())
    assert first.device is second.device
    assert first.codecs is second.codecs
    assert first.layout is second.layout
    assert (first.device, first.codecs) == ("phone", ("int8", "int4"))


def test_a_checkpoint_is_remembered_and_lost_with_its_broadcast():
    roster = Roster()
    roster.restore({"c00": [4, 3, 2], "c01": [4, 3]})
    assert roster.holding(ClientId("c00")) == Holding(4, 3, past=2)
    assert roster.state() == {"c00": [4, 3, 2], "c01": [4, 3]}
    roster.lost_base(ClientId("c00"))
    assert roster.holding(ClientId("c00")) == Holding(0, 3)


def test_a_client_that_lost_its_broadcast_is_known_to_hold_none():
    roster = Roster()
    roster.restore({"c00": [4, 3]})
    roster.welcome(info("c00", versions=(2,)))
    assert roster.holding(ClientId("c00")) == Holding(0, 3)


def test_a_reply_to_an_older_version_does_not_take_a_newer_one_back():
    """In asynchronous rounds a client may have been sent a newer version to evaluate while it trained."""
    roster, client = Roster(), ClientId("c00")
    roster.learn(client, Holding(7, 3, past=2))
    roster.learn(client, Holding(5, 5, past=1))
    roster.commit()
    assert roster.holding(client) == Holding(7, 5, past=2)
    roster.learn(client, Holding(6, 6, past=9))
    roster.commit()
    assert roster.holding(client) == Holding(7, 6, past=2)
    roster.lost_base(client)
    roster.learn(client, Holding(4, 6))
    roster.commit()
    assert roster.holding(client) == Holding(4, 6)
