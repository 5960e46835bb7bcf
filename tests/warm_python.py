"""A Python that has imported the programs once and runs each command in a fork of itself.

An import of PyTorch takes longer than most commands that are tried. Where the process itself is what a test is about,
its start, its signals, or what it imports, it starts one of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LISTEN = """
import json, os, runpy, sys
import deblur_hub.cli, huggingface_hub, train.__main__

for line in sys.stdin:
    program, arguments, folder, settings, out, err = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            for stream, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
            os.chdir(folder)
            os.environ.update(settings)
            sys.argv = [program, *arguments]
            try:
                if os.path.exists(program):
                    runpy.run_path(program, run_name="__main__")
                else:
                    runpy.run_module(program, run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as leaving:
                code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush(), sys.stderr.flush()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class WarmPython:
    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTEN], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def run(
        self, program: str, *arguments: str, folder: Path, seconds: float, **settings: str
    ) -> subprocess.CompletedProcess:
        """What `python program arguments...`, or `python -m program`, comes to in a folder."""
        with tempfile.TemporaryDirectory() as top:
            out, err = Path(top, "out"), Path(top, "err")
            watchdog = threading.Timer(seconds, self.process.kill)
            watchdog.start()
            try:
                request = [program, arguments, os.fspath(folder), settings, str(out), str(err)]
                print(json.dumps(request), file=self.process.stdin, flush=True)
                code = self.process.stdout.readline()
            finally:
                watchdog.cancel()
            assert code, "the command took too long"
            return subprocess.CompletedProcess([program, *arguments], int(code), out.read_text(), err.read_text())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
