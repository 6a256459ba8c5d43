"""Everything that this package raises on purpose.

    BackscatterError
    ├── CaptureError            a capture could not be read
    │   ├── NotACapture         the bytes are something else
    │   └── LimitExceeded       a length or an expansion is over its limit
    ├── FindingError            an alert, or a session record, could not be read
    │   └── NoSessions          a file holds no session records of any format
    ├── StoreError              the flow store answered what it must not
    │   └── Hole                an item that the catalogue promises is missing
    ├── RequestError            the person asked for what cannot be done
    ├── Gone                    an object was deleted or replaced before it was read
    └── Hopeless                an event that can never be worked off, however often it is delivered

A message says what was wrong, where (file, byte offset, field) and what the reader can do about it.
"""


class BackscatterError(Exception):
    """Anything that this package raises on purpose."""


class CaptureError(BackscatterError):
    """A capture could not be read."""

    def __init__(self, name: str, offset: int, message: str) -> None:
        super().__init__(f"{name}: byte {offset}: {message}")
        self.name = name
        self.offset = offset
        self.message = message


class NotACapture(CaptureError):
    """The bytes are not a capture of any format that we read."""


class LimitExceeded(CaptureError):
    """A length, a count or an expansion is over the limit that settings allow."""


class FindingError(BackscatterError):
    """An alert could not be read. `line` counts from 1; 0 where the input has no lines. `last` is its last one."""

    def __init__(self, name: str, line: int, message: str, last: int = 0) -> None:
        self.name = name
        self.line = line
        self.last = max(line, last)
        self.message = message
        lines = f"line {line}: " if self.last == line else f"lines {line} to {self.last}: "
        super().__init__(f"{name}: {lines if line else ''}{message}")

    @property
    def lines(self) -> int:
        """How many lines could not be read; 0 where the input has none."""
        return self.last - self.line + 1 if self.line else 0


class NoSessions(FindingError):
    """A file holds no session records of any format that we read: nothing of it was read."""


class StoreError(BackscatterError):
    """The flow store answered what it must not."""


class Hole(StoreError):
    """An item that the catalogue promises is missing: never to be read as `there were no flows`."""


class RequestError(BackscatterError):
    """The person asked for something that cannot be done, such as a filter that is no address."""


class Gone(BackscatterError):
    """An object was deleted or replaced before it was read. Nothing is lost that anybody wanted kept."""


class Hopeless(BackscatterError):
    """An event that can never be worked off, however often it is delivered. `reason` is one word, for metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
