"""The marks that a connection speaks in: roles, states, and the two answers that are no events.

Programs compare them with ``is`` and also dispatch on ``type(event)``, so each mark has to be its own type:
``type(NEED_DATA) is NEED_DATA``. That takes a metaclass whose classes are then made instances of themselves.
"""

from __future__ import annotations

from typing import Any


class Sentinel(type):
    """The kind of every mark: a class that is its own instance, and prints as its bare name."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        # Not super(): `cls` is a subclass of Sentinel too, which misleads it.
        type.__init__(cls, name, bases, namespace)
        itself: Any = cls
        itself.__class__ = cls  # the step that makes `type(mark) is mark` true

    def __repr__(cls) -> str:
        return cls.__name__

    # Pickles and copies as a reference to the module's name, like any class; two copies of a mark cannot come
    # about.


class CLIENT(Sentinel, metaclass=Sentinel):
    """The role that sends requests."""


class SERVER(Sentinel, metaclass=Sentinel):
    """The role that sends responses."""


class IDLE(Sentinel, metaclass=Sentinel):
    """No message begun (either role)."""


class SEND_RESPONSE(Sentinel, metaclass=Sentinel):
    """A request has begun, and no final response yet (server)."""


class SEND_BODY(Sentinel, metaclass=Sentinel):
    """The head is out, the body may follow (either role)."""


class DONE(Sentinel, metaclass=Sentinel):
    """The message is complete and the connection may live on (either role)."""


class MUST_CLOSE(Sentinel, metaclass=Sentinel):
    """The message is complete, and only a close may follow (either role)."""


class CLOSED(Sentinel, metaclass=Sentinel):
    """This side has ended its half of the connection (either role)."""


class ERROR(Sentinel, metaclass=Sentinel):
    """This side broke the protocol or failed to send; for good (either role)."""


class MIGHT_SWITCH_PROTOCOL(Sentinel, metaclass=Sentinel):
    """The request is complete, and proposes to leave HTTP: the answer decides (client)."""


class SWITCHED_PROTOCOL(Sentinel, metaclass=Sentinel):
    """HTTP is over on this connection, what follows is another protocol (either role)."""


class NEED_DATA(Sentinel, metaclass=Sentinel):
    """The answer "nothing more to tell until more bytes came"."""


class PAUSED(Sentinel, metaclass=Sentinel):
    """The answer "nothing more to tell until you did something": pipelining, or a switch of protocols."""
