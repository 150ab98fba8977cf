"""From files to batches: samples, shards, sources, mixture, captions, batching, loader. Floor 2."""
