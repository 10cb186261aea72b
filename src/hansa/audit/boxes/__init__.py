"""Black boxes under audit, a file each."""
