"""`bike eval --protocol detection`: evaluate detected segments."""
