"""Evaluation and connectomes."""
