"""Image-to-image learners: unpaired CycleGAN and paired pix2pix."""
