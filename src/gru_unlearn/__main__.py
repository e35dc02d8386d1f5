"""``python -m gru_unlearn``: the ``gru`` command, for launchers that start modules."""

from gru_unlearn.cli.main import main

main()
