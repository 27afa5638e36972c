"""Recordings: decoding, and voice activity detection."""
