"""What happens around training; callbacks know `core` and never a particular method."""
