"""Images in, batches out: images -> pack -> shards -> order -> stream -> Pair(lr, hr)."""
