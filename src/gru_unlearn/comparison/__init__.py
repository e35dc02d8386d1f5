"""Methods side by side at matched forgetting: the matrix, its runs, their statistics; and the demonstration."""
