"""Training as real processes: through the launchers, killed, interrupted, and two that agree."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from PIL import Image
from safetensors.torch import load_file

from deblur_hub import DeblurGenerator
from tests.train.tiny_runs import (
    EVEN,
    HELD_OUT,
    PATIENCE,
    ROOT,
    arguments,
    environment,
    last_of,
    photograph,
    same_state,
    save,
    spawn,
    tensors_of,
)
from train.checkpoint import load_checkpoint
from train.validation import LABEL

pytestmark = pytest.mark.slow

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENDLESS = 100_000  # steps of a run that is always stopped before


def test_accelerate_launch_trains_measures_and_saves_a_model(pictures, tmp_path):
    launcher = shutil.which("accelerate", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    output = tmp_path / "run"
    done = subprocess.run(
        [
            launcher,
            "launch",
            "train/",
            *arguments(
                "compact", "validation.every=7", data=pictures, output=output, cache=tmp_path / "cache", steps=21
            ),
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert f"saved {output}/model after 21 steps" in done.stdout
    assert "data: 5 pairs, 9 high-speed frames, 3 sharp photographs; held out: 3 pairs" in done.stdout

    generator = DeblurGenerator.from_pretrained(output / "model", device="cpu")
    assert generator.deblur(Image.fromarray(photograph(1))).size == (72, 64)
    card = (output / "model" / "README.md").read_text()
    assert "| picture | blurry PSNR | restored PSNR | gain | blurry SSIM | restored SSIM |" in card
    assert card.count("| scenes/held/") == HELD_OUT
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "validation/psnr" in line]
    assert [line["step"] for line in measured] == [7, 14, 21]
    scores = ("psnr", "ssim", "l1")
    wanted = {"step", *(f"validation/{key}" for score in scores for key in (score, f"blurred_{score}"))}
    assert all(set(line) == wanted for line in measured)
    best = max(measured, key=lambda line: line["validation/psnr"])
    assert f"| **mean** | {best['validation/blurred_psnr']:.2f} dB | {best['validation/psnr']:.2f} dB" in card
    assert [line["step"] for line in lines if "loss/generator" in line] == [1, 20, 21]
    sheet = np.asarray(Image.open(output / "samples" / "step-0000021.png"))
    assert sheet.shape == (HELD_OUT * (LABEL + 64), 3 * 72, 3)
    first, held = sheet[LABEL : LABEL + 64], pictures / "scenes" / "held"
    assert np.array_equal(first[:, :72], np.asarray(Image.open(held / "blur" / "000.png")))
    assert np.array_equal(first[:, 144:], np.asarray(Image.open(held / "sharp" / "000.png")))
    assert next((output / "tensorboard").glob("events.out.tfevents.*")).stat().st_size > 100
    assert json.loads((output / "recipe.json").read_text())["network"]["widths"] == [8, 8]


@pytest.fixture
def begin(warm, pictures, tmp_path):
    """Starts a run in its own process, as a user does without a launcher, and waits until its first step is logged."""

    def begun(*changes, output):
        run = warm.start(
            "train/",
            *arguments(
                "compact",
                *EVEN,
                "data.workers=2",
                "validation.every=50",
                f"schedule.steps={ENDLESS}",
                *changes,
                data=pictures,
                output=output,
                cache=tmp_path / "cache",
                steps=0,
            ),
            folder=ROOT,
        )
        wait_for(lambda: started(output, checkpoint="checkpoint_every=1" in changes), run)
        return run

    return begun


def started(output, *, checkpoint=True):
    """Whether the first checkpoint is there, or else the first line of the log."""
    if checkpoint:
        return (output / "checkpoints" / "last.pt").exists()
    return (output / "metrics.jsonl").exists() and '"step": 1,' in (output / "metrics.jsonl").read_text()


def wait_for(there, *runs):
    deadline = time.monotonic() + PATIENCE
    while not there():
        for run in runs:
            assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.005)


def end(run, sign=None, *, whole_group=False):
    """(exit code, stderr) of a run, after a signal."""
    if sign is not None:
        (os.killpg if whole_group else os.kill)(run.pid, sign)
    try:
        _, words = run.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    return run.returncode, words


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(begin, start, tmp_path):
    run = begin("checkpoint_every=1", output=tmp_path / "killed")
    assert end(run, signal.SIGKILL)[0] == -signal.SIGKILL
    step = last_of(tmp_path / "killed")["progress"]["step"]
    assert 1 <= step < ENDLESS
    changes = (*EVEN, "checkpoint_every=1000", "validation.every=50", f"schedule.steps={step + 5}")
    assert start("compact", *changes, output=tmp_path / "killed", steps=0, options=["--resume"])[0] == 0
    assert start("compact", *changes, output=tmp_path / "whole", steps=0)[0] == 0
    killed, whole = (
        tensors_of(load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")) for name in ("killed", "whole")
    )
    assert killed.keys() == whole.keys()
    for key in whole:
        assert torch.equal(killed[key], whole[key]), key
    killed, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(killed[key], whole[key]) for key in whole)


@pytest.mark.parametrize(("sign", "whole_group"), [(signal.SIGTERM, False), (signal.SIGUSR1, True)])
def test_a_clusters_warning_leaves_a_whole_checkpoint_and_no_process_behind(begin, tmp_path, sign, whole_group):
    """A cluster sends it to the process that it started, or to all of its processes, loader workers included."""
    run = begin("checkpoint_every=2000", output=tmp_path / "run")
    code, words = end(run, sign, whole_group=whole_group)
    assert code == 75
    state = last_of(tmp_path / "run")["progress"]
    assert words.splitlines()[-1] == f"train: stopped by {sign.name} at step {state['step']}; go on with --resume"
    assert "Traceback" not in words
    assert 0 < state["step"] < ENDLESS
    deadline = time.monotonic() + 60
    while group_lives(run.pid):  # a loader worker looks for its parent every few seconds
        assert time.monotonic() < deadline, "a worker stayed behind"
        time.sleep(0.2)


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_a_run_with_one_sentence(begin, tmp_path):
    run = begin("checkpoint_every=1", output=tmp_path / "run")
    code, words = end(run, signal.SIGINT, whole_group=True)  # a terminal sends it to every process of the group
    assert code == 130
    assert words.splitlines()[-1] == "train: stopped; go on with --resume"
    assert "Traceback" not in words
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["progress"]["step"] >= 1


ALONE = (
    "train: several processes were launched, but each believes that it is alone; for CPUs launch with "
    "'ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/ ...'"
)


def test_two_processes_that_do_not_know_of_each_other_are_refused_at_once(both, pictures, tmp_path):
    """Without ACCELERATE_USE_CPU two processes on CPUs would each do the whole work, into one folder."""
    line = arguments("compact", data=pictures, output=tmp_path / "run", cache=tmp_path / "cache")
    runs = both("train/", *line, ACCELERATE_USE_CPU="false")
    assert [end(run) for run in runs] == [(2, f"{ALONE}\n"), (2, "")]
    assert not (tmp_path / "run").exists()


def test_parts_of_a_batch_that_accelerate_would_count_are_refused(start, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    code, words = start("compact")
    assert code == 2
    assert words.startswith("train: the recipe says how gradients are accumulated; omit --gradient_accum")


def test_a_world_that_accelerate_cannot_form_is_refused_at_once(start, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, words = start("compact")
    assert code == 2
    assert words.startswith("train: accelerate cannot start here (")
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


# Runs train's own main(); at its end each rank writes down what it ended with, and then trains a critic for one step.
TWO_RANKS = '''
import json
import sys
from pathlib import Path

import torch

from deblur_hub.networks import build_network
from train import loop, trainer, validation
from train.__main__ import main
from train.recipe import load_recipe

folder = Path(sys.argv[1])
original, restore = loop.finish, validation.restore
restored = []


def counted(network, blurred, **options):
    restored.append(blurred.sum().item())
    return restore(network, blurred, **options)


def finish(ready, *rest):
    run, rank = ready.trainer, ready.trainer.accelerator.process_index
    torch.save(run.state(), folder / f"rank{rank}.pt")
    (folder / f"restored{rank}.json").write_text(json.dumps(restored))
    original(ready, *rest)
    torch.save(gan_state(run.accelerator, "instance"), folder / f"gan{rank}.pt")
    batch = ["loss.adversarial.loss=ragan-ls", "loss.adversarial.critic=double-scale", "loss.adversarial.layers=0",
             "loss.adversarial.options.norm=batch", "loss.adversarial.options.width=8", "schedule.ema=0.9"]
    torch.save(gan_state(run.accelerator, "batch", *batch), folder / f"batch{rank}.pt")
    parts = ["optimizer.accumulate=2", "network.dropout=0.5"]
    torch.save(gan_state(run.accelerator, "instance", *parts), folder / f"parts{rank}.pt")


def gan_state(accelerator, norm, *changes):
    """Of a critic and a generator after one step on a fixed batch, of which each rank takes its part."""
    recipe = load_recipe("deblurgan", ["loss.adversarial.critic_steps=1", "loss.adversarial.lr=1e-6", "loss.pixel=l1",
                                       "loss.perceptual.weight=0.0", "network.dropout=0.0", *changes])
    torch.manual_seed(0)
    network = build_network("deblurgan", width=8, blocks=1, norm=norm, dropout=recipe.network["dropout"])
    gan = trainer.Trainer(recipe, network, None, accelerator)
    rank, world = accelerator.process_index, accelerator.num_processes
    pictures = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gan.step([tuple(pictures[:, rank * 4 // world:(rank + 1) * 4 // world])], step=0, progress=0.0)
    return gan.state()


loop.finish, validation.restore = finish, counted
sys.exit(main(sys.argv[2:]))
'''


# Muon makes whole steps of directions that are nothing but rounding, and so does the sign in L1's gradient where
# nothing but noise is to be restored.
SMOOTH = (
    "optimizer.name=adamw", "optimizer.lr=5e-4", "optimizer.betas=[0.9,0.99]", "data.mix.pairs=0.45",
    "data.mix.frames=0.35", "data.mix.sharp=0.2", "data.blur.none=0.15", "data.blur.steady=0", "data.blur.projective=0",
    "data.blur.objects=0", "data.blur.defocus=0", "data.blur.highlights=0", "data.blur.jpeg=0",
)  # fmt: skip


def test_two_processes_agree_and_equal_one_process_of_the_same_total_batch(warm, both, pictures, tmp_path):
    """With one process the batch's gradient is one sum, with two it is two: equal up to the order of float32 sums."""
    program = tmp_path / "ranks.py"
    program.write_text(TWO_RANKS)
    results = {}
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        line = arguments("compact", *SMOOTH, data=pictures, output=folder / "run", cache=tmp_path / "cache", steps=6)
        if name == "one":
            runs = [warm.start(program, folder, *line, folder=ROOT, ACCELERATE_USE_CPU="true")]
        else:
            runs = both(program, folder, *line)
        for run in runs:
            code, words = end(run)
            assert code == 0, words
            assert "Traceback" not in words
            assert "destroy_process_group" not in words
        results[name] = folder

    for kind in ("rank", "gan", "batch", "parts"):
        one, first, second = (
            tensors_of(torch.load(path, weights_only=True))
            for path in (results["one"] / f"{kind}0.pt", results["two"] / f"{kind}0.pt", results["two"] / f"{kind}1.pt")
        )
        assert first.keys() == second.keys() == one.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), f"{kind}: the ranks differ in {key}"
            # The gradient of a bias before instance normalisation is nothing but rounding, of which Adam makes full
            # steps: of the adversarial networks the moments are compared, which are linear and square in the gradient.
            # Batch normalisation sees each process's part alone, and all of it in its mean over all pixels.
            if (
                kind == "rank"
                or (kind in ("gan", "parts") and key.endswith("exp_avg"))
                or key == "generator.stem.2.running_mean"
            ):
                difference = (first[key] - one[key]).norm() / one[key].norm().clamp(min=1e-3)
                # A ReLU's kink may fall between the two, which the GAN's coarse maps feel.
                assert difference < (1e-4 if kind == "rank" else 0.03), f"{kind}: {key} differs by {difference:.1e}"

    one, first, second = (
        json.loads(path.read_text())
        for path in (results["one"] / "restored0.json", *(results["two"] / f"restored{rank}.json" for rank in (0, 1)))
    )
    assert len(one) == 2 * HELD_OUT  # at two validations, each held-out pair once; they have unlike sums
    assert sorted(one) == sorted([*first, *second])

    for name, folder in results.items():
        card = (folder / "run" / "model" / "README.md").read_text()
        rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| scenes/held/")]
        assert rows == [f"scenes/held/{number:03}.png" for number in range(HELD_OUT)], name
    one, two = (
        [line for line in map(json.loads, (folder / "run" / "metrics.jsonl").open()) if "validation/psnr" in line]
        for folder in results.values()
    )
    assert [line["step"] for line in one] == [line["step"] for line in two] == [3, 6]
    for alone, shared in zip(one, two, strict=True):
        assert alone["validation/blurred_psnr"] == pytest.approx(shared["validation/blurred_psnr"], abs=1e-9)
        assert alone["validation/psnr"] == pytest.approx(shared["validation/psnr"], abs=0.01)


