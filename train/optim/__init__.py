"""Optimization: updates of the networks.

step.py      `OptimizerStep`: one network's clipped and checked update; add an optimizer in `make_optimizer`
muon.py      the Muon optimizer
schedule.py  the learning rate over a run (add a shape in `decay`), and the moving average of the weights
dropout.py   dropout that is the same on one process or several
"""
