"""A run folder, several or a sweep's, read: one HTML page.

page         a run as one HTML file
document     what every page is made of
record       a run folder, read
charts       curves as SVG
samples      the report's samples, before and after
sidebyside   several runs as one HTML file
sweeppage    a sweep as one HTML file
sweeprecord  a sweep's sweep.json
sweepcharts  a sweep's trials as SVG
"""
