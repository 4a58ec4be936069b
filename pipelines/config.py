"""Settings: one pydantic class says a setting's name, type, default and meaning.

From that class come the command's options, the keys of its TOML file, and the ``--set`` keys.
What is given wins in this order: options, ``--set``, the file of ``--config``, the defaults.
"""

import inspect
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from extract.errors import UserError, unknown_name
from extract.files import replacing
from pipelines.roots import AnyPath

# What NumPy's and PyTorch's generators both take, and TOML and JSON can hold.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

ConfigT = TypeVar("ConfigT", bound=BaseModel)
CommandT = TypeVar("CommandT", bound=Callable[..., Any])
CLICK_TYPES: dict[type, click.ParamType] = {
    int: click.INT,
    float: click.FLOAT,
    Path: click.Path(path_type=Path),
}


class Config(BaseModel):
    """Base of all settings: frozen; an unknown key is an error, and so is a number without end.

    A tuple may be given as one text, ``0.8,0.1,0.1``; a tuple of paths, which may hold commas, by
    repeating its option.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if not isinstance(value, str) or get_origin(_plain_type(field)) is not tuple:
            return value
        return (value,) if _is_repeated(field) else tuple(part.strip() for part in value.split(","))


def options_by_name(
    config_class: type[BaseModel], names: Sequence[str]
) -> Callable[[CommandT], CommandT]:
    """One click option for each of some fields, such as the best known ones of a table."""

    def decorate(command: CommandT) -> CommandT:
        for name in reversed(names):
            command = _option(name, config_class.model_fields[name])(command)
        return command

    return decorate


def options_of(config_class: type[BaseModel]) -> Callable[[CommandT], CommandT]:
    """One click option for each plain field of `config_class`, and ``--config`` and ``--set``.

    The command receives what was given, and only that, so that files and defaults can fill the
    rest. Fields that are themselves tables are reached with ``--set table.key=value``. Help lists
    what is required first, then the class's own fields, then those of its bases.
    """

    def decorate(command: CommandT) -> CommandT:
        for option in (
            click.option(
                "--set",
                "sets",
                multiple=True,
                metavar="KEY=VALUE",
                help=f"Override one setting, such as {_example(config_class)}; may be repeated.",
            ),
            click.option(
                "--config",
                "config_file",
                type=AnyPath(),
                help="A TOML file of settings, KEY = VALUE in each line; options win over it.",
            ),
        ):
            command = option(command)
        for name, field in reversed(_in_order_of_help(config_class)):
            if not _is_table(field):
                command = _option(name, field)(command)
        return command

    return decorate


def resolve(
    config_class: type[ConfigT],
    given: Mapping[str, Any],
    config_file: Path | None = None,
    sets: Iterable[str] = (),
) -> ConfigT:
    """The settings of a command from its file, its ``--set`` values and its options.

    Args:
        config_class: What the settings must be.
        given: Options by field name; None means not given.
        config_file: A TOML file, or None.
        sets: ``KEY=VALUE`` strings; values are read as TOML where they are TOML, else as text.

    Raises:
        UserError: A file or value that cannot be read; all wrong settings at once.
    """
    settings = merged_settings(given, config_file, sets)
    return validate(config_class, settings)


def merged_settings(
    given: Mapping[str, Any], config_file: Path | None, sets: Iterable[str]
) -> dict[str, Any]:
    """The same three sources as one dictionary, not yet validated."""
    settings = read_toml(config_file) if config_file else {}
    for assignment in sets:
        _assign(settings, assignment)
    settings.update({name: value for name, value in given.items() if value not in (None, ())})
    return settings


def validate(config_class: type[ConfigT], settings: Mapping[str, Any], table: str = "") -> ConfigT:
    """Build `config_class`, or tell everything that is wrong in one error.

    Args:
        config_class: What the settings must be.
        settings: The values.
        table: Name of the table they stand in, for messages.
    """
    try:
        return config_class.model_validate(settings)
    except ValidationError as error:
        told = [_tell(config_class, problem, table) for problem in error.errors()]
        raise UserError("; ".join(told)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        UserError: It is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no settings file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def write_toml(path: Path, config: BaseModel, heading: str) -> None:
    """Write settings so that ``--config`` reads them back; None is left out, as TOML has none."""
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    with replacing(path) as temporary:
        temporary.write_text(f"# {heading}\n{text}", encoding="utf-8")


def _assign(settings: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes KEY=VALUE, found {assignment!r}")
    *tables, name = key.strip().split(".")
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise UserError(f"--set {assignment}: {table!r} is a value, not a table")
    settings[name] = _toml_value(text)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _tell(config_class: type[BaseModel], problem: Any, table: str) -> str:
    path = [str(part) for part in problem["loc"]]
    name = ".".join([table, *path] if table else path)
    if problem["type"] == "extra_forbidden":
        owner = _table_class(config_class, path[:-1])
        return str(
            unknown_name(
                "setting",
                name,
                (
                    ".".join([*([table] if table else []), *path[:-1], key])
                    for key in owner.model_fields
                ),
            )
        )
    if problem["type"] == "missing":
        return f"the setting {name} is needed and has no default"
    return f"{name}: {problem['msg'].lower()}, found {problem['input']!r}"


def _table_class(config_class: type[BaseModel], path: Iterable[str]) -> type[BaseModel]:
    for part in path:
        inner = _plain_type(config_class.model_fields[part])
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            config_class = inner
    return config_class


def _plain_type(field: FieldInfo) -> Any:
    """The field's type without ``| None``."""
    if get_origin(field.annotation) in (Union, types.UnionType):
        inner = [arg for arg in get_args(field.annotation) if arg is not types.NoneType]
        return inner[0] if len(inner) == 1 else Any
    return field.annotation


def _is_table(field: FieldInfo) -> bool:
    plain = _plain_type(field)
    kind = get_origin(plain) or plain
    return isinstance(kind, type) and issubclass(kind, BaseModel | dict)


def _is_repeated(field: FieldInfo) -> bool:
    return get_args(_plain_type(field)) == (Path, ...)


def _in_order_of_help(config_class: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    fields = config_class.model_fields
    own_first = dict.fromkeys(
        name for each in config_class.__mro__ for name in inspect.get_annotations(each)
    )
    ordered = [(name, fields[name]) for name in own_first if name in fields]
    return sorted(ordered, key=lambda named: not named[1].is_required())


def _example(config_class: type[BaseModel]) -> str:
    """An assignment that changes nothing; of a table where there is one, as others are options."""
    fields = config_class.model_fields
    for name, field in fields.items():
        inner = _plain_type(field)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return f"{name}.{_example(inner)}"
    shown = ((name, _shown_default(field)) for name, field in _in_order_of_help(config_class))
    return next((f"{name}={default}" for name, default in shown if default), "KEY=VALUE")


def _shown_default(field: FieldInfo) -> str:
    """The default as one would write it; empty where there is none to show."""
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _option(name: str, field: FieldInfo) -> Callable[[CommandT], CommandT]:
    plain, flag = _plain_type(field), f"--{name.replace('_', '-')}"
    help_text = field.description or ""
    if field.is_required():
        help_text += "  [required]"
    elif _shown_default(field):
        help_text += f"  [default: {_shown_default(field)}]"
    if plain is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help_text)
    if _is_repeated(field):
        path = CLICK_TYPES[Path]
        return click.option(flag, name, multiple=True, default=None, type=path, help=help_text)
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    kind = click.Choice(choices) if choices else CLICK_TYPES.get(plain, click.STRING)
    return click.option(flag, name, default=None, type=kind, help=help_text)
