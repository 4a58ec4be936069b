"""Who writes a folder."""

import json
import os
import socket
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from extract.errors import BusyError
from extract.files import is_running


@dataclass(frozen=True)
class Holder:
    """A process that writes a folder.

    Attributes:
        doing: What it does to the folder.
        host: The machine's name.
        space: The one boot and container of the machine in which process numbers mean something.
        process: Its number.
        started: Since when it writes, ISO 8601 in UTC.
        token: Tells it from every other holder.
        renewed: How often it said that it goes on.
    """

    doing: str
    host: str = field(default_factory=socket.gethostname)
    space: str = field(default_factory=lambda: _process_space())
    process: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    token: str = field(default_factory=lambda: uuid4().hex)
    renewed: int = 0

    @classmethod
    def parse(cls, text: str | bytes) -> "Holder | None":
        """What `dump` gave; None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def dump(self) -> str:
        """JSON of all fields."""
        return json.dumps(asdict(self))

    @property
    def is_dead(self) -> bool:
        """Whether it has surely ended; of another machine's processes nothing is known."""
        here = (self.host, self.space) == (socket.gethostname(), _process_space())
        return here and not is_running(self.process)

    def __str__(self) -> str:
        started = datetime.fromisoformat(self.started).astimezone()
        today = started.date() == datetime.now().astimezone().date()
        since = started.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
        return f"{self.process} on {self.host} since {since}"


def refusal(folder: Path, holder: Holder | None) -> BusyError:
    """The error for a folder that another process is writing."""
    who = f"another process ({holder})" if holder else "another process"
    doing = holder.doing if holder else "writing"
    return BusyError(f"{who} is {doing} {folder}; wait until it has ended, or end it")


def _process_space() -> str:
    """The boot and the container of this machine; containers elsewhere may have its name, too."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return ""
