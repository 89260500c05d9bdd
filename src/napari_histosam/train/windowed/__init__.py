"""Trains models that find things by themselves, window by window."""
