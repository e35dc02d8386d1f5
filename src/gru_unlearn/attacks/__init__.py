"""Attacks on an unlearned model: does what was forgotten come back?

Every attack is a function of the :class:`Battery` (models, rows, settings) that returns its variants: name → attempt,
or the reason why there is none. :mod:`attack_job` makes each attempt on the unlearned model, the target and the retain
model alike, and :mod:`recovery` says how much of the distance between the last two came back.

Reading order: :mod:`attack_request`, :mod:`battery`, :mod:`look` (what an attempt sees), :mod:`relearning`,
:mod:`rounding`, :mod:`sampling`, :mod:`prompts`, :mod:`membership` (the attacks), :mod:`recovery`, :mod:`attack_job`.
"""
