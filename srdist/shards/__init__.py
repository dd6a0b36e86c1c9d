"""The set on disk: packed, indexed, verified, read.

recipe       recipe.yaml
plan         names to splits and keys
checking     which images can be packed
pairing      HR and LR from two folders
tiles        photos cut into tiles
spool        tiles wait on disk
pack         images to shards
packreport   what came of it
upload       a set packed into a store
newset       a new set in the place of the old one
records      what the index says of a sample
setfiles     index and list of what was left out, written
threads      work in threads, in order, with progress
manifest     manifest.json
permutation  the arithmetic of order
reader       one sample, checked
remote       a set's place: a folder, or a URL
cache        files of a remote set, kept whole within a bound
download     one file by ranges, through faults
scanning     the samples of one tar
indexing     an index for any tar
tarwalk      tar members and their damage
verify       every byte of a set
"""
