"""What a run keeps on the disk: the model folder, the adapter, golden examples, scores and their checksums."""
