"""A Python that has imported the programs once and runs each command in a fork of itself.

An import of PyTorch takes longer than most commands that are tried. A fork is a process of its own, in a session of its
own, which signals reach and which ends as any other; where the start is what a test is about, or what is imported, it
starts a Python of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LISTEN = """
import atexit, json, os, runpy, signal, sys, threading
import deblur_hub.cli, huggingface_hub.hf_api, PIL.Image, train.__main__

PIL.Image.init()

def run(program, arguments, folder, settings, out, err):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs of a shell ignore
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    os.environ.update(settings)
    sys.argv, code = [program, *arguments], 0
    try:
        if os.path.exists(program):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # The end of a Python, but for taking all modules apart, which takes a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, str):
        print(json.dumps(asked in sys.modules), flush=True)
        continue
    if isinstance(asked, int):
        ended, status = os.waitpid(asked, os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if ended else None), flush=True)
        continue
    child = os.fork()
    if not child:
        run(*asked)
    print(child, flush=True)
os._exit(0)
"""


class WarmProcess:
    """What `subprocess.Popen` is: a running command."""

    def __init__(self, python: "WarmPython", request: list) -> None:
        self.kept = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self.kept.name, name) for name in ("out", "err"))
        self.python, self.arguments = python, [request[0], *request[1]]
        self.returncode, self.said = None, None
        self.pid = python.ask([*request, str(self.out), str(self.err)])

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.python.ask(self.pid)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, 9)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        deadline = time.monotonic() + timeout if timeout else float("inf")
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.arguments, timeout)
            time.sleep(0.01)
        if self.said is None:
            self.said = self.out.read_text(), self.err.read_text()
            self.kept.cleanup()
        return self.said


class WarmPython:
    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTEN], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def ask(self, question: list | int | str) -> int | bool | None:
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, program: str, *arguments: str, folder: Path, **settings: str) -> WarmProcess:
        """Begins what `python program arguments...`, or `python -m program`, does in a folder."""
        return WarmProcess(self, [os.fspath(program), [*map(str, arguments)], os.fspath(folder), settings])

    def run(
        self, program: str, *arguments: str, folder: Path, seconds: float, **settings: str
    ) -> subprocess.CompletedProcess:
        """What comes of it."""
        running = self.start(program, *arguments, folder=folder, **settings)
        try:
            said, complaint = running.communicate(timeout=seconds)
        finally:
            running.kill()
        return subprocess.CompletedProcess(running.arguments, running.returncode, said, complaint)

    def has_imported(self, module: str) -> bool:
        return self.ask(module)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