def test_a_picture_that_only_the_second_process_meets_is_still_named(both, tmp_path):
    """Of two photographs and batches of two, one that cannot be decoded is always met by one rank alone."""
    save(photograph(0), tmp_path / "data" / "sharp" / "0.png")
    second = save(photograph(1), tmp_path / "data" / "sharp" / "1.png")
    content = bytearray(second.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)  # its size can be read, so that the run begins
    second.write_bytes(content)
    few = ("data.batch_size=2", "data.epoch_length=2", "seed=0")
    places = {"data": tmp_path / "data", "output": tmp_path / "run", "cache": tmp_path / "cache"}
    (lost, _), (mistaken, words) = [end(run) for run in both("train/", *arguments("compact", *few, **places, steps=50))]
    assert mistaken == 2
    assert words.startswith(f"train: {second}: cannot be decoded (") and "replace it or take it out" in words
    assert lost == 4


def test_two_processes_stopped_and_killed_resume_to_the_weights_of_two_that_were_not(both, pictures, tmp_path):
    """Of the warning one process alone hears; one that is killed ends the other with a sentence."""

    def started_both(output, *options, every=1000, steps=ENDLESS):
        changes = (*EVEN, "data.workers=1", "validation.every=100000", f"checkpoint_every={every}")
        places = {"data": pictures, "output": output, "cache": tmp_path / "cache"}
        return both("train/", *arguments("compact", *changes, **places, steps=steps, options=options))

    runs = started_both(tmp_path / "cut")
    wait_for(lambda: started(tmp_path / "cut", checkpoint=False), *runs)
    code, words = end(runs[1], signal.SIGUSR1)
    first, first_words = end(runs[0])
    step = last_of(tmp_path / "cut")["progress"]["step"]
    assert (code, first) == (75, 75), words + first_words
    assert first_words.splitlines()[-1] == (
        f"train: stopped by a signal to another process at step {step}; go on with --resume"
    )
    assert "Traceback" not in words + first_words
    assert 0 < step < ENDLESS

    runs = started_both(tmp_path / "cut", "--resume", every=1)
    wait_for(lambda: last_of(tmp_path / "cut")["progress"]["step"] > step, *runs)
    runs[1].kill()
    before = time.monotonic()
    code, words = end(runs[0])
    assert time.monotonic() - before < 300  # and not the ten minutes of --patience
    assert code == 4
    assert "train: another process of this run has ended or does not answer (" in words
    assert words.rstrip().endswith("look for its message, then go on with --resume")
    assert "Traceback" not in words
    end(runs[1])
    killed = last_of(tmp_path / "cut")["progress"]["step"]
    assert step < killed < ENDLESS

    for output, options in (("cut", ["--resume"]), ("whole", [])):
        for run in started_both(tmp_path / output, *options, steps=killed + 5):
            code, words = end(run)
            assert code == 0, words
    assert same_state(last_of(tmp_path / "cut"), last_of(tmp_path / "whole"))


