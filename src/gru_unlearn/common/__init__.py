"""Utensils that every floor may use: files that are whole or absent, hashes, even selections, many processes, a model's
modes. One idea a file; only :mod:`modules` imports torch."""
