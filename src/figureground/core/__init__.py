"""The vocabulary every other part speaks; imports nothing else of the package."""
