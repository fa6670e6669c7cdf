"""A folder of Parquet files that hold the records of a run; each appears when it is complete."""
