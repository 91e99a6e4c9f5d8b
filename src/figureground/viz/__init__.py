"""Pictures for people: tensors and masks in, uint8 arrays out; no files here."""
