"""Which way to bone on MR: a segmenter of MR, one of CT on synthetic CT, or a threshold of synthetic CT?"""
