"""What a transcription becomes: files for people and players, and one score."""
