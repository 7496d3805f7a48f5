"""An object store of our own on loopback: moto's server, and what puts objects into it."""

import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def started() -> Iterator[str]:
    """The endpoint of a server."""
    server_module = pytest.importorskip(
        "moto.server", reason="moto[server], a store of objects, isn't installed"
    )
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def environment(endpoint: str) -> dict[str, str]:
    """What says where the store is, and who asks."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


class Bucket:
    """A bucket of nobody else's."""

    def __init__(self) -> None:
        import boto3

        self.client: Any = boto3.client("s3")
        self.name = f"b{uuid.uuid4().hex[:20]}"
        self.client.create_bucket(Bucket=self.name)

    def put(self, objects: Mapping[str, bytes | str]) -> None:
        for key, body in objects.items():
            packed = body.encode() if isinstance(body, str) else body
            self.client.put_object(Bucket=self.name, Key=key, Body=packed)

    def upload(self, folder: Path, prefix: str = "") -> str:
        """All files of a folder; the URL of the prefix."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put({f"{prefix}/{path.relative_to(folder).as_posix()}".lstrip("/"): path.read_bytes()})
        return self.url(prefix)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, prefix: str = "") -> str:
        return f"s3://{self.name}/{prefix}"
