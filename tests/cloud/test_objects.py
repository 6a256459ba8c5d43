"""Objects are read whole through connections that break, and answers that mean "never" are told from "not now"."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from backscatter.cloud.objects import MOST_BREAKS, ObjectName, check_size, open_object, read_range
from backscatter.errors import Gone, Hopeless

CONTENT = bytes(range(256)) * 20_000  # 5 MB


class CutShort:
    """An S3 on the loopback interface that hangs up after so many bytes of each body, and writes down what was asked."""

    def __init__(self, content):
        self.content = content
        self.cut = len(content)
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(dict(self.headers))
                start, end = 0, len(outer.content) - 1
                if wanted := self.headers["Range"]:
                    first, _, last = wanted.removeprefix("bytes=").partition("-")
                    start, end = int(first), min(int(last or end), end)
                body = outer.content[start : end + 1]
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"abc"')
                self.send_header("Last-Modified", "Tue, 20 Mar 2007 18:04:19 GMT")
                self.end_headers()
                self.wfile.write(body[: outer.cut])
                self.close_connection = True

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._server.server_port}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def s3():
    server = CutShort(CONTENT)
    yield server
    server.close()


@pytest.fixture
def bucket():
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="captures")
        yield client


def test_a_body_that_breaks_is_opened_again_where_it_broke(s3):
    s3.cut = 1_500_000
    stream, reader = open_object(s3.client, ObjectName("captures", "a.pcap"))
    with reader:
        assert reader.read() == CONTENT
    assert stream.size == len(CONTENT)
    assert stream.modified == int(datetime(2007, 3, 20, 18, 4, 19, tzinfo=UTC).timestamp()) * 10**9
    assert len(s3.asked) == 4
    # The content must not change in between: later requests name the etag of the first answer.
    assert [asked.get("If-Match") for asked in s3.asked] == [None, "abc", "abc", "abc"]


def test_a_body_that_never_gets_on_is_given_up(s3):
    s3.cut = 0
    _, reader = open_object(s3.client, ObjectName("captures", "a.pcap"))
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        reader.read()
    assert len(s3.asked) == 1 + MOST_BREAKS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 100_000), st.integers(30_000, 200_000))
def test_a_range_is_read_whole_wherever_it_lies_and_however_the_connection_breaks(offset, length, cut):
    server = CutShort(CONTENT)
    try:
        server.cut = cut
        got = read_range(server.client, ObjectName("captures", "a.pcap"), offset, length)
        assert got == CONTENT[offset : offset + length]
    finally:
        server.close()


def test_a_range_behind_the_end_is_empty(bucket):
    bucket.put_object(Bucket="captures", Key="a.pcap", Body=b"12345")
    name = ObjectName("captures", "a.pcap")
    assert read_range(bucket, name, 3, 10) == b"45"
    assert read_range(bucket, name, 5, 10) == b""
    assert read_range(bucket, name, 0, 0) == b""


def test_the_version_that_an_event_names_is_read_and_no_later_one(bucket):
    bucket.put_bucket_versioning(Bucket="captures", VersioningConfiguration={"Status": "Enabled"})
    first = bucket.put_object(Bucket="captures", Key="a.pcap", Body=b"first")["VersionId"]
    bucket.put_object(Bucket="captures", Key="a.pcap", Body=b"second")
    assert read_range(bucket, ObjectName("captures", "a.pcap", first), 0, 100) == b"first"
    stream, reader = open_object(bucket, ObjectName("captures", "a.pcap"))
    with reader:
        assert reader.read() == b"second"
    assert stream.name.version not in ("", first)


def test_an_object_that_was_deleted_or_replaced_is_gone(bucket):
    etag = bucket.put_object(Bucket="captures", Key="a.pcap", Body=b"first")["ETag"].strip('"')
    bucket.put_object(Bucket="captures", Key="a.pcap", Body=b"second")
    with pytest.raises(Gone, match=r"s3://captures/a\.pcap was uploaded again"):
        open_object(bucket, ObjectName("captures", "a.pcap", etag=etag))
    bucket.delete_object(Bucket="captures", Key="a.pcap")
    with pytest.raises(Gone, match="not there any more"):
        open_object(bucket, ObjectName("captures", "a.pcap"))


def test_an_object_over_the_limit_is_hopeless(bucket):
    bucket.put_object(Bucket="captures", Key="a.json", Body=b"12345")
    stream, reader = open_object(bucket, ObjectName("captures", "a.json"))
    with reader:
        check_size(stream, 5)
        with pytest.raises(Hopeless, match=r"s3://captures/a\.json has 5 bytes, the limit is 4") as told:
            check_size(stream, 4)
    assert told.value.reason == "too_big"


class Refusing:
    """An S3 that answers every request with one error."""

    def __init__(self, status, code):
        self.answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def get_object(self, **_):
        raise ClientError(self.answer, "GetObject")


@pytest.mark.parametrize(
    ("status", "code", "reason"), [(403, "AccessDenied", "forbidden"), (403, "InvalidObjectState", "archived")]
)
def test_what_may_never_be_read_is_hopeless(status, code, reason):
    with pytest.raises(Hopeless) as told:
        open_object(Refusing(status, code), ObjectName("captures", "a.pcap"))
    assert told.value.reason == reason


def test_trouble_of_s3_itself_is_left_to_another_try():
    with pytest.raises(ClientError):
        open_object(Refusing(503, "SlowDown"), ObjectName("captures", "a.pcap"))
