"""What jobs produce and leave on disk: summaries as types, the table of row sets, and
the folder that belongs to one run."""
