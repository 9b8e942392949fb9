"""Flower's ClientApp mods, listed in a run file: functions that surround the agent and see each message pass.

    [client]
    mods = ["message-size", "my/mods.py:logging_mod", "my_package.mods:timing_mod"]

    def logging_mod(message, context, call_next):
        reply = call_next(message, context)
        print(context.node_config, message.metadata.message_type)
        return reply

The first of the list is the outermost, as in `ClientApp(mods=[...])`. A mod sees Flower's `Message` as it travels: one
ArrayRecord `f` with one Array `f` of opaque bytes (our frame), no configuration and no metrics. So what measures, logs,
delays or refuses messages works, Flower's `message_size_mod` and `arrays_size_mod` among it. What reads model weights
out of a message cannot, and Flower's own of that sort are refused by name: clipping and noise belong on the update
itself, before it is encoded.

A message is passed through the mods where it is handled. On the `local` engine a cohort is trained a little ahead of
that, many clients at once; a mod that changes the incoming frame is obeyed, at the price of training that client again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TypeAlias

from flwr.app import Context, Message
from flwr.clientapp import mod as flowers

from fedpeft.errors import ClientFault, PluginError
from fedpeft.registry import load

App: TypeAlias = Callable[[Message, Context], Message]
Mod: TypeAlias = Callable[[Message, Context, App], Message]

_OPAQUE = (
    "it reads model weights out of the message, and here a message holds one frame of encoded bytes that it cannot read"
)
REFUSED = {"fixedclipping_mod": _OPAQUE, "adaptiveclipping_mod": _OPAQUE, "LocalDpMod": _OPAQUE}
"""Flower's mods that cannot do here what their names promise, and why."""


def load_mods(names: Sequence[str]) -> list[Mod]:
    """The mods of a run file, each made to tell its name when it fails.

    Raises:
        PluginError: there is none of that name, it is no mod, or it cannot work here.
    """
    return [_named(name, _load(name)) for name in names]


def surround(app: App, mods: Sequence[Mod]) -> App:
    """The app with mods around it, the first outermost."""
    for mod in reversed(mods):
        app = _around(mod, app)
    return app


def _around(mod: Mod, app: App) -> App:
    return lambda message, context: mod(message, context, app)


def _load(name: str) -> Mod:
    found = load("mod", name)
    for refused, reason in REFUSED.items():
        own = getattr(flowers, refused)
        if found is own or (inspect.isclass(own) and (isinstance(found, own) or _derived(found, own))):
            raise PluginError(
                f'client.mods: "{name}" cannot work: {reason}',
                code="mod.refused",
                allowed="mods that measure, log, delay or refuse messages",
                remedy="remove it; limits.max_update_norm bounds what one client can do",
            )
    if inspect.isclass(found) or not callable(found):
        raise PluginError(
            f'client.mods: "{name}" is a {"class" if inspect.isclass(found) else type(found).__name__}, not a function',
            code="mod.not-callable",
            allowed="a function of (message, context, call_next) that returns a message",
            remedy="name an object of the class, made in the same file" if inspect.isclass(found) else "name another",
        )
    try:
        inspect.signature(found).bind(None, None, None)
    except TypeError as error:
        raise PluginError(
            f'client.mods: "{name}" takes {inspect.signature(found)}',
            code="mod.not-callable",
            allowed="a function of (message, context, call_next) that returns a message",
            remedy="give it these three parameters",
        ) from error
    mod: Mod = found
    return mod


def _derived(found: object, base: type) -> bool:
    return inspect.isclass(found) and issubclass(found, base)


def _named(name: str, mod: Mod) -> Mod:
    """The mod; what it raises, and not what it surrounds, is told as its own."""

    def guarded(message: Message, context: Context, call_next: App) -> Message:
        within: list[Exception] = []

        def onwards(message: Message, context: Context) -> Message:
            try:
                return call_next(message, context)
            except Exception as error:
                within.append(error)
                raise

        try:
            reply = mod(message, context, onwards)
        except Exception as error:
            if error in within:
                raise
            raise ClientFault(
                f'the mod "{name}" raised {type(error).__name__}: {error}',
                code="mod.failed",
                remedy="correct the mod, or remove it from client.mods",
            ) from error
        if not isinstance(reply, Message):
            raise ClientFault(
                f'the mod "{name}" returned a {type(reply).__name__}',
                code="mod.failed",
                allowed="the message that call_next returned, or another",
                remedy="end the mod with: return reply",
            )
        return reply

    return guarded
