"""One script a table: `python -m benchmarks.NAME [--quick] [--json FILE]`; `traces` compares two commits instead."""
