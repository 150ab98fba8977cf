"""Text towers, one file each, found by module name. Floor 3."""
