"""Pictures of reports and of training runs; they need matplotlib, an extra."""
