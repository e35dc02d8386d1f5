"""What makes forgetting last: steps that relearning does not undo so easily.

Independent of what is pushed (objectives) and of what is projected (geometry): a rectification decides what may move,
robustness what should. Reading order: :mod:`robust`, :mod:`spectral`, :mod:`drift`, :mod:`around_steps`.
"""

from gru_unlearn.robustness.around_steps import Robustness
from gru_unlearn.robustness.robust import NAMES, RECOMMENDED, Robust, parse_robust

__all__ = ["NAMES", "RECOMMENDED", "Robust", "Robustness", "parse_robust"]