def children_of(process):
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_sigterm_to_torchrun_reaches_its_processes_which_keep_a_checkpoint(pictures, tmp_path):
    run = spawn(
        *TORCHRUN,
        "train/",
        *arguments(
            "compact",
            "checkpoint_every=5000",
            "validation.every=100000",
            data=pictures,
            output=tmp_path / "run",
            cache=tmp_path / "cache",
            steps=ENDLESS,
        ),
        ACCELERATE_USE_CPU="true",
    )
    wait_for(lambda: started(tmp_path / "run", checkpoint=False), run)
    code, words = end(run, signal.SIGTERM)
    step = last_of(tmp_path / "run")["progress"]["step"]
    assert f"train: stopped by SIGTERM at step {step}; go on with --resume" in words
    assert code != 0


def test_a_process_that_is_warned_after_its_partner_was_killed_ends_without_a_checkpoint(both, pictures, tmp_path):
    """As torchrun does it: one that is killed takes the others along by a SIGTERM."""
    places = {"data": pictures, "output": tmp_path / "run", "cache": tmp_path / "cache"}
    runs = both(
        "train/", *arguments("compact", "checkpoint_every=5000", "validation.every=100000", **places, steps=ENDLESS)
    )
    wait_for(lambda: started(tmp_path / "run", checkpoint=False), *runs)
    runs[1].kill()
    code, words = end(runs[0], signal.SIGTERM)
    assert code == 4
    assert "train: another process of this run has ended or does not answer (" in words
    assert not (tmp_path / "run" / "checkpoints").exists()
    end(runs[1])


