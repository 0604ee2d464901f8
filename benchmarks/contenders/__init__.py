"""What benchmarks/ingest.py times: each file runs by itself, in the environment of what it measures."""
