"""The set on disk: packed, indexed, verified, read.

recipe       names to splits and keys
pack         images to shards
manifest     manifest.json
permutation  the arithmetic of order
reader       one sample, checked
remote       shards behind a URL, cached whole
indexing     an index for any tar
tarwalk      tar members and their damage
verify       every byte of a set
"""
