"""L2IC and its ancestors: pictures composed of codes, and real ones sorted by them."""
