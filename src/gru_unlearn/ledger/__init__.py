"""Deletion requests one after the other, with a ledger that an auditor can check."""
