"""The chapters' experiments: plain Python beside the pages that run it."""
