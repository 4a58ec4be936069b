"""Commands in a process of their own."""

import json
import os
import subprocess
import sys

ENCODER_LIBRARIES = {"transformers", "open_clip", "timm", "sentence_transformers"}
SCRIPT = """
import json, sys
from pipelines.cli import run
code = run(sys.argv[1], sys.argv[2:])
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


def run_apart(name, *arguments, **environment):
    """Run a command in a new process; it must succeed. Gives its stdout."""
    command = [sys.executable, "-c", SCRIPT, name, *map(str, arguments)]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def libraries_imported(name, *arguments):
    """Which encoder libraries a command imports."""
    modules = json.loads(run_apart(name, *arguments).splitlines()[-1])
    assert "recommend.ranking" in modules
    return ENCODER_LIBRARIES & set(modules)
