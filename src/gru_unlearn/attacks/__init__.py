"""Attacks on an unlearned model: does what was forgotten come back?

Every attack is a function of the :class:`Battery` (models, rows, settings) that returns its variants: name → trial, or
the reason why there is none. :mod:`trials` makes each trial on the unlearned model, the target and the retain model
alike, and :mod:`recovery` says how much of the distance between the last two came back.

Reading order: :mod:`attack_request`, :mod:`extent`, :mod:`battery`, :mod:`probing`; the attacks (:mod:`relearning` with
:mod:`relearnt_copies`, :mod:`rounding`, :mod:`prompts`, :mod:`inside`, :mod:`membership`); :mod:`trials`,
:mod:`recovery`, :mod:`headline`, :mod:`attack_job`.
"""
