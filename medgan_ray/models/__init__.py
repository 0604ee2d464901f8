"""Networks, objectives, augmentation and averages, in plain torch."""
