"""What the HTML pages of all commands share: one file each, which loads nothing and trusts no text."""
