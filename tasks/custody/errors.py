"""Define all errors of the project as one tree of exceptions.

EvacuationError
├── Refused              bad input; nothing was changed
├── Tampered             sealed evidence differs from its manifest
├── TooMany              more files than can be read back
├── BadSignature         no valid signature of this data
├── EngineError          a request to the container engine failed
│   ├── EngineUnreachable      no answer, no permission, or no answer in time
│   └── ContainerGone          no such container, or it no longer runs
└── StoreError           the store did not take or give an object
    ├── TransientStoreError    a retry may help
    │   ├── BusyStoreError         the store asks to come later
    │   └── SilentStoreError       the store has answered nothing in the whole run
    ├── PermanentStoreError    a retry does not help; the message says what does
    │   └── Denied             this identity lacks a permission
    └── Conflict               the key exists with other content; never overwritten

See docs/adr/0001.
"""

from tasks.custody.visible import LINE_LIMIT, visible


class EvacuationError(Exception):
    """An error whose message says what was expected, what came, what follows, and what to do."""

    def __init__(self, expected: str, got: str, consequence: str, remedy: str) -> None:
        """Keep the four parts of the message."""
        super().__init__(expected, got, consequence, remedy)
        self.expected, self.got, self.consequence, self.remedy = expected, got, consequence, remedy

    def __str__(self) -> str:
        """Return the message as one safe line."""
        got = self.got.removesuffix(".")
        return visible(f"expected {self.expected}; got {got}. {self.consequence} {self.remedy}", LINE_LIMIT)


class Refused(EvacuationError):
    """The input was refused before anything was changed."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        """Take the expectation, the actual input, and the remedy."""
        super().__init__(expected, got, "Nothing was touched.", remedy)


class Tampered(EvacuationError):
    """Sealed evidence differs from its manifest."""


class TooMany(EvacuationError):
    """There are more files than our readers accept; nothing was written of them."""


class BadSignature(EvacuationError):
    """The signature is missing, or is not one of this data."""


class EngineError(EvacuationError):
    """A request to the container engine failed."""


class EngineUnreachable(EngineError):
    """The engine does not answer, denies access, or does not answer in time."""


class ContainerGone(EngineError):
    """The engine has no such container, or it no longer runs."""


class StoreError(EvacuationError):
    """The store did not take or give an object."""


class TransientStoreError(StoreError):
    """A retry may help."""


class BusyStoreError(TransientStoreError):
    """The store answers that it takes no such request now."""


class SilentStoreError(TransientStoreError):
    """The store has answered nothing in the whole run, and is not waited for any longer: a later run may help."""


class PermanentStoreError(StoreError):
    """A retry does not help."""


class Denied(PermanentStoreError):
    """This identity lacks a permission."""


class Conflict(StoreError):
    """A create-only key holds other content."""
