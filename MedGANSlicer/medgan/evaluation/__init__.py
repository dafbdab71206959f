"""Figures of results: what is measured, how certain it is, and whether two methods differ."""
