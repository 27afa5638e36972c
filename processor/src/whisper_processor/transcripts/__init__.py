"""Output files for people and players, and the confidence score."""
