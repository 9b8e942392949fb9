"""The codecs that a run file names: checked before anything slow is loaded, and counted for the plan."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fake_fleet import fleet_config, layout
from tiny import Stop, run_tiny, stop_at, tiny_arguments

from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.errors import ConfigError, FedpeftError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.class_codecs import class_codecs
from fedpeft.simulation.codecs import check_codecs, make_downlink
from fedpeft.types import Layout, TensorSpec

DEVICES = [{"name": "tablet", "clients": 2}, {"name": "phone", "clients": 1}]


def config_of(**options):
    return fleet_config(3, **options)


def with_codec(codec):
    return [DEVICES[0], {**DEVICES[1], "codec": codec}]


@pytest.mark.parametrize("name", ["int8", "fp32", "fp16", "uniform(1.0)+zstd", "topk(0.1)+sign", "int4(dither)"])
def test_any_codec_serves_downwards_and_for_a_class(name):
    check_codecs(config_of(codec__down=name, devices=with_codec(name)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"codec__up": "topk+sign"}, PluginError, "topk"),
        ({"codec__down": "int9"}, PluginError, 'codec.down: codec "int9" is not known'),
        ({"codec__down": "forget+int4"}, ConfigError, 'codec.down = "forget+int4" is without error feedback'),
        ({"codec__down": "dare(0.5)+fp16"}, ConfigError, "drift away from the adapter"),
        ({"devices": with_codec("topk(2)+sign")}, PluginError, 'devices.codec of class "phone": stage "topk" refused'),
        ({"devices": with_codec("rotate")}, PluginError, "rotate"),
        ({"codec__down": "pathlib:Path"}, ConfigError, 'codec.down = "pathlib:Path" is a PosixPath, not a Codec'),
        ({"devices": with_codec("pathlib:Path")}, ConfigError, 'devices.codec of class "phone" = "pathlib:Path"'),
    ],
)
def test_what_is_no_codec_is_one_error_with_a_remedy(options, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        check_codecs(config_of(**options))
    assert caught.value.remedy


def test_scalars_go_down_as_they_are():
    with pytest.raises(ConfigError, match=r'contradicts zeroth\.sends = "scalars"'):
        check_codecs(
            config_of(codec__down="sign", zeroth__size=64, local__optimizer="sgd", evaluation__centralised=False)
        )


def test_which_downlink():
    assert make_downlink("fp32", layout()) is None
    assert type(make_downlink("int8", layout())) is Int8Downlink
    assert isinstance(make_downlink("sign", layout()), FeedbackDownlink)


def test_a_downlink_knows_the_tensors():
    two = Layout((TensorSpec("a", (4,), 0), TensorSpec("b", (2, 2), 4)), 8, "2b" * 32)
    small, large = np.full(4, 0.001, dtype=np.float32), np.full(4, 1.0, dtype=np.float32)
    downlink = make_downlink("bitdelta", two)
    assert isinstance(downlink, FeedbackDownlink)
    told = downlink.codec.decode(downlink.codec.encode(np.concatenate([small, large])), 8)
    assert np.allclose(told, [0.001] * 4 + [1.0] * 4, rtol=1e-2)  # a scale for each


def told(folder, kind, key):
    with Journal.read(folder) as journal:
        return [event.payload.get(key) for event in journal.events(kind)]


def test_a_run_by_any_codec_both_ways_goes_on_bit_by_bit(tmp_path):
    """Steps and versions are in the snapshot: stopped after each commit and resumed, it ends in the same adapter."""
    from tiny import Stop, stop_at

    options = {"codec__up": "topk(0.5)+sign", "codec__down": "sign", "rounds": 5}
    whole = run_tiny(tmp_path / "whole", **options)
    for place in range(1, 4):
        with pytest.raises(Stop):
            run_tiny(tmp_path / "parts", observers=[stop_at(EventKind.COMMITTED, 2)], resume=place > 1, **options)
    parts = run_tiny(tmp_path / "parts", resume=True, **options)
    assert parts.adapter_hash == whole.adapter_hash
    owed = told(whole.folder, EventKind.COMMITTED, "owed")
    assert owed[0] is None
    assert all(0 < share < 1 for share in owed[1:])


def test_a_class_of_its_own_codec_sends_by_it(tmp_path):
    devices = [{"name": "tablet", "clients": 2}, {"name": "phone", "clients": 3, "codec": "topk(0.1)+sign"}]
    result = run_tiny(tmp_path, devices=devices, ask=5, rounds=2)
    with Journal.read(result.folder) as journal:
        events = list(journal.events())
    classes = {event.client: event.payload["device"] for event in events if event.kind is EventKind.HELLO}
    for kind in (EventKind.ASKED, EventKind.ACCEPTED):
        of_kind = [event for event in events if event.kind is kind]
        assert len(of_kind) == 10
        for event in of_kind:
            wanted = "topk(0.1)+sign" if classes[event.client] == "phone" else None
            assert event.payload.get("codec") == wanted
    sizes = {classes[e.client]: e.payload["bytes"] for e in events if e.kind is EventKind.ACCEPTED}
    assert sizes["phone"] < sizes["tablet"]


def test_seconds_of_the_uplink_are_a_budget_for_each_class(tmp_path):
    """An uplink of 4 and of 0.6 kbit/s: 500 and 75 bytes in a second."""
    devices = [
        {"name": "tablet", "clients": 2, "up_mbps": 0.004},
        {"name": "phone", "clients": 2, "up_mbps": 0.0006},
        {"name": "watch", "clients": 1, "codec": "sign"},
    ]
    options = {"devices": devices, "ask": 5, "rounds": 2, "codec__up": "lgreco(0.01,seconds=1)+zstd"}
    result = run_tiny(tmp_path / "whole", **options)
    assert result.refused == ()
    with Journal.read(result.folder) as journal:
        events = list(journal.events())
    classes = {event.client: event.payload["device"] for event in events if event.kind is EventKind.HELLO}
    for event in events:
        if event.kind in (EventKind.ASKED, EventKind.ACCEPTED):
            wanted = {"tablet": "lgreco(0.01,kb=0.5)+zstd", "phone": "lgreco(0.01,kb=0.075)+zstd", "watch": "sign"}
            assert event.payload["codec"] == wanted[classes[event.client]]
    sizes = {device: set() for device in classes.values()}
    for event in events:
        if event.kind is EventKind.ACCEPTED:
            sizes[classes[event.client]].add(event.payload["bytes"])
    beside = min(sizes["watch"]) - 17  # of a frame; its body is 100 signs and a scale
    assert max(sizes["phone"]) - beside <= 75 + 25 < min(sizes["tablet"]) - beside  # a longer name, too

    with pytest.raises(Stop):
        run_tiny(tmp_path / "cut", observers=[stop_at(EventKind.COMMITTED, 2)], **options)
    assert run_tiny(tmp_path / "cut", resume=True, **options).adapter_hash == result.adapter_hash


def test_a_client_of_no_known_class_has_the_budget_of_the_slowest():
    devices = [DEVICES[0] | {"up_mbps": 8.0}, DEVICES[1] | {"up_mbps": 2.0, "codec": "sign"}]
    config = config_of(devices=devices, codec__up="lgreco(seconds=1)+zstd")
    assert class_codecs(config) == {"tablet": "lgreco(kb=1000)+zstd", "phone": "sign", "": "lgreco(kb=250)+zstd"}
    assert class_codecs(config_of(devices=devices)) == {"phone": "sign"}


@pytest.mark.parametrize(
    "options",
    [
        {"codec__down": "lgreco(seconds=2)+zstd"},
        {"codec__auxiliary": "lgreco(seconds=2)+zstd"},
        {"scheduler": {"name": "random", "arms": {"codec": ["int8", "forget+lgreco(seconds=2)+zstd"]}}},
        {"scheduler": {"name": "random", "arms": {"steps": [2, 4]}}, "codec__up": "lgreco(0.1,seconds=2)+zstd"},
    ],
    ids=["down", "auxiliary", "arms", "up, with a scheduler"],
)
def test_seconds_are_of_the_uplink_of_one_class(options):
    with pytest.raises(ConfigError, match="has a budget in seconds of an uplink") as caught:
        check_codecs(config_of(**options))
    assert caught.value.code == "config.uplink"
    assert "lgreco(bits=1)+zstd" in caught.value.remedy


SCALARS = {"zeroth__size": 64, "local__optimizer": "sgd", "evaluation__centralised": False}


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"codec__auxiliary": "relax(1.5)+sign"}, "codec.auxiliary"),
        ({"codec__up": "relax(1.5)+fp16", **SCALARS}, "codec.up"),
        ({"devices": with_codec("rotate+relax(1.5)+sign"), **SCALARS}, 'devices.codec of class "phone"'),
    ],
    ids=["auxiliary", "scalars", "scalars of a class"],
)
def test_nothing_is_relaxed_without_error_feedback(options, key):
    with pytest.raises(ConfigError, match=f"{re.escape(key)} = .* sends further than it means") as caught:
        check_codecs(config_of(**options))
    assert caught.value.code == "config.relax"
    assert "without that stage" in caught.value.remedy


def test_relax_goes_where_there_is_error_feedback():
    check_codecs(config_of(codec__up="relax(1.5)+sign", codec__down="relax(1.5)+sign", devices=with_codec("sign")))


def test_clients_that_start_from_versions_of_unlike_age_are_sent_what_they_missed(tmp_path):
    """Asynchronous: a slow class comes back after many commits."""
    devices = [
        {"name": "tablet", "clients": 3, "step_seconds": 0.1},
        {"name": "speaker", "clients": 2, "step_seconds": 2.0, "codec": "sign"},
    ]
    options = {"round__mode": "async", "round__buffer": 2, "codec__down": "topk(0.3)+sign", "devices": devices}
    result = run_tiny(tmp_path, rounds=12, ask=5, **options)
    assert not result.refused
    with Journal.read(result.folder) as journal:
        gaps = {e.payload["version"] - e.payload["base"] for e in journal.events(EventKind.ASKED)}
    assert len(gaps) > 2
    assert run_tiny(tmp_path / "again", rounds=12, ask=5, **options).adapter_hash == result.adapter_hash


def test_it_is_refused_before_the_model_is_touched(tmp_path):
    from fedpeft import simulate

    with pytest.raises(FedpeftError, match="without error feedback"):
        simulate(**tiny_arguments(tmp_path, codec__down="forget+sign"))


SEARCHED = (
    {"codec__up": "compeft"},
    {"devices": with_codec("forget+compeft(0.1)")},
    {"scheduler": {"name": "random", "arms": {"codec": ["int8", "compeft"]}}},
)


@pytest.mark.parametrize("options", SEARCHED, ids=str)
def test_what_is_searched_needs_examples_to_judge_by(options):
    with pytest.raises(ConfigError, match=r"leaves something to be searched, .* codec\.validation = 0") as caught:
        check_codecs(config_of(**options))
    assert caught.value.code == "config.search"
    assert "codec.validation = 0.1" in caught.value.remedy
    check_codecs(config_of(codec__validation=0.1, **options))


@pytest.mark.parametrize("key", ["codec.down", "codec.auxiliary"])
def test_what_nobody_judges_is_told_everything(key):
    options = {"codec__validation": 0.1}
    with pytest.raises(ConfigError, match=f'{key} = "compeft" leaves something to be searched') as caught:
        check_codecs(config_of(**options, **{key.replace(".", "__"): "compeft"}))
    assert caught.value.remedy
    check_codecs(config_of(**options, **{key.replace(".", "__"): "compeft(0.1,1)"}))


def test_scalars_are_not_searched():
    options = {
        "zeroth__size": 64,
        "local__optimizer": "sgd",
        "evaluation__centralised": False,
        "codec__validation": 0.1,
    }
    with pytest.raises(ConfigError, match=r'"compeft" leaves .* contradicts zeroth\.sends = "scalars"'):
        check_codecs(config_of(codec__up="compeft", **options))


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_no_more_than_half_of_a_client_s_examples_are_put_aside(share):
    with pytest.raises(ConfigError, match=r"codec\.validation"):
        config_of(codec__validation=share)


FAR = "relax(1.9)+uniform(2)+zstd"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec__up": FAR}, f'codec.up = "{FAR}" sends so much too far that what is owed grows'),
        ({"codec__up": "relax(1.9)+compeft(0.5,2)"}, "more than a thousand times what it would be"),
        ({"codec__up": "relax(1.9)+lowrank(4)+uniform(2)+zstd"}, "grows from round to round"),
        ({"codec__up": "compeft(0.5,3)"}, "grows from round to round"),
        ({"codec__down": FAR}, f'codec.down = "{FAR}" sends so much too far'),
        ({"devices": with_codec(FAR)}, f'devices.codec of class "phone" = "{FAR}" sends so much too far'),
    ],
)
def test_what_would_owe_ever_more_is_refused(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        check_codecs(config_of(**options))
    assert caught.value.code == "config.diverges"
    assert ("nearer to 1" in caught.value.remedy) == ("relax" in words + str(options))
    assert ("forget+" in caught.value.remedy) == ("codec__down" not in options)


@pytest.mark.parametrize(
    "name",
    [
        "relax(1.5)+topk(0.1)+sign",
        "relax(1.5)+topk(0.045)+sign",
        "relax(1.5)+topk(0.01)+sign",
        "compeft(0.045,3.5)",
        "lowrank(4)+uniform(4)+zstd",
        "lgreco(bits=0.05)+zstd",  # of a vector as small as the trial's no budget at all
    ],
)
def test_what_owes_less_than_if_nothing_were_sent_is_not(name):
    check_codecs(config_of(codec__up=name))


def test_without_error_feedback_nothing_grows():
    check_codecs(config_of(codec__up=f"forget+{FAR}"))
