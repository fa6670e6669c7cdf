"""`bike spot`: find when labels are seen in videos."""
