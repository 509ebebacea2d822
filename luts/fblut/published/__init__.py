"""Published tables, one .csv file each; their provenance is in their headers (`source`, `license`)."""
