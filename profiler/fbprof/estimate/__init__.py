"""From samples to table rows: drift, calibration, intervals, verdict."""
