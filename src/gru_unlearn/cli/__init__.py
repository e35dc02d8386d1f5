"""The command line, ``gru``: one file a command, nothing but arguments and calls. Heavy imports wait in the calls."""
