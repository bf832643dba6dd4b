"""Files and folders that are whole or absent, know their checksums, and are named as people write paths."""
