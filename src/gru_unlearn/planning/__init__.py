"""How much memory a run needs, before anything is rented (``gru plan``)."""
