"""What loading needs in every family: optional packages, hubs out of reach, one-line errors."""

import hashlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from extract.errors import UserError
from extract.torchvision_shim import ensure_torchvision

HUB = "huggingface.co"
# Where a file lies or which version wrote it decides no vector.
VOLATILE_KEYS = {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}


def library(package: str, extra: str = "") -> Any:
    """Import an encoder library.

    Args:
        package: The name to import.
        extra: What to give pip, where it has another name.

    Raises:
        UserError: It is not installed.
    """
    ensure_torchvision()
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"this encoder needs the package {error.name}, which is not installed; "
            f"pip install {extra or error.name}"
        ) from error
    if "transformers" in sys.modules:  # its bars for reading local files only hide ours
        import_module("transformers.utils.logging").disable_progress_bar()
    return module


@contextmanager
def loading(spec: str, remedy: str) -> Iterator[None]:
    """Tell in one line what a library or a hub raises while an encoder is being loaded.

    Args:
        spec: What is being loaded.
        remedy: What the user can do about a failure.

    Raises:
        UserError: Anything was raised inside.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)  # what they log on the way is told below, once
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries, HTTP clients and unpicklers raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) <= 200 else reason[:200] + " ..."
        raise UserError(f"the encoder {spec} cannot be loaded ({reason}); {remedy}") from error
    finally:
        logging.disable(disabled)


def looks_like_path(name: str) -> bool:
    """Whether a name means a file or folder, not something on a hub."""
    return name.startswith(("/", ".", "~")) or Path(name).exists()


def require_folder(spec: str, folder: Path, file: str = "") -> None:
    """Check that there is a local folder, and that it holds `file`.

    Raises:
        UserError: The folder or the file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"the encoder {spec} names the folder {folder}, which does not exist")
    if file and not (folder / file).is_file():
        raise UserError(f"the encoder {spec} names the folder {folder}, which has no {file}")


def spare_retries() -> None:
    """Let the hub's client use its cache only, where the hub's name cannot even be resolved.

    It would otherwise try for over a minute before it says so.
    """
    if "HF_HUB_OFFLINE" in os.environ or "HF_ENDPOINT" in os.environ or getproxies():
        return
    try:
        socket.getaddrinfo(HUB, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
        if "huggingface_hub.constants" in sys.modules:  # it read the environment when imported
            sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def without_volatile(config: Any) -> Any:
    """A nested configuration without what decides no vector."""
    if isinstance(config, dict):
        return {
            key: without_volatile(value)
            for key, value in config.items()
            if key not in VOLATILE_KEYS
        }
    return config


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of a transformers tokenizer: its vocabulary, and all rules that it can tell."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        rules = json.loads(backend.to_str())
        # These two change with every call.
        rules.pop("truncation", None)
        rules.pop("padding", None)
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:32]
