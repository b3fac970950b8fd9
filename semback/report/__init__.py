"""What finished runs say: records, statistics, tables, figures, how things show themselves, the page."""
