"""Whole jobs, each one function: unlearn, evaluate, demo. The command line and scripts call these.

Reading order: :mod:`recipe` (settings), :mod:`models` (loading), :mod:`rundir` (one folder a run), then the jobs.
"""
