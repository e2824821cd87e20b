"""Proposers: where ideas and branches come from."""
