"""Judging a model by a suite (``gru evaluate``), and evaluations side by side."""
