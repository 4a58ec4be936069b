"""A small cluster of Ray on 127.0.0.1, and workers that misbehave."""

import os
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from uuid import uuid4

import pytest

from extract.errors import UserError
from extract.ray_worker import EncodingWorker

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")

CALLS = "calls.log"
TOKEN = uuid4().hex


@contextmanager
def local_cluster():
    """Two CPUs; what Ray leaves behind goes with it."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in stay_in(folder).items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        import ray  # not before, because it looks at the environment once

        # Workers do not find the folder of the tests.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=2**27,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


def stay_in(folder):
    """The environment with which Ray writes into a folder only, and listens on 127.0.0.1 only."""
    return {
        "RAY_TMPDIR": folder,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_TOKEN": TOKEN,  # without one, Ray writes one into the user's home
    }


class SlowWorker(EncodingWorker):
    """Writes down who was asked for which chunk, beside the pictures, and takes its time."""

    def encode(self, catalog, rows):
        with (catalog.folder.parent / CALLS).open("a") as file:
            file.write(f"{os.getpid()} {rows[0]}\n")
        time.sleep(0.3)
        return super().encode(catalog, rows)


class FailingWorker(SlowWorker):
    """Its encoder refuses."""

    def encode(self, catalog, rows):
        super().encode(catalog, rows)
        raise UserError("this encoder refuses")


class DyingWorker(EncodingWorker):
    """Dies whenever it is asked."""

    def encode(self, catalog, rows):
        os.kill(os.getpid(), signal.SIGKILL)


def calls(folder):
    """Process and first row of each chunk that a worker was asked for."""
    lines = (folder / CALLS).read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]
