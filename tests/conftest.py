"""What all tests share."""

import os
import signal

# Tests work on small arrays, where more threads only get in each other's way. It must be set
# before torch is imported, and it holds for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# Nothing is fetched: a test that asks a hub by mistake fails at once instead of waiting.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell has its background jobs ignore Ctrl-C, and they hand that on to the processes that tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
