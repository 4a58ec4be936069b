"""A real server that speaks S3, in a process of its own on 127.0.0.1."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

BUCKET = "shop-bucket"
SECONDS_TO_START = 60
# What the libraries ask the environment; the tests' own machine must not matter.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def s3_server(*, checks_credentials=False):
    """A server with an empty bucket `BUCKET`; gives its URL.

    Args:
        checks_credentials: Whether it refuses keys that it does not know, which are all.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | CREDENTIALS)
    try:
        _wait_for(port, server)
        _put(f"{url}/{BUCKET}")
        if checks_credentials:
            _put(f"{url}/moto-api/reset-auth", b"0", method="POST")
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(port, server):
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the S3 server did not start, exit code {server.poll()}")


def _put(url, data=b"", method="PUT"):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    # Without a type of its own the data would be taken for a form.
    headers = {"Content-Type": "application/octet-stream"}
    direct.open(urllib.request.Request(url, data, headers, method=method), timeout=10).close()
