"""ILSGAN: layered pictures whose layers tell nothing of each other."""
