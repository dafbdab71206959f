"""Recipes from which the shipped models can be trained again."""
