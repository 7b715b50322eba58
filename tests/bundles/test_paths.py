"""Every name of this package that a configuration uses is found in a program that has imported nothing else of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.bundles.runs import ROOT

# Each path is looked up in a process of its own: a module that another path has imported would hide a missing name.
PROGRAM = """
import json, os, sys, torch, monai.bundle, monai_zsad
for path in json.loads(sys.argv[1]):
    if os.fork() == 0:
        found = monai_zsad
        try:
            for name in path.split(".")[1:]:
                found = getattr(found, name)
        except AttributeError as error:
            print(path, error, flush=True)
        os._exit(0)
    os.wait()
"""


def test_names_in_expressions_are_found() -> None:
    texts = [file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("*/configs/*.yaml"))]
    code = [line.split(" # ")[0] for text in texts for line in text.splitlines() if not line.lstrip().startswith("#")]
    expressions = [line for line in code if "$" in line]
    paths = sorted(set(re.findall(r"(?<![\w.'])monai_zsad(?:\.\w+)+", "\n".join(expressions))))
    assert len(paths) > 10
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(paths)], capture_output=True, text=True, check=True
    )
    assert not done.stdout.strip(), done.stdout
