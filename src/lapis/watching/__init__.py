"""Sound as it comes: streams and folders that are followed, and what is heard in them."""
