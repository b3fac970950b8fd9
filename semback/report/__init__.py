"""What finished runs show: records, statistics, tables, figures, how objects look, the page."""
