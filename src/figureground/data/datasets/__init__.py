"""One file per dataset: reads or draws pictures, knows nothing of who uses them."""
