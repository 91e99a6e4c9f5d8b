"""Segmentation networks trained on pairs of pictures and masks (ILSGAN, gan-segmenter, L2IC)."""
