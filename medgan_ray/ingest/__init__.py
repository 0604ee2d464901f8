"""From scans to a dataset: sources, values, geometry, cleaning, splits, de-identification."""
