from contextlib import contextmanager


@contextmanager
def locked(folder, doing):
    yield