def test_a_process_whose_partner_never_comes_gives_up_with_a_sentence(start, monkeypatch, tmp_path, port):
    """In this process, once as each of the two."""
    for key, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(key, value)
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        code, words = start("compact", options=["--patience", "1s"])
        assert code == 2
        (sentence,) = words.splitlines()
        assert sentence.startswith(
            f"train: the other processes did not come within 1 seconds (this is process {rank} of 2, counted from 0; "
            f"they meet at 127.0.0.1:{port})"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        (["--cpu", "--num_processes", "2"], "accelerate launch was asked for several processes and started one, as it"),
        (["--cpu", "--dynamo_backend", "inductor"], "the recipe says whether networks are compiled; omit --dynamo_"),
    ],
)
def test_options_of_accelerate_that_would_be_lost_are_refused(start, monkeypatch, tmp_path, launch, sentence):
    """In the environment that accelerate's launcher makes of them."""
    options = launch_command_parser().parse_args([*launch, "train/"])
    _, settings = prepare_simple_launcher_cmd_env(_validate_launch_command(options)[0])
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    code, words = start("compact")
    assert code == 2
    assert words.startswith(f"train: {sentence}")
    assert not (tmp_path / "run").exists()


SRUN = """#!/bin/bash
# Two tasks, to which a SIGUSR1 goes on, as from slurmstepd; its code is the highest of theirs.
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & pids+=($!); done
trap 'kill -USR1 "${pids[@]}"' USR1
code=0
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2> /dev/null; do wait "$pid"; ended=$?; done
    [ "$ended" -gt "$code" ] && code=$ended
done
exit "$code"
"""


