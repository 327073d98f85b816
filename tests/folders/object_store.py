"""A real S3 server in a process of its own, for as long as tests run: moto's."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
LACKING = [package for package in ("s3fs", "moto", "flask") if find_spec(package) is None]


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Yield the environment in which s3:// is an S3 of this machine's own, with the bucket "bucket"."""
    if LACKING:
        pytest.skip(f"no {', '.join(LACKING)}")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=30).close()
            forget_others()
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "hunter2-of-somebody",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_MAX_ATTEMPTS": "1",
            }
        finally:
            server.kill()
            forget_others()


def forget_others() -> None:
    """Let s3:// be what the environment says by now: s3fs goes on with whatever server it was first connected to."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def objects(server: dict[str, str], prefix: str = "") -> dict[str, int]:
    """The keys in the bucket that begin with ``prefix``, and their sizes."""
    import boto3

    listed = boto3.client(
        "s3",
        endpoint_url=server["AWS_ENDPOINT_URL"],
        aws_access_key_id=server["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    ).list_objects_v2(Bucket="bucket", Prefix=prefix)
    return {entry["Key"]: entry["Size"] for entry in listed.get("Contents", [])}
