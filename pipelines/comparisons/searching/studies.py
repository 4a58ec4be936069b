"""The trials of a search on disk: a study of optuna in a SQLite file that many searches share.

A study is a function of what it is made from: its next trial depends on the seed and on the
finished trials alone. So a search that was killed goes on as if it had never stopped; the trial
that it was killed in is marked as failed, and done again, unless that ends all processes.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from extract.errors import UserError
from extract.files import digest, is_remote

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

# Seconds that a process waits while another one writes.
PATIENCE = 120.0
# A trial in which so many processes were killed counts as ended by an error.
LIVES = 3
# What a trial is marked with whose training ended with an error, to the error.
ERROR = "error"


def load_optuna() -> ModuleType:
    """The library, which only a search needs.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            'a search needs the package optuna; install it with: pip install "mmrec[search]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextmanager
def opened(storage: Path, name: str, startup: int, warmup: int) -> Iterator["Study"]:
    """A study, made if it is not there yet, in which no trial is running.

    Args:
        storage: The SQLite file; made if absent.
        name: Of the study.
        startup: Complete trials before any is pruned.
        warmup: Epochs of a trial before it may be pruned.

    Raises:
        UserError: The file is of something else or lies in an object store, or another process is
            busy with the same study.
    """
    optuna = load_optuna()
    if is_remote(storage):
        raise UserError(f"a search keeps its trials in SQLite, which needs a disk; found {storage}")
    storage.parent.mkdir(parents=True, exist_ok=True)
    with _alone(storage, f".{digest([name])}", f"doing the same search in {storage}", 0.3):
        with _alone(storage, "", f"making {storage}", PATIENCE):
            database = _database(storage)
        try:
            yield _study(database, name, optuna.pruners.MedianPruner(startup, warmup))
        finally:
            database.remove_session()
            database.engine.dispose()


def _study(database: "RDBStorage", name: str, pruner: "BasePruner") -> "Study":
    """The study; trials in which a process was killed are marked as failed."""
    optuna = load_optuna()
    study: Study = optuna.create_study(
        storage=database,
        study_name=name,
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        if _deaths(study, trial) + 1 >= LIVES:
            own = optuna.trial.Trial(study, trial._trial_id)
            own.set_user_attr(ERROR, f"its process was ended {LIVES} times, and nobody knows why")
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _deaths(study: "Study", trial: "FrozenTrial") -> int:
    """In how many trials with the same settings a process was killed before."""
    killed = [
        other
        for other in study.get_trials(deepcopy=False)
        if other.state.name == "FAIL" and ERROR not in other.user_attrs
    ]
    return sum(other.params == trial.params for other in killed)


def finished(study: "Study") -> list["FrozenTrial"]:
    """The trials that count: complete, pruned, or ended by an error; not those that were killed."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or ERROR in trial.user_attrs
    ]


def told_to(study: "Study", trial: "Trial") -> Callable[[int, float], None]:
    """What a running trial tells its validations to, by epoch; it ends a trial without hope.

    That is one whose best so far is below the median of the complete trials at the same epoch.
    Those do not change meanwhile, so the file is not read again for each epoch.

    Raises:
        optuna.TrialPruned: By what is given back.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    complete = optuna.create_study(direction=study.direction)
    complete.add_trials(study.get_trials(deepcopy=False, states=(states.COMPLETE,)))
    so_far: dict[int, float] = {}

    def tell(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        so_far[epoch] = value
        running = optuna.trial.create_trial(state=states.RUNNING, intermediate_values=so_far)
        if study.pruner.prune(complete, running):
            raise optuna.TrialPruned

    return tell


def seed_sampler(study: "Study", seed: int, startup: int) -> None:
    """Have the next trial depend on the seed and on the finished trials, and on nothing else.

    Args:
        study: Whose trial.
        seed: Of the search.
        startup: Trials that are drawn at random before the others are learned from.
    """
    own = np.random.SeedSequence([seed, len(finished(study))]).generate_state(1)[0]
    study.sampler = load_optuna().samplers.TPESampler(
        n_startup_trials=startup, multivariate=False, constant_liar=False, seed=int(own)
    )


def _database(storage: Path) -> "RDBStorage":
    """The file, where no other process makes its tables at the moment."""
    optuna = load_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(storage, timeout=PATIENCE, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")  # who reads does not keep others from writing
        # After a power failure the last trials may be missing, but the file is not torn.
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    try:
        return optuna.storages.RDBStorage(
            f"sqlite:///{storage}", engine_kwargs={"creator": connect}
        )
    # RuntimeError: of a version of optuna with other tables.
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise UserError(
            f"{storage} cannot be used as the SQLite file of a search ({error}); move it away, and "
            "its trials are done again"
        ) from error


@contextmanager
def _alone(storage: Path, part: str, doing: str, seconds: float) -> Iterator[None]:
    """Keep other processes from a part of the file, or wait for seconds and be refused."""
    lock_file = storage.with_name(f".{storage.name}{part}.lock")
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=seconds, poll_interval=0.02)
    except Timeout as error:
        raise UserError(f"another process is {doing}; wait until it ends") from error
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held, as in `extract.locking`
        lock.release()
