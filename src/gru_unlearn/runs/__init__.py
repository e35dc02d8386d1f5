"""One unlearning run: its recipe, the run itself, what is kept of it; and TRU, the run without retain data."""
