"""S3 and SQS on loopback, and what a run left there."""

from __future__ import annotations

import contextlib
import gzip
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

import boto3

__all__ = ["Server", "differences", "outputs"]


class Server:
    """S3 and SQS on loopback (moto), which keeps everything in memory; a context manager."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = folder / "moto.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5).close()
                return self
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"moto did not start: {self._log.read_text()[-500:]}")
            time.sleep(0.05)

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def client(self, service: str) -> Any:
        """A boto3 client that no fault reaches."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        """Put a folder's files into a bucket, which is made."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = f"{prefix}/{path.relative_to(folder)}"
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def objects(self, bucket: str, *, decoded: bool = False) -> dict[str, bytes]:
        """What is in a bucket, by name: encoding and content; with `decoded` the content alone."""
        s3 = self.client("s3")
        found: dict[str, bytes] = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                answer = s3.get_object(Bucket=bucket, Key=item["Key"])
                encoding, content = answer.get("ContentEncoding", ""), answer["Body"].read()
                if not decoded:
                    content = encoding.encode() + b"\n" + content
                elif encoding == "gzip":
                    content = gzip.decompress(content)
                found[item["Key"]] = content
        return found

    def drop(self, bucket: str) -> None:
        """Delete a bucket."""
        s3 = self.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
        s3.delete_bucket(Bucket=bucket)


def outputs(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Those that a run is for: not its records and intermediate data, nor provenance."""
    return {
        name: content
        for name, content in objects.items()
        if "/.cnapse/" not in name and not name.endswith("/provenance")
    }


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """What two outputs differ in, one line an object."""
    lines = [f"missing: {name}" for name in expected.keys() - found.keys()]
    lines += [f"not expected: {name}" for name in found.keys() - expected.keys()]
    both = expected.keys() & found.keys()
    lines += [f"differs: {name}" for name in both if found[name] != expected[name]]
    return sorted(lines)
