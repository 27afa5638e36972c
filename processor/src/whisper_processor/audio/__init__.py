"""Recordings: decoding, and finding the speech in them."""
