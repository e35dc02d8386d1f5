"""gru evaluate."""


def evaluate() -> None:
    """Measure a model."""
