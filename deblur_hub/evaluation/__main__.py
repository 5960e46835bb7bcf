"""`deblur-hub evaluate` for launchers that start a module, in one process or several.

    accelerate launch -m deblur_hub.evaluation compact pairs/ --output out/
    accelerate launch --multi_gpu --num_processes 8 -m deblur_hub.evaluation model/ GOPRO_Large --protocol gopro -o out/
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 -m deblur_hub.evaluation compact pairs/ -o out/

accelerate itself is not needed: the processes find each other by the environment that the launcher sets.
"""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
