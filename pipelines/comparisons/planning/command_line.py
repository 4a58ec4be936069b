"""A comparison's settings as the command that makes it again."""

import shlex
from collections.abc import Sequence
from typing import Any

from pipelines.comparisons.planning.compare_config import JudgeConfig


def command_of(config: JudgeConfig, words: Sequence[str] = ()) -> str:
    """The command that makes a comparison again, with all that is not a default.

    Args:
        config: Its settings.
        words: Further ones, such as names of runs.
    """
    told = ["mmrec-compare", *words]
    usual = type(config)().model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if value == usual[name]:
            continue
        option = name.replace("_", "-")
        if isinstance(value, dict):
            own = usual[name] or {}
            changed = {key: each for key, each in value.items() if own.get(key) != each}
            told += [f"--set={name}.{key}={_as_toml(each)}" for key, each in changed.items()]
        elif isinstance(value, bool):
            told.append(f"--{'' if value else 'no-'}{option}")
        else:
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            told += [f"--{option}", shown]
    return shlex.join(told)


def _as_toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
