"""What finished runs show: records, statistics, tables, figures, the forms of things, the page."""
