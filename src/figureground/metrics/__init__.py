"""Metrics as torchmetrics classes; a published protocol is a set of constructor arguments."""