def test_the_readmes_job_script_is_queued_again_after_a_warning_and_goes_on_to_the_end(pictures, tmp_path, port):
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", (ROOT / "docs/training.md").read_text(), re.S)
    wanted = "--recipe nafnet-w32 --data pictures --output $run"
    changes = (*EVEN, f"schedule.steps={ENDLESS}", "checkpoint_every=100000", "validation.every=100000")
    tiny = arguments("compact", *changes, data=pictures, output="OUTPUT", cache=tmp_path / "cache", steps=0)
    assert wanted in script and "MASTER_PORT=29500" in script and "run=runs/nafnet" in script
    script = script.replace(wanted, " ".join(tiny).replace("OUTPUT", "$run").replace("'", "\\\\'"))
    script = script.replace("=29500", f"={port}").replace("run=runs/nafnet", f"run={tmp_path}/run")
    tools = {
        "srun": SRUN,
        "scontrol": f'#!/bin/bash\n[ "$1" = show ] && echo 127.0.0.1 || echo "$@" >> {tmp_path}/queue\n',
        "python": f'#!/bin/bash\nexec {sys.executable} "$@"\n',
        "job": script,
    }
    for name, text in tools.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def queued():
        return subprocess.Popen(
            [tmp_path / "bin" / "job"],
            cwd=ROOT,
            env=environment(
                PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
                SLURM_NTASKS="2",
                SLURM_JOB_NODELIST="here",
                SLURM_JOB_ID="77",
                ACCELERATE_USE_CPU="true",
            ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    job = queued()
    wait_for(lambda: started(tmp_path / "run", checkpoint=False), job)
    (srun,) = children_of(job.pid)
    os.kill(srun, signal.SIGUSR1)
    _, words = end(job)
    step = last_of(tmp_path / "run")["progress"]["step"]
    assert 0 < step < ENDLESS and f"at step {step}; go on with --resume" in words, words
    assert (tmp_path / "queue").read_text() == "requeue 77\n"
    (tmp_path / "bin" / "job").write_text(script.replace(f"steps={ENDLESS}", f"steps={step + 3}"))
    _, words = end(queued())
    assert last_of(tmp_path / "run")["progress"]["step"] == step + 3, words
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert (tmp_path / "queue").read_text() == "requeue 77\n"
