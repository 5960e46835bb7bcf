"""`deblur-hub evaluate` for launchers that start a module, in one process or several.

    accelerate launch -m deblur_hub.evaluation compact pairs/ --output out/
    accelerate launch --multi_gpu --num_processes 8 -m deblur_hub.evaluation model/ GOPRO_Large --protocol gopro -o out/
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 -m deblur_hub.evaluation compact pairs/ -o out/

accelerate itself is not needed: what the launcher puts into the environment is enough.
"""

import argparse
import sys
from collections.abc import Sequence

from ..cli.evaluating import FAILED, evaluate_arguments, run_evaluate
from ..errors import DeblurHubError

INTERRUPTED = 130
PROGRAM = "python -m deblur_hub.evaluation"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Scores a model on pairs of blurred and sharp pictures.")
    evaluate_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    try:
        typed = list(sys.argv[1:] if arguments is None else arguments)
        return run_evaluate(parser.parse_args(typed, argparse.Namespace(typed=typed)), program=PROGRAM)
    except DeblurHubError as mistake:
        print(f"deblur-hub: {mistake}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("deblur-hub: stopped", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
