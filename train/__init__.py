"""Training of deblur-hub's generators; `accelerate launch train/` runs `__main__`, whose docstring is the manual.

__main__.py     the command line       recipe.py, recipes/  what defines a run; add a recipe as a TOML file
loop.py         a run, start to end    preparation.py       what it needs, built and checked
trainer.py      one step               run.py               where it reads and writes, when it ends
checkpoint.py   its state on disk      validation.py        scores and samples of held-out pairs
distributed.py  processes and signals  console.py           what it prints and logs
publish.py      models to the hub      data/ losses/ optim/ study/  the parts; each says what is where

Parts take the section of the recipe that they use; loop, preparation and trainer take the whole.
"""
