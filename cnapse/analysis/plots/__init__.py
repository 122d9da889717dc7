"""Figures of tables and connectomes, as vector graphics or pixels, all in one style."""
