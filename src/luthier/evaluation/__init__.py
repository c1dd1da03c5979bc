"""What figures of models mean: metrics of rows, their intervals, comparisons, and the report.  No torch."""
