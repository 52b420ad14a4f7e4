"""Organs and lesions in studies: a segmenter, its data, its training, its model folder and its use."""
