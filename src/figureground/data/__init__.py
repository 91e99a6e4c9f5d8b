"""Pictures from files or made in memory, as batches."""
