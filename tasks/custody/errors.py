"""Define what can go wrong as one tree of exceptions.

EvacuationError
├── Refused              bad input; nothing has been touched
├── Tampered             sealed evidence is no longer what its manifest says
├── TooMany              more files than could be read back
├── BadSignature         a signature is not one of this data
├── EngineError          the container engine did not tell or do what it was asked
│   ├── EngineUnreachable      nobody answers there, may answer us, or answers in time
│   └── ContainerGone          it knows no such container, or nothing of it runs any more
└── StoreError           the store did not take or give an object
    ├── TransientStoreError    trying again may help
    ├── PermanentStoreError    trying again will not help; the message says what will
    │   └── Denied             this identity may not do it
    └── Conflict               the key exists with other content; it is never overwritten
"""

from tasks.custody.visible import LINE_LIMIT, visible


class EvacuationError(Exception):
    """An error that says what was expected, what came, what follows, and what to do."""

    def __init__(self, expected: str, got: str, consequence: str, remedy: str) -> None:
        """Keep the four parts; the message is made of them."""
        super().__init__(expected, got, consequence, remedy)
        self.expected, self.got, self.consequence, self.remedy = expected, got, consequence, remedy

    def __str__(self) -> str:
        """One line that a tired person can act on, whatever it quotes."""
        return visible(f"expected {self.expected}; got {self.got}. {self.consequence} {self.remedy}", LINE_LIMIT)


class Refused(EvacuationError):
    """The input was refused before anything was touched."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        """Say what to give instead."""
        super().__init__(expected, got, "Nothing was touched.", remedy)


class Tampered(EvacuationError):
    """Sealed evidence differs from its manifest."""


class TooMany(EvacuationError):
    """More files than any reader of ours would read back: nothing is written of them."""


class BadSignature(EvacuationError):
    """A signature is not one of this data, or is none at all."""


class EngineError(EvacuationError):
    """The container engine did not tell or do what it was asked."""


class EngineUnreachable(EngineError):
    """Nobody answers at the engine's address, may answer us, or answers in time."""


class ContainerGone(EngineError):
    """The engine knows no such container, or nothing of it runs any more."""


class StoreError(EvacuationError):
    """The store did not take or give an object."""


class TransientStoreError(StoreError):
    """Trying again may help."""


class PermanentStoreError(StoreError):
    """Trying again will not help."""


class Denied(PermanentStoreError):
    """This identity may not do it."""


class Conflict(StoreError):
    """A create-only key holds other content."""
