"""A run folder, read: one HTML page.

page     a run as one HTML file
record   a run folder, read
charts   curves as SVG
samples  the report's samples, before and after
"""
