"""Does translation help? The same segmenter trained with and without it, tested on subjects that nothing has seen."""
