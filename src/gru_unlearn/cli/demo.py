"""gru demo."""


def demo() -> None:
    """Demo."""
