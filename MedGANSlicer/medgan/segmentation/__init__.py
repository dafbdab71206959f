"""Segmentation step by step: what a bundle says, the working grid, the network, pieces, groups and measures."""
