"""The properties, one file per idea; importing this package registers them."""
