"""The docs site: docs/*.md, and a reference made of the code, as one folder of HTML that needs no network.

pages     the pages of docs/ and what they link to, where the generator finds them
commands  the reference of the commands
fields    the reference of config, recipe and sweep file
pictures  the picture of the degradations
building  the pages through Zensical
"""
