"""How good, how accurate, how private and how useful generated scans are, and the gate that decides."""
