"""Starts the transcription instance when there is work and stops it when there is none."""
