"""From bytes to values and back: reading, decoding in disposable processes, writing, phantoms."""
