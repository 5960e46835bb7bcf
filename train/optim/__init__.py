"""Optimizers, the update of a network, and schedules."""
