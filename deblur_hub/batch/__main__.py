"""`deblur-hub deblur` for launchers that start a module: the processes share the photos.

    accelerate launch -m deblur_hub.batch holiday/ -o restored/
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
        -m deblur_hub.batch holiday/ -o restored/ --resume
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 -m deblur_hub.batch holiday/ -o restored/

accelerate itself is not needed: the processes find each other by the environment that the launcher sets. The output
folder must be one that all of them see.
"""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["deblur", *sys.argv[1:]]))
