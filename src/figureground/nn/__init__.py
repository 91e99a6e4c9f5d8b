"""Building blocks without a paper's name on them."""
