"""Everything that can go wrong, as one tree.

    DgiqaError
    ├── ImageError               one picture's fault: it becomes a failed row, the run goes on
    │   ├── ImageNotFound        no such file, or a pattern that matches nothing
    │   ├── ImageUnreadable      permissions, truncated, empty, damaged
    │   ├── ImageUnsupported     not a picture we decode
    │   │   └── ImageNeedsExtra  one whose extra is missing
    │   ├── ImageTooLarge        more megapixels than the limit
    │   ├── ImageTooSmall        nothing to look at
    │   └── ReferenceMismatch    a picture and its original that don't belong together
    └── RunError                 the run's fault: it stops
        ├── CardError            a model card that breaks the schema
        ├── ModelNotFound        no card of that name
        ├── WeightsError         weights that are missing, damaged, or don't fit the network
        │   └── FetchError       a download that did not succeed
        ├── RuntimeMissing       the runtime, or an extra it needs, is not installed
        └── UsageError           arguments that make no sense together

Every error says the thing, the number and the way out: ``str(error)`` is the message, then the hint.
"""

from __future__ import annotations

from typing import ClassVar


class DgiqaError(Exception):
    """Base of the tree. ``message`` says what is wrong, ``hint`` what to do about it (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments don't pickle by themselves; results cross process borders.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[DgiqaError], message: str, hint: str) -> DgiqaError:
    return kind(message, hint=hint)


class ImageError(DgiqaError):
    """One picture's fault. A run records it as a :class:`dgiqa.Failure` and goes on.

    ``lasting``: whether it stays so until the picture changes, or another limit or installation would mend it.
    """

    lasting: ClassVar[bool] = True


class ImageNotFound(ImageError):
    """There is no such file."""


class ImageUnreadable(ImageError):
    """The file is there but its bytes can't be had or don't decode."""


class ImageUnsupported(ImageError):
    """The bytes are not a picture format that is decoded here."""


class ImageNeedsExtra(ImageUnsupported):
    """The picture format is decoded by an extra that is missing."""

    lasting = False


class ImageTooLarge(ImageError):
    """The picture has more megapixels than the limit."""

    lasting = False


class ImageTooSmall(ImageError):
    """The picture has no area, or less than the recipe needs."""


class ReferenceMismatch(ImageError):
    """A picture and its pristine original have different sizes, or there is no original."""


class RunError(DgiqaError):
    """The run's fault. It stops."""


class CardError(RunError):
    """A model card breaks the schema."""


class ModelNotFound(RunError):
    """No card has that name."""


class WeightsError(RunError):
    """Weights are missing, damaged, or don't fit the network."""


class FetchError(WeightsError):
    """A download did not succeed."""


class RuntimeMissing(RunError):
    """A runtime, or an extra that it needs, is not installed."""


class UsageError(RunError):
    """Arguments make no sense, alone or together."""
