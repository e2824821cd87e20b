"""Delivery: the files and the edit that put a verified kernel into the user's project."""
