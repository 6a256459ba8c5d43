"""Objects in S3: opened as streams that survive a broken connection, and read in ranges."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from backscatter.errors import Gone, Hopeless

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: What a body throws in mid-stream. botocore repeats requests, never half-read bodies.
BROKEN = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

#: How often a body may break without a single byte in between.
MOST_BREAKS = 4

#: Bytes asked of the connection at a time; 1 MiB is the fastest that was measured.
STEP = 2**20


#: Marks an identity that is an etag. Version ids are URL-ready, so none has a colon.
_ETAG = "etag:"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object as an event names it: `version` is its version id, "" where the bucket keeps none."""

    bucket: str
    key: str
    version: str = ""
    etag: str = ""

    @property
    def url(self) -> str:
        """What people call it: s3://bucket/key."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def identity(self) -> str:
        """What tells this content from another under the same key: version id, or else etag; "" for neither."""
        return self.version or (f"{_ETAG}{self.etag}" if self.etag else "")

    @classmethod
    def identified(cls, bucket: str, key: str, identity: str) -> ObjectName:
        """The object whose `identity` was kept."""
        if identity.startswith(_ETAG):
            return cls(bucket, key, etag=identity.removeprefix(_ETAG))
        return cls(bucket, key, identity)

    @property
    def request(self) -> dict[str, str]:
        """The parameters of a GetObject that answers with this content or not at all."""
        wanted = {"Bucket": self.bucket, "Key": self.key}
        if self.version:
            wanted["VersionId"] = self.version
        elif self.etag:
            wanted["IfMatch"] = self.etag
        return wanted


class ObjectStream(io.RawIOBase):
    """The bytes of an object from byte `start` on, forward only.

    Where the body breaks it is opened again at the byte that is due.

    name      as opened, with the version that was found
    size      bytes
    modified  when it was last modified, ns since 1970-01-01 UTC

    Raises Gone where the object is not there (any more), Hopeless where it may not be read.
    """

    def __init__(self, s3: Any, name: ObjectName, start: int = 0) -> None:
        super().__init__()
        self._s3 = s3
        self._body: Any = io.BytesIO()  # so that one that could not be opened can be closed
        answer = _get(s3, name, f"bytes={start}-" if start else "")
        self.name = ObjectName(
            name.bucket, name.key, name.version or _version(answer), name.etag or answer["ETag"].strip('"')
        )
        self.size: int = start + answer["ContentLength"]
        self.modified = int(answer["LastModified"].timestamp()) * 10**9
        self._body = answer["Body"]
        self._at = start

    def readable(self) -> bool:
        """True: it is for reading."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the buffer with the next bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        breaks = 0
        while True:
            try:
                data = self._body.read(min(len(view), STEP))
            except BROKEN:
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise
                self._reopen()
                continue
            view[: len(data)] = data
            self._at += len(data)
            return len(data)

    def close(self) -> None:
        """End the connection, whatever was not read."""
        if not self.closed:
            self._body.close()
        super().close()

    def _reopen(self) -> None:
        self._body.close()
        # The very end has no range to ask for: the break came after the last byte.
        at_end = self._at >= self.size
        self._body = io.BytesIO() if at_end else _get(self._s3, self.name, f"bytes={self._at}-")["Body"]


def open_object(s3: Any, name: ObjectName, start: int = 0) -> tuple[ObjectStream, io.BufferedReader]:
    """The object's stream, and the same with whole reads: `read(n)` gives n bytes unless the object ends."""
    stream = ObjectStream(s3, name, start)
    return stream, io.BufferedReader(stream, STEP)


def read_range(s3: Any, name: ObjectName, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`; fewer where the object ends. Raises as ObjectStream does."""
    data = bytearray()
    breaks = 0
    while len(data) < length:
        try:
            answer = _get(s3, name, f"bytes={offset + len(data)}-{offset + length - 1}")
            for piece in answer["Body"].iter_chunks(STEP):
                data += piece
            break
        except _PastTheEnd:
            break
        except BROKEN:
            breaks += 1
            if breaks > MOST_BREAKS:
                raise
    return bytes(data)


def check_size(stream: ObjectStream, most: int) -> None:
    """Raises Hopeless where the object has more than `most` bytes."""
    if stream.size > most:
        raise Hopeless("too_big", f"{stream.name.url} has {stream.size} bytes, the limit is {most}")


class _PastTheEnd(Exception):
    """The range begins behind the last byte. It never leaves this module."""


def _get(s3: Any, name: ObjectName, wanted: str = "") -> Any:
    try:
        return s3.get_object(**name.request, **({"Range": wanted} if wanted else {}))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error.response["Error"]["Code"]
        if code == "InvalidObjectState":
            raise Hopeless("archived", f"{name.url} is in an archive class; restore it and upload it again") from error
        if status in (404, 405):  # 405: the version is a delete marker
            raise Gone(f"{name.url} is not there any more") from error
        if status == 412:
            raise Gone(f"{name.url} was uploaded again; that upload has its own event") from error
        if status == 403:
            raise Hopeless(
                "forbidden", f"{name.url}: reading is denied ({code}); see the bucket's and key's policies"
            ) from error
        if status == 416:
            raise _PastTheEnd from error
        raise


def _version(answer: Any) -> str:
    version = answer.get("VersionId") or ""
    return "" if version == "null" else version
