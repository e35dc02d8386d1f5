"""How numbers are told to people."""


def shown(value: float) -> str:
    """Three digits after the point; tiny ones as powers of ten, so that they are no zeros."""
    if 0 < abs(value) < 5e-4:
        return f"{value:.0e}"
    return f"{value:.3f}"
