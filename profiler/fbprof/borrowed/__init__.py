"""Tables that come from elsewhere: imported, or fitted to measured networks."""
