"""Pythons in which the real client plays scenes against a hub.

The client reads its settings when it is imported, so it runs in a Python of its own, one for each setting. Whoever
sleeps there, between two attempts, does so for two milliseconds; the rest counts among the seconds of a step.
"""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from tests.conftest import TINY
from tests.hub_server import TOKEN

ROOT = Path(__file__).parents[1]
SCENE_SECONDS = 240

PLAYER = f"""
import json, sys, time, torch
from deblur_hub import DeblurGenerator, GeneratorConfig, ModelError
from tests.conftest import awake

sleep, skipped = time.sleep, 0.0

def doze(seconds):
    global skipped
    skipped += max(0, seconds - 0.002)
    sleep(min(seconds, 0.002))

time.sleep = doze

def played(scene):
    steps = []

    def step(function, *arguments, **options):
        started = time.monotonic() + skipped
        try:
            result = function(*arguments, **options)
        except ModelError as error:
            result = str(error)
        if isinstance(result, DeblurGenerator):
            result = result.network.stem.bias.tolist()
        steps.append([result, time.monotonic() + skipped - started])

    generator = DeblurGenerator(GeneratorConfig("compact", {TINY!r}, "tiny"))
    awake(generator.network)
    exec(scene, globals() | {{"step": step, "generator": generator, "load": DeblurGenerator.from_pretrained}})
    return steps

for line in sys.stdin:
    print(json.dumps(played(json.loads(line))), flush=True)
"""

Step = tuple[object, float]  # what a step came to (a sentence, an address, a loaded model's biases) and its seconds


class Client:
    """A Python in which scenes are played, one after the other."""

    def __init__(self, home: Path, endpoint: str, **settings: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAYER],
            cwd=home,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(home, endpoint) | settings,
        )

    @staticmethod
    def environment(home: Path, endpoint: str) -> dict[str, str]:
        settings = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "HF_HOME": str(home),
            "HF_ENDPOINT": endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | settings

    def play(self, scene: str) -> list[Step]:
        watchdog = threading.Timer(SCENE_SECONDS, self.process.kill)
        watchdog.start()
        try:
            print(json.dumps(textwrap.dedent(scene)), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        assert answer, "the client died of the scene, or took too long; its words are on stderr"
        return [tuple(step) for step in json.loads(answer)]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
