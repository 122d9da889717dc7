"""The web application of `cnapse review`.

============ ======================================================================
module       holds
============ ======================================================================
serve        the process that listens, and Neuroglancer beside it
app          the application: what answers where
security     who may ask, and what no answer lacks
bodies       bodies of requests, strictly as described
schemas      what is asked and answered
desk         the run that is reviewed, and all that is known of it
partner_rows its partners and names
progress     counts of what was done
sections     sections as pictures and as labels
blocks       chunks of layers, read once and kept
============ ======================================================================
"""
