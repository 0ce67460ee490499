"""Pairs of a toxic text and a neutral rewrite of it: sources, cleaning, difficulty, split."""
