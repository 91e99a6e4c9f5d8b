"""Losses used by two or more methods."""
