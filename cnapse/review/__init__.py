"""Manual correction: what reviewers decided, kept in a log that only grows, and what follows.

``decisions`` tells what can be decided and what of it stands, ``log`` keeps it, ``items`` lists
what there is to review, ``assignment`` hands it out, ``exchange`` brings decisions in and out, and
``evaluation`` tells how good a run is from them.
"""
