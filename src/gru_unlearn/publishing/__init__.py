"""What leaves the house: reports, model cards and exported models."""
