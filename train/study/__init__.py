"""Studies of runs and recipes, beside the training itself.

ablation.py        `make ablation`: trains the rows of ablation.toml and writes the tables of train/README.md
benchmark.py       `--benchmark`: steps a second in several precisions; and the rate of a whole run
blur_kinds.py      where `metrics.blur_kind` has its weights from, and how often it is right
curves.py          curves of one run or several; `tensorboard --logdir runs` shows them while it trains
estimate.py        `--dry-run`: what a run would cost
portable_state.py  `--keep-state` and `--resume-from`: a checkpoint in small files of half precision
"""
